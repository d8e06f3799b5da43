"""tools.checkpoints: what it lists, and what it puts right."""

import json
import shutil
from unittest import mock

import pytest
from etils import epath
from ml_collections import ConfigDict

from coatnet_jax.checkpoints.trained_model import open_saved_model
from coatnet_jax.errors import UserError
from coatnet_jax.training import lease, workdir
from tests.checkpoints.saved_run import CONFIG, save_run
from tools import checkpoints


@pytest.fixture
def copy(tmp_path):
  """Returns a run of two checkpoints, steps 6 and 12, to be damaged."""
  path = epath.Path(save_run(tmp_path / 'run', (6, 12)))
  workdir.replace_config(path, ConfigDict(CONFIG))
  return tmp_path / 'run'


def _run(copy, *arguments, capsys):
  capsys.readouterr()
  status = checkpoints.main([f'--workdir={copy}', *arguments])
  return status, capsys.readouterr().out


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


def _damage_arrays(copy):
  _flip(next((copy / 'checkpoints/12/state/ocdbt.process_0/d').iterdir()))


def test_whole_checkpoints_are_listed(copy, capsys):
  status, out = _run(copy, capsys=capsys)
  assert status == 0
  first, second = out.splitlines()
  assert first.startswith('step         6 ')
  assert second.startswith('step        12 ')
  assert first.count('top-1') == 1
  assert first.endswith('%  whole')


def test_damage_is_named_and_put_aside_and_comes_back_when_whole(copy, capsys):
  _damage_arrays(copy)
  status, out = _run(copy, capsys=capsys)
  assert status == 1
  assert 'DAMAGED: state/ocdbt.process_0/d/' in out.splitlines()[1]
  assert (copy / 'checkpoints' / '12').is_dir()  # Listing changes nothing.
  status, out = _run(copy, '--repair', capsys=capsys)
  assert status == 0
  aside = copy / 'damaged_checkpoints' / '12'
  assert out.splitlines()[1].endswith(f'put aside in {aside}')
  # The disk was at fault, and is mended.
  copied = aside / 'state' / 'ocdbt.process_0' / 'd'
  _flip(next(copied.iterdir()))
  status, out = _run(copy, '--repair', '--json', capsys=capsys)
  assert status == 0
  assert [(one['step'], one['damage']) for one in json.loads(out)] == [
    (6, {}),
    (12, {}),
  ]
  assert not aside.exists()


def test_where_nothing_is_left_it_says_so(copy, capsys):
  for step in (6, 12):
    _flip(copy / 'checkpoints' / str(step) / 'state' / '_METADATA')
  assert checkpoints.main([f'--workdir={copy}', '--repair']) == 1
  said = capsys.readouterr().err.splitlines()[-1]
  assert said.startswith(f'No checkpoint of {copy} is whole: restore one')
  with pytest.raises(UserError, match=r'put aside in .*damaged_checkpoints: '):
    open_saved_model(copy)


@pytest.mark.parametrize('content', [None, '{"mod', '{}', '[]'])
def test_the_config_is_brought_back(copy, content, capsys):
  path = copy / 'config.json'
  before = path.read_text()
  path.unlink()
  if content is not None:
    path.write_text(content)
  assert _run(copy, capsys=capsys)[0] == 1
  # The newest has a damaged copy of it.
  _flip(copy / 'checkpoints' / '12' / 'metadata' / 'metadata')
  assert checkpoints.main([f'--workdir={copy}', '--repair']) == 1
  said = capsys.readouterr().err
  assert f'it is written anew from {copy}/checkpoints/6.' in said
  assert path.read_text() == before
  kept = copy / 'damaged_config.json'
  assert (kept.read_text() if kept.exists() else None) == content
  assert 'config.json' not in _run(copy, capsys=capsys)[1]


def test_a_config_that_cannot_be_read_is_not_replaced(copy, monkeypatch):
  before = (copy / 'config.json').read_bytes()
  monkeypatch.setattr(
    workdir, 'read_mapping', mock.Mock(side_effect=OSError(5))
  )
  with pytest.raises(UserError, match=r'config\.json cannot be read: '):
    checkpoints.main([f'--workdir={copy}', '--repair'])
  assert (copy / 'config.json').read_bytes() == before


def test_a_config_that_cannot_be_written_is_said(copy, monkeypatch):
  (copy / 'config.json').unlink()
  monkeypatch.setattr(
    workdir, 'write_whole', mock.Mock(side_effect=OSError(28))
  )
  with pytest.raises(UserError, match=r'The workdir .* cannot be written: '):
    checkpoints.main([f'--workdir={copy}', '--repair'])


def test_a_config_that_nothing_has_is_said(copy):
  (copy / 'config.json').unlink()
  for step in (6, 12):
    _flip(copy / 'checkpoints' / str(step) / 'metadata' / 'metadata')
  with pytest.raises(UserError, match=r'config\.json is missing, and no check'):
    checkpoints.main([f'--workdir={copy}', '--repair'])


def test_helpers_are_mended(copy, capsys):
  metrics = copy / 'checkpoints' / '12' / 'metrics'
  shutil.copytree(metrics, copy / 'damaged_checkpoints' / '12_metrics')
  shutil.rmtree(metrics)
  _flip(copy / 'checkpoints' / '6' / '_CHECKPOINT_METADATA')
  assert _run(copy, capsys=capsys)[0] == 1
  status, out = _run(copy, '--repair', capsys=capsys)
  assert status == 0
  assert out.count('top-1') == 2


def test_what_a_run_resumes_from_is_not_moved(copy, capsys):
  _flip(copy / 'checkpoints' / '12' / 'metadata' / 'metadata')
  status, out = _run(copy, '--repair', capsys=capsys)
  assert status == 1  # No other command can use it.
  assert 'DAMAGED: metadata/metadata has another checksum' in out
  assert (copy / 'checkpoints' / '12').is_dir()


def test_a_checkpoint_under_another_number_is_put_aside_for_good(copy, capsys):
  shutil.copytree(copy / 'checkpoints' / '12', copy / 'checkpoints' / '99')
  assert (
    'DAMAGED: state is of step 12, and not of 99'
    in _run(copy, capsys=capsys)[1]
  )
  for _ in range(2):
    assert _run(copy, '--repair', capsys=capsys)[0] == 0
    assert not (copy / 'checkpoints' / '99').exists()
    assert (copy / 'damaged_checkpoints' / '99').is_dir()


def test_orbax_description_is_looked_at(copy, capsys):
  path = copy / 'checkpoints' / '12' / '_CHECKPOINT_METADATA'
  path.write_text(path.read_text().replace('metrics', 'mEtrics'))
  assert '_CHECKPOINT_METADATA is damaged' in _run(copy, capsys=capsys)[1]
  assert _run(copy, '--repair', capsys=capsys)[0] == 0


def test_a_run_that_is_at_work_is_not_repaired(copy):
  with (
    lease.hold(copy, print),
    pytest.raises(UserError, match='is in use: '),
  ):
    checkpoints.main([f'--workdir={copy}', '--repair'])


def test_no_workdir_is_a_sentence(tmp_path):
  with pytest.raises(UserError, match='no checkpoints; give the --workdir'):
    checkpoints.main([f'--workdir={tmp_path}'])
