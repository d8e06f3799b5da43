"""Batches whose threads and workers die, are stopped, or take their time."""

import contextlib
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from coatnet_jax import stopping
from coatnet_jax.data import workers
from coatnet_jax.data.batching import create_train_batches
from coatnet_jax.data.idx import IdxSource
from coatnet_jax.data.workers import SteadyBatches, WorkerError

_DEATH = f'{workers._DEATH} with exit code -9. Search the logs above'


class _Iterator:
  """Counts, and does what a script says at a number."""

  def __init__(self, start, script):
    self._numbers = iter(range(start, 10))
    self._script = script
    self.is_closed = False

  def __next__(self):
    number = next(self._numbers)
    self._script.get(number, lambda: None)()
    return number

  def close(self):
    self.is_closed = True


def _create(script, created=None):
  def create(position):
    iterator = _Iterator(position, script)
    if created is not None:
      created.append(iterator)
    return iterator

  return SteadyBatches(create)


def _die():
  raise RuntimeError(_DEATH)


def _die_once(done=None):
  done = [] if done is None else done

  def die():
    if not done:
      done.append(0)
      _die()

  return die


def test_a_worker_that_dies_is_replaced_and_nothing_is_lost():
  created = []
  batches = _create({3: _die_once(), 4: _die_once(), 9: _die_once()}, created)
  assert list(batches) == list(range(10))
  batches.close()
  assert len(created) == 4
  deadline = time.monotonic() + 10
  while not all(iterator.is_closed for iterator in created):
    assert time.monotonic() < deadline


def test_workers_that_die_again_and_again_are_an_error():
  batches = _create({3: _die})
  assert [next(batches) for _ in range(3)] == [0, 1, 2]
  with pytest.raises(WorkerError, match=r'4 times in a row .* exit code -9'):
    next(batches)
  with pytest.raises(WorkerError):
    next(batches)


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
@pytest.mark.parametrize('number', [signal.SIGSTOP, signal.SIGKILL])
def test_a_worker_that_does_not_come_to_its_start_is_replaced(
  monkeypatch, number
):
  monkeypatch.setattr(workers, 'STOPPED_SECONDS', 0.2)
  monkeypatch.setattr(workers, '_SILENT_SECONDS', 0.2)
  before, created, hit = workers._find_children(), [], threading.Event()

  def hit_what_is_started():
    while not hit.is_set():
      for pid in workers._find_children() - before:
        os.kill(pid, number)
        hit.set()

  def create(position):
    created.append(position)
    if len(created) == 1:
      # More than a pipe holds, so that `start` waits for the process.
      threading.Thread(target=hit_what_is_started).start()
      context = multiprocessing.get_context('spawn')
      context.Process(target=len, args=(bytes(10**7),)).start()
    return _Iterator(position, {})

  monkeypatch.setattr(stopping, '_leaves_threads', False)
  assert list(SteadyBatches(create)) == list(range(10))
  assert stopping.leaves_threads()
  assert hit.is_set()
  assert created == [0, 0]


def test_workers_of_others_are_left_alone(monkeypatch):
  children, killed = {1}, []
  monkeypatch.setattr(workers, '_find_children', lambda: set(children))
  monkeypatch.setattr(workers, '_read_state', lambda pid: 'T')
  monkeypatch.setattr(workers, '_kill', killed.append)
  monkeypatch.setattr(workers, 'STOPPED_SECONDS', -1.0)
  watch = workers._Watch()  # Of an evaluation, while training has its own.
  children.add(2)
  assert not watch.find_death()
  assert killed == [2]
  watch.kill_workers()
  assert killed == [2, 2]


def test_what_was_seen_before_a_wait_does_not_count(monkeypatch):
  monkeypatch.setattr(workers, '_read_state', lambda pid: 'T')
  monkeypatch.setattr(workers, '_kill', pytest.fail)
  monkeypatch.setattr(workers, '_POLL_SECONDS', 0.01)
  monkeypatch.setattr(workers, 'STOPPED_SECONDS', 0.5)
  batches = _create(dict.fromkeys(range(10), lambda: time.sleep(0.1)))
  monkeypatch.setattr(workers, '_find_children', lambda: {2**22 + 1})
  assert list(batches) == list(range(10))


def test_other_errors_are_what_they_were():
  def fail():
    raise RuntimeError('another')

  with contextlib.closing(_create({1: fail})) as batches:
    assert next(batches) == 0
    for _ in range(2):
      with pytest.raises(RuntimeError, match='another'):
        next(batches)


def test_one_that_is_asked_to_stop_waits_no_longer():
  with contextlib.closing(_create({1: lambda: time.sleep(1)})) as batches:
    assert next(batches) == 0
    stopping.ask()
    try:
      started = time.monotonic()
      with pytest.raises(stopping.StoppedError):
        next(batches)
      assert time.monotonic() - started < 0.9
    finally:
      stopping.forget()
    # What was waited for comes later.
    assert list(batches) == list(range(1, 10))


def test_slow_data_are_waited_for(monkeypatch):
  monkeypatch.setattr(workers, 'STOPPED_SECONDS', 0.2)
  monkeypatch.setattr(workers, '_SILENT_SECONDS', 0.2)
  with contextlib.closing(_create({1: lambda: time.sleep(1)})) as batches:
    assert list(batches) == list(range(10))


def _sleep():
  time.sleep(1000)


def _start_worker():
  worker = multiprocessing.get_context('spawn').Process(
    target=_sleep, name=f'{workers._WORKER_NAME}-test', daemon=True
  )
  worker.start()
  return worker


def test_a_stopped_worker_is_ended_and_one_that_died_in_silence_is_found(
  monkeypatch,
):
  monkeypatch.setattr(workers, 'STOPPED_SECONDS', 1.0)
  monkeypatch.setattr(workers, '_SILENT_SECONDS', 0.5)
  watch, worker = workers._Watch(), _start_worker()
  assert watch.find_death() == ''
  os.kill(worker.pid, signal.SIGSTOP)
  started, said = time.monotonic(), ''
  while not said:
    said = watch.find_death()
    assert time.monotonic() - started < 10
    time.sleep(0.05)
  assert said == f'worker {worker.pid} ended with status -9'
  assert time.monotonic() - started > 1


_PARENT = """
import multiprocessing, os, signal, sys, time
from coatnet_jax.data import workers

def work():
  workers.end_with_parent()
  print(os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True)
  time.sleep(1000)

if __name__ == '__main__':
  workers._block_signals()
  multiprocessing.get_context('spawn').Process(target=work).start()
  time.sleep(1000)
"""


def test_workers_hear_no_signals_and_end_with_their_parent(tmp_path):
  (tmp_path / 'parent.py').write_text(_PARENT)
  parent = subprocess.Popen(
    [sys.executable, tmp_path / 'parent.py'],
    stdout=subprocess.PIPE,
    text=True,
    env={**os.environ, 'PYTHONPATH': os.getcwd()},
  )
  pid, _, blocked = parent.stdout.readline().partition(' ')
  assert 'SIGINT' in blocked
  assert 'SIGTERM' in blocked
  parent.kill()
  # The pipe ends when the last that holds it does.
  assert parent.stdout.read() == ''
  parent.wait()
  deadline = time.monotonic() + 10
  while pathlib.Path(f'/proc/{pid}').exists():
    assert time.monotonic() < deadline
    time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
def test_batches_are_the_same_whatever_becomes_of_workers(
  number, write_idx, tmp_path, data_options, preprocessing, augmentation
):
  images = np.random.default_rng(0).integers(0, 256, (100, 12, 12), np.uint8)
  write_idx(tmp_path, images, np.arange(100))

  def create(num_workers):
    return create_train_batches(
      IdxSource(tmp_path, 'train'),
      data=data_options(num_workers=num_workers),
      preprocessing=preprocessing(image_size=(8, 10)),
      augmentation=augmentation(),
      global_batch_size=16,
      seed=7,
    )

  expected, batches = create(0), create(2)
  for step in range(40):
    np.testing.assert_array_equal(
      next(batches)['image'], next(expected)['image']
    )
    if step == 10:
      os.kill(workers._list_workers()[0].pid, number)
      started = time.monotonic()
  assert time.monotonic() - started < 30
  batches.close()
  expected.close()
