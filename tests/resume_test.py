"""A run that is killed and started again is the run that was not."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from coatnet_jax.checkpoints import saving
from tests.train_test import checkpoint_arrays

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 40
OPTIONS = (
  '--config=tests/processes_config.py',
  f'--config.training.num_steps={STEPS}',
  # The second epoch begins within the run.
  '--config.training.global_batch_size=32',
  '--config.evaluation.every_epochs=0',
  '--config.checkpoint.every_steps=5',
)


def _start(workdir, *options):
  return subprocess.Popen(
    [sys.executable, 'main.py', *OPTIONS, f'--workdir={workdir}', *options],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env={**os.environ, 'PYTHONUNBUFFERED': '1'},
  )


def _finish(process, returncode=0):
  output, _ = process.communicate(timeout=300)
  assert process.returncode == returncode, output
  return output


def _wait_for_step(process, workdir, step):
  directory = saving.checkpoint_directory(workdir)
  deadline = time.monotonic() + 300
  while not any(
    path.name.isdigit() and int(path.name) >= step
    for path in (directory.iterdir() if directory.exists() else ())
  ):
    assert process.poll() is None, process.stdout.read()
    assert time.monotonic() < deadline
    time.sleep(0.01)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """The arrays at the end of a run that nothing interrupts."""
  workdir = tmp_path_factory.mktemp('whole')
  _finish(_start(workdir))
  return checkpoint_arrays(workdir, STEPS)


def test_kill_9_changes_nothing(tmp_path, whole):
  process = _start(tmp_path)
  _wait_for_step(process, tmp_path, 10)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert not (tmp_path / 'summary.json').exists()
  # With another number of worker processes, too.
  output = _finish(_start(tmp_path, '--config.data.num_workers=2'))
  assert 'Resuming from the checkpoint of step' in output
  assert checkpoint_arrays(tmp_path, STEPS) == whole


@pytest.mark.slow
def test_a_stop_in_order_changes_nothing(tmp_path, whole):
  process = _start(tmp_path)
  _wait_for_step(process, tmp_path, 10)
  process.send_signal(signal.SIGTERM)
  output = _finish(process, returncode=75)
  assert 'which is saved; the same command resumes from there.' in output
  _finish(_start(tmp_path))
  assert checkpoint_arrays(tmp_path, STEPS) == whole
