"""Where rows go: the files of a workdir, and a run of Weights & Biases."""

import csv
import os
import subprocess
import sys
import types
from unittest import mock

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from coatnet_jax.errors import UserError
from coatnet_jax.training import csv_rows, curves, metric_writers
from coatnet_jax.training.training_log import LoggingOptions

CONFIG = {'model': {'name': 'coatnet_0'}, 'seed': 3}


def _write(workdir, writers, step=0):
  """Writes a row and a picture, as a run does; returns what was said."""
  os.makedirs(workdir, exist_ok=True)  # As the run has done.
  said = []
  writer = curves.create_writer(
    str(workdir), step, said.append, writers=writers, config=CONFIG
  )
  writer.write_scalars(step + 1, {'train/loss': 2.5})
  writer.write_images(
    step + 1, {'train/images': np.zeros((1, 4, 4, 3), np.uint8)}
  )
  writer.close()
  return said


@pytest.mark.parametrize(
  'writers', [(), ('tensorboard',), ('csv',), ('tensorboard', 'csv')]
)
def test_what_is_asked_for_is_written_and_nothing_else(tmp_path, writers):
  assert _write(tmp_path, writers) == []
  names = [path.name for path in tmp_path.iterdir()]
  assert any('tfevents' in name for name in names) == ('tensorboard' in writers)
  assert (csv_rows.TRAIN_FILE in names) == ('csv' in writers)
  assert len(names) == len(writers)


def test_the_config_is_a_text_of_the_first_step_alone(tmp_path):
  _write(tmp_path, ('tensorboard',))
  _write(tmp_path, ('tensorboard',), step=1)
  events = event_accumulator.EventAccumulator(str(tmp_path))
  events.Reload()
  (text,) = events.Tensors('config')
  (shown,) = text.tensor_proto.string_val
  assert shown.startswith(b'```json\n{')
  assert b'"coatnet_0"' in shown
  # Files of one second are in no order.
  assert {e.step for e in events.Tensors('train/loss')} == {1, 2}


def test_resumed_csv_has_no_step_twice(tmp_path):
  for step in (0, 1, 2, 1):
    _write(tmp_path, ('csv',), step)
  with (tmp_path / csv_rows.TRAIN_FILE).open() as file:
    assert [row['step'] for row in csv.DictReader(file)] == ['1', '2']


@pytest.fixture(name='wandb')
def fixture_wandb(monkeypatch):
  """Returns a stand-in for the package, which is not there."""
  wandb = types.ModuleType('wandb')
  wandb.init, wandb.Settings, wandb.Image = mock.Mock(), dict, np.asarray
  monkeypatch.setitem(sys.modules, 'wandb', wandb)
  return wandb


def test_weights_and_biases_resumes_a_workdirs_run(tmp_path, wandb):
  for step in (0, 1):
    assert _write(tmp_path / 'mine', ('wandb',), step) == []
  first, second = (call.kwargs for call in wandb.init.call_args_list)
  assert first == second
  assert first['id']
  assert first['resume'] == 'allow'
  assert (first['project'], first['name']) == ('coatnet_jax', 'mine')
  assert first['config'] == CONFIG
  run = wandb.init.return_value
  assert run.log.call_args_list[0] == mock.call({'train/loss': 2.5}, step=1)
  assert run.finish.call_count == 2
  _write(tmp_path / 'other', ('wandb',))
  assert wandb.init.call_args.kwargs['id'] != first['id']


def test_what_another_package_raises_ends_no_run(tmp_path, wandb):
  wandb.init.side_effect = ConnectionError('no network')
  (said,) = _write(tmp_path, ('csv', 'wandb'))
  assert said.startswith('The run of Weights & Biases in ')
  assert 'no network' in said
  assert (tmp_path / csv_rows.TRAIN_FILE).exists()


def test_other_processes_write_nothing(tmp_path, wandb, monkeypatch):
  monkeypatch.setattr('jax.process_index', lambda: 1)
  assert _write(tmp_path, curves.WRITERS) == []
  assert not list(tmp_path.iterdir())
  assert not wandb.init.called


def _create_options(writers):
  return LoggingOptions(
    writers=writers,
    every_steps=1,
    image_grid_size=0,
    report=False,
    profile_at_step=0,
    profile_num_steps=1,
  )


def test_a_package_that_is_not_there_is_said_at_once(monkeypatch):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  with pytest.raises(UserError, match='`pip install wandb`, or leave it out'):
    _create_options(('wandb',))
  with pytest.raises(UserError, match='one of tensorboard, csv, wandb'):
    _create_options(('tensorbord',))


@pytest.mark.slow
@pytest.mark.rotating
def test_the_package_itself_takes_what_it_is_given(tmp_path):
  """Without a network."""
  code = (
    'from tests.training import metric_writers_test as t; import sys;'
    'print([t._write(sys.argv[1], ("wandb",), step) for step in (0, 1)])'
  )
  ended = subprocess.run(
    [sys.executable, '-c', code, tmp_path / 'run'],
    env={**os.environ, 'WANDB_MODE': 'offline'},
    capture_output=True,
    text=True,
    check=True,
  )
  assert ended.stdout.splitlines()[-1] == '[[], []]', ended.stderr
  assert len(list((tmp_path / 'run/wandb').glob('offline-run-*'))) == 2
  identity = (tmp_path / 'run' / metric_writers.WANDB_FILE).read_text().strip()
  assert all(
    identity in path.name
    for path in (tmp_path / 'run/wandb').glob('offline-run-*')
  )
