"""Programs whose system calls fail."""

import errno
import subprocess
import sys
import time

import pytest

from benchmarks.chaos.system_calls import FailingProgram, explain_why_not

# Writes and reads, and says what failed, until it is told to end.
_PROGRAM = """
import os, pathlib, sys, time
inside, outside = map(pathlib.Path, sys.argv[1:])
def attempt(name, action):
  try:
    action()
  except OSError as error:
    print(name, error.errno, flush=True)
while not (outside / 'end').exists():
  attempt('inside', lambda: (inside / 'file').write_text('a'))
  attempt('directory', lambda: (inside / 'made').mkdir(exist_ok=True))
  attempt('outside', lambda: (outside / 'file').write_text('a'))
  attempt('read', lambda: (inside / 'there').read_text())
  print('round', flush=True)
  time.sleep(0.01)
"""


@pytest.fixture(name='program')
def fixture_program(tmp_path):
  if reason := explain_why_not():
    pytest.skip(reason)
  inside = tmp_path / 'inside'
  inside.mkdir()
  (inside / 'there').write_text('a')
  output = tmp_path / 'output'
  started = FailingProgram(
    [sys.executable, '-c', _PROGRAM, str(inside), str(tmp_path)],
    below=inside,
    output=output,
  )
  yield started, output
  (tmp_path / 'end').touch()
  try:
    assert started.process.wait(30) == 0
  except subprocess.TimeoutExpired:
    started.process.kill()
    raise


def _collect(output, rounds):
  """Returns the lines of some whole rounds from now on."""
  start = len(output.read_text())
  deadline = time.monotonic() + 30
  while (text := output.read_text()[start:]).count('round\n') < rounds + 1:
    assert time.monotonic() < deadline
    time.sleep(0.01)
  # The first may have begun before.
  return text.split('round\n', 1)[1].splitlines()


def test_nothing_fails_before_it_is_told_to(program):
  _, output = program
  assert set(_collect(output, 3)) == {'round'}


def test_a_full_disk_is_full_below_its_directory_alone(program):
  started, output = program
  started.fail(write=errno.ENOSPC)
  lines = _collect(output, 3)
  assert {f'inside {errno.ENOSPC}', f'directory {errno.ENOSPC}'} < set(lines)
  assert not any(line.startswith(('outside', 'read')) for line in lines)
  assert started.failures
  started.fail()
  assert set(_collect(output, 3)) == {'round'}


def test_a_read_fails_as_often_as_it_is_told_to(program):
  started, output = program
  start = len(output.read_text())
  started.fail(times=2, read=errno.EIO)
  _collect(output, 4)
  assert output.read_text()[start:].count(f'read {errno.EIO}') == 2
  assert len(started.failures) == 2
