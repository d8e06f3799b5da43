"""A disk that is full for a while costs lines of logs, and not the run."""

import errno
import os
import sys
import time

import pytest

from benchmarks.chaos.system_calls import FailingProgram, explain_why_not
from tests.documents import ROOT


def _wait_for(program, output, text):
  deadline = time.monotonic() + 280
  while text not in output.read_text():
    assert program.process.poll() is None, output.read_text()
    assert time.monotonic() < deadline, output.read_text()
    time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.rotating
def test_logs_that_cannot_be_written_are_said_once_and_training_goes_on(
  tmp_path, monkeypatch
):
  if reason := explain_why_not():
    pytest.skip(reason)
  monkeypatch.chdir(ROOT)
  monkeypatch.setenv('PYTHONUNBUFFERED', '1')
  workdir, output = tmp_path / 'run', tmp_path / 'output'
  workdir.mkdir()
  program = FailingProgram(
    [
      *(sys.executable, 'main.py', '--config=tests/processes_config.py'),
      *(f'--workdir={workdir}', '--config.training.num_steps=30'),
    ],
    below=workdir,
    output=output,
  )
  _wait_for(program, output, 'step 3/')
  program.fail(write=errno.ENOSPC)
  _wait_for(program, output, 'step 8/')
  program.fail()
  assert program.process.wait(280) == 0, output.read_text()
  said = output.read_text()
  for name in ('train.log', 'The files for TensorBoard in'):
    (line,) = [line for line in said.splitlines() if name in line]
    assert 'cannot be written' in line
    assert '(No space left on device)' in line
    assert line.endswith('lost, and training goes on.')
  assert 'Traceback' not in said
  assert {'summary.json', 'train.log'} <= set(os.listdir(workdir))
