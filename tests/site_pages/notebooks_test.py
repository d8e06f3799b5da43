"""The notebooks run from their first cell to the last, and stay clean."""

import pathlib

import pytest

nbformat = pytest.importorskip('nbformat')
nbclient = pytest.importorskip('nbclient')

pytestmark = pytest.mark.site
ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / 'notebooks').glob('*.ipynb'))


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """Returns a directory that one notebook trains in and the other reads."""
  return tmp_path_factory.mktemp('runs') / 'notebook'


@pytest.mark.parametrize('name', ['quick_start.ipynb', 'inside_a_model.ipynb'])
def test_a_notebook_runs(name, workdir, monkeypatch):
  monkeypatch.setenv('WORKDIR', str(workdir))
  notebook = nbformat.read(ROOT / 'notebooks' / name, as_version=4)
  client = nbclient.NotebookClient(
    notebook, timeout=300, resources={'metadata': {'path': str(ROOT)}}
  )
  client.execute()
  outputs = [
    output
    for cell in notebook.cells
    if cell.cell_type == 'code'
    for output in cell.outputs
  ]
  kinds = [kind for output in outputs for kind in output.get('data', ())]
  assert 'image/png' in kinds


def test_both_are_tested():
  assert [path.name for path in NOTEBOOKS] == [
    'inside_a_model.ipynb',
    'quick_start.ipynb',
  ]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_has_no_outputs(path):
  for cell in nbformat.read(path, as_version=4).cells:
    if cell.cell_type == 'code':
      assert cell.outputs == []
      assert cell.execution_count is None
