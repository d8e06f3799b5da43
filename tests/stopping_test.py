"""A process that is asked to stop: whatever it does, and how often it is."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Does something for ever, as libraries do: Python's handlers have no turn.
_PROGRAM = """
import ctypes, os, signal, sys, threading, time
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
print('first', flush=True)
if 'late' in sys.argv: time.sleep(0.5)
from coatnet_jax import stopping, terminal
stopping.PATIENCE_SECONDS = 0.5
begun = time.monotonic()
stopping.listen()
terminal.begin('compiling')
stopping.before_end(lambda: print('cleaned up', flush=True))
if 'saves' in sys.argv:
  stopping.save_first()
  is_saving = lambda: 'writes' in sys.argv and time.monotonic() - begun < 3
  stopping.describe_checkpoints(is_saving, lambda: 'the checkpoint of step 3')
if 'done' in sys.argv: stopping.finish()
print('ready', flush=True)
if 'logs' in sys.argv:
  import logging
  class Hanging(logging.Handler):
    def emit(self, record): time.sleep(600)
  logging.getLogger().addHandler(Hanging())
  logging.getLogger().error('to a disk that is away')
if 'loop' in sys.argv:
  while not stopping.is_asked(): time.sleep(0.01)
  print('saved', flush=True)
  stopping.end(stopping.STATUS)
while True: ctypes.CDLL(None).sleep(60)  # Signals wake it.
"""


def _start(*words):
  return subprocess.Popen(
    [sys.executable, '-c', _PROGRAM, *words],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _wait_for(process, word):
  for line in process.stdout:
    if line.strip() == word:
      return
  raise AssertionError(process.stderr.read())


def _check(process, status, *messages):
  out, err = process.communicate(timeout=30)
  assert process.returncode == status, err
  for message in messages:
    assert message in out + err
  return out + err


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_before_the_first_step_it_ends_at_once(number):
  process = _start()
  _wait_for(process, 'ready')
  process.send_signal(number)
  _check(
    process,
    75,
    f'Stopped ({number.name}) before the first step, while compiling; the same'
    ' command starts it again.\n',
    'cleaned up',
  )


def test_a_signal_before_anybody_listens_is_heard():
  process = _start('late')
  _wait_for(process, 'first')
  process.send_signal(signal.SIGTERM)
  _check(process, 75, 'Stopped (SIGTERM)')


def test_the_loop_has_time_to_save():
  process = _start('saves', 'loop')
  _wait_for(process, 'ready')
  process.send_signal(signal.SIGTERM)
  process.send_signal(signal.SIGTERM)  # As to the process and to its group.
  _check(process, 75, 'saved\n', 'a second signal ends it at once')


def test_what_takes_too_long_is_ended():
  process = _start('saves')
  _wait_for(process, 'ready')
  process.send_signal(signal.SIGTERM)
  _check(
    process,
    75,
    'Asked to stop 1 s ago, it ends, while compiling; the same command resumes'
    ' from the checkpoint of step 3.',
  )


def test_a_checkpoint_that_is_being_written_is_waited_for():
  process = _start('saves', 'writes')
  _wait_for(process, 'ready')
  asked = time.monotonic()
  process.send_signal(signal.SIGTERM)
  _check(process, 75, 'resumes from the checkpoint of step 3.')
  assert time.monotonic() - asked > 1


def test_a_second_signal_ends_at_once():
  process = _start('saves', 'writes')
  _wait_for(process, 'ready')
  process.send_signal(signal.SIGINT)
  time.sleep(0.5)
  asked = time.monotonic()
  process.send_signal(signal.SIGINT)
  said = _check(process, 75, 'Asked a second time (SIGINT), so it ends at once')
  assert 'resumes from the checkpoint of step 3.' in said
  assert time.monotonic() - asked < 1.5


def test_a_log_that_hangs_keeps_nobody():
  process = _start('saves', 'logs')
  _wait_for(process, 'ready')
  time.sleep(0.5)  # The main thread holds the handler's lock.
  process.send_signal(signal.SIGTERM)
  _check(process, 75, 'Stopping (SIGTERM)', 'Asked to stop', 'cleaned up')


def test_after_the_end_the_status_is_that_of_a_finished_run():
  process = _start('saves', 'done')
  _wait_for(process, 'ready')
  process.send_signal(signal.SIGTERM)
  _check(process, 0)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_while_python_ends_the_status_is_that_of_a_finished_run(number):
  """Python has taken its own handlers away by then."""
  program = (
    'import os\n'
    'import main\n'
    'main.stopping.listen()\n'
    'main.stopping.finish()\n'
    'main.main = lambda words: 0\n'
    'class Last:\n'
    '  def __del__(self, kill=os.kill, pid=os.getpid()):\n'
    f'    kill(pid, {number.value})\n'
    'last = Last()\n'
    'main.run_program()\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', program],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, done.stderr) == (0, '')


def test_threads_that_hang_at_the_end_are_ended_by_a_signal():
  program = (
    'import threading, time\n'
    'import main\n'
    'main.stopping.listen()\n'
    'main.stopping.finish()\n'
    'main.main = lambda words: 0\n'
    'threading.Thread(target=time.sleep, args=(60,)).start()\n'
    'print("ready", flush=True)\n'
    'main.run_program()\n'
  )
  with subprocess.Popen(
    [sys.executable, '-c', program], cwd=ROOT, stdout=subprocess.PIPE, text=True
  ) as process:
    process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
