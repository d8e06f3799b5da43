"""What a run leaves at its end, and that it is finished whatever goes wrong."""

import json
import os
import sys
from unittest import mock

import jax
import pytest

import train
from coatnet_jax.reports import content, end_of_run
from coatnet_jax.run import create_run
from coatnet_jax.stopping import StoppedError
from tests.quick_configs import create_quick_config
from tests.reports.examples import Page

pytestmark = pytest.mark.usefixtures('tiny_variant')


def _config():
  return create_quick_config({'logging.report': True})


@pytest.fixture(scope='module')
def run(tiny_variant):
  return create_run(_config())


@pytest.mark.slow
@pytest.mark.rotating
def test_a_run_ends_with_a_report_and_replaces_it(tmp_path, capsys):
  train.train_and_evaluate(_config(), tmp_path)
  printed = capsys.readouterr().out
  path = tmp_path / 'report.html'
  assert printed.endswith(f'report      {path}\n')
  assert printed.index('predict') < printed.index('report  ')
  summary = json.loads((tmp_path / 'summary.json').read_text())
  found = Page(path.read_text())
  assert found.numbers['top1'][0] == summary['best']['top1']
  assert found.numbers['loss'][0] == pytest.approx(summary['best']['loss'])
  # The rows of the last step are there too.
  assert 'Accuracy' in found.texts
  # The same command again makes it again, whole.
  path.write_text(path.read_text()[:2000])
  train.train_and_evaluate(_config(), tmp_path)
  assert Page(path.read_text()).numbers == found.numbers
  assert not [name for name in os.listdir(tmp_path) if 'partial' in name]


def _write(run, workdir):
  said = []
  end_of_run.write_report(run, str(workdir), said.append)
  return said


def _finish(workdir, best=None):
  summary = {'best': best, 'final': {'step': 4}}
  (workdir / 'summary.json').write_text(json.dumps(summary))


@pytest.mark.parametrize(
  'failure', [MemoryError(), OSError(28, 'No space left'), KeyError('x')]
)
def test_a_failure_is_one_line(run, tmp_path, failure):
  _finish(tmp_path)
  with mock.patch.object(content, 'create_content', side_effect=failure):
    (line,) = _write(run, tmp_path)
  assert line.startswith('The report cannot be made: ')
  assert line.endswith(
    'The run is finished all the same; python -m tools.report'
    f' --checkpoint={tmp_path} tries again.'
  )
  assert '\n' not in line
  assert not (tmp_path / 'report.html').exists()


def test_a_report_that_was_asked_to_stop_says_so(run, tmp_path):
  _finish(tmp_path)
  with mock.patch.object(content, 'create_content', side_effect=StoppedError):
    (line,) = _write(run, tmp_path)
  assert line == (
    'report      not made, as the process was asked to stop; the run is'
    f' finished, and python -m tools.report --checkpoint={tmp_path} makes it'
  )


def test_a_file_of_somebody_else_stays(run, tmp_path):
  _finish(tmp_path)
  (tmp_path / 'report.html').write_text('mine')
  with mock.patch.object(content, 'create_content') as create:
    (line,) = _write(run, tmp_path)
  assert 'is there, and is no report of a run' in line
  assert not create.called
  assert (tmp_path / 'report.html').read_text() == 'mine'


def test_the_last_checkpoint_is_taken_where_none_is_the_best(run, tmp_path):
  for best, expected in (
    (None, tmp_path / 'checkpoints' / '4'),
    ({'step': 2}, tmp_path),
  ):
    _finish(tmp_path, best)
    with mock.patch.object(
      content, 'create_content', side_effect=OSError
    ) as create:
      _write(run, tmp_path)
    assert create.call_args.args == (str(expected),)
    # Where the run's model fits.
    assert create.call_args.kwargs['mesh'] is run.mesh


def test_of_several_processes_the_first_tells_the_command(
  run, tmp_path, monkeypatch
):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  command = f'python -m tools.report --checkpoint={tmp_path}'
  assert _write(run, tmp_path) == [f'report      {command}']
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  assert _write(run, tmp_path) == []


def test_the_command_of_a_run_is_known_where_it_is_main(monkeypatch):
  words = ['/x/main.py', '--config=c.py', '--workdir=a b', 'x\x1b']
  monkeypatch.setattr('sys.argv', words)
  expected = r"python /x/main.py --config=c.py '--workdir=a b' 'x\x1b'"
  assert end_of_run.find_command() == expected
  monkeypatch.setattr('sys.argv', ['/x/pytest'])
  assert end_of_run.find_command() == ''


def test_a_run_without_what_pages_need_ends_well(run, tmp_path, monkeypatch):
  _finish(tmp_path)
  # None is how Python marks what cannot be imported.
  monkeypatch.setitem(sys.modules, 'coatnet_jax.reports.page', None)
  monkeypatch.delattr('coatnet_jax.reports.page')
  (line,) = _write(run, tmp_path)
  assert line.startswith('The report cannot be made: ')
