"""Batches of threads and worker processes, whatever becomes of these.

    batches = SteadyBatches(create)
    batch = next(batches)

where `create(k)` returns an iterator of all batches from the k-th on. A worker
that dies, or that somebody has stopped, costs the iterator: the next one goes
on where it was, so that the batches are what they would have been.

Workers don't hear the signals that ask a run to stop, which are sent to all of
its process group, and end with the process that started them.
"""

import contextlib
import multiprocessing
import os
import pathlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from typing import Any

from absl import logging

from coatnet_jax import stopping
from coatnet_jax.errors import UserError

# How often it is looked whether to go on waiting.
_POLL_SECONDS = 0.1
# How long a worker may be stopped: Ctrl-Z and `fg` stop all processes of a run,
# and let them go on one after the other.
STOPPED_SECONDS = 4.0
# How long after a worker's death its iterator may say nothing of it.
_SILENT_SECONDS = 10.0
# How often workers may die without a batch in between.
MAX_DEATHS = 3
# How long workers are waited for at the end, and when they were killed.
_CLOSE_SECONDS = 5.0
_GIVE_UP_SECONDS = 1.0
# Names and words of grain's.
_WORKER_NAME = 'grain-process-prefetch'
_DEATH = 'Worker process was terminated unexpectedly'


class WorkerError(UserError):
  """Worker processes that make batches die again and again."""


class SteadyBatches(Iterator[Any]):
  """An iterator of batches that outlives what makes them.

  Where it waits, and the process was asked to stop, it raises
  `stopping.StoppedError`; no batch is lost by that.
  """

  def __init__(self, create: Callable[[int], Iterator[Any]]):
    """Begins to read.

    Args:
      create: function of a number k that returns an iterator, with `close()`,
        of the batches from the k-th on.
    """
    self._create = create
    self._position = 0
    self._num_deaths = 0
    self._end: Exception | None = None
    self._watch = _Watch()  # Before there are workers to be watched.
    self._reader = _Reader(create, 0)

  def __next__(self) -> Any:
    """Waits for the next batch.

    Raises:
      WorkerError: workers die again and again.
      stopping.StoppedError: the process was asked to stop meanwhile.
    """
    self._watch.begin()
    while self._end is None:
      try:
        batch, error = self._reader.take(_POLL_SECONDS)
      except queue.Empty:
        stopping.check()
        if reason := self._watch.find_death():
          self._replace(reason)
        continue
      if error is None:
        self._position += 1
        self._num_deaths = 0
        return batch
      if isinstance(error, RuntimeError) and _DEATH in str(error):
        self._replace(str(error).partition('. ')[0])
      else:
        self._end = error
    raise self._end

  def close(self) -> None:
    """Ends threads and worker processes."""
    self._reader.close()
    self._reader.join(_CLOSE_SECONDS)
    if self._reader.is_alive():
      self._give_up_reader()

  def _replace(self, reason: str) -> None:
    """Has the next batch made by new workers."""
    self._num_deaths += 1
    if self._num_deaths > MAX_DEATHS:
      self._end = WorkerError(
        f'The worker processes that read the images died {self._num_deaths}'
        f' times in a row at the same batch ({reason}). Is there enough memory?'
        ' Fewer of them (config.data.num_workers) take less.'
      )
      return
    logging.warning(
      'Workers are replaced, at batch %d: %s', self._position, reason
    )
    self._reader.close()
    self._give_up_reader()
    self._watch = _Watch()
    self._reader = _Reader(self._create, self._position)

  def _give_up_reader(self) -> None:
    """Ends the reader's workers, and leaves a thread that waits for ever."""
    self._watch.kill_workers()
    self._reader.join(_GIVE_UP_SECONDS)
    if self._reader.is_alive():
      stopping.leave_threads()


class _Reader(threading.Thread):
  """Waits for batches, as a thread that may be left behind waiting for ever."""

  def __init__(self, create: Callable[[int], Iterator[Any]], position: int):
    super().__init__(name='batches', daemon=True)
    self._create = create
    self._position = position
    self._made: queue.SimpleQueue[tuple[Any, Exception | None]] = (
      queue.SimpleQueue()
    )
    # One batch waits here for the loop, beside those that are read ahead.
    self._is_wanted = threading.Semaphore(1)
    self._is_closed = False
    self.start()

  def take(self, seconds: float) -> tuple[Any, Exception | None]:
    """Returns the next batch, or the error that ended them.

    Raises:
      queue.Empty: there is none within these seconds.
    """
    taken = self._made.get(timeout=seconds)
    self._is_wanted.release()
    return taken

  def close(self) -> None:
    """Asks the thread to end."""
    self._is_closed = True
    self._is_wanted.release()

  def run(self) -> None:
    """Makes one batch after the other, each when the last one was taken."""
    _block_signals()
    try:
      iterator = self._create(self._position)
    except Exception as error:
      self._made.put((None, error))
      return
    try:
      while True:
        self._is_wanted.acquire()
        if self._is_closed:
          return
        self._made.put((next(iterator), None))
    except Exception as error:  # StopIteration, too.
      self._made.put((None, error))
    finally:
      with contextlib.suppress(Exception):
        iterator.close()


class _Watch:
  """Looks after the worker processes of a reader while a batch is waited for.

  They are those that are there now, and were not when the watch began.
  """

  def __init__(self):
    self._others = _find_children()
    self._died: tuple[float, str] | None = None
    self.begin()

  def begin(self) -> None:
    """Begins to wait: what was seen before says nothing of now."""
    # By number and state, since when a process is in it.
    self._since: dict[tuple[int, str], float] = {}
    self._alive: dict[int, Any] = {}

  def kill_workers(self) -> None:
    """Ends them, whatever they do."""
    for pid in self._find_own(_list_workers()):
      _kill(pid)

  def find_death(self) -> str:
    """Returns which worker died, where its iterator has not said so; or ''.

    Ends those that somebody has stopped, which says so in a moment.
    """
    now = time.monotonic()
    alive = {worker.pid: worker for worker in _list_workers()}
    for pid, worker in self._alive.items():
      if pid not in alive and worker.exitcode and self._died is None:
        self._died = now, f'worker {pid} ended with status {worker.exitcode}'
    own = self._find_own(alive.values())
    self._alive = {pid: alive[pid] for pid in own & alive.keys()}
    states = {pid: _read_state(pid) for pid in own}
    self._since = {
      key: self._since.get(key, now) for key in states.items() if key[1] in 'TZ'
    }
    for (pid, state), since in self._since.items():
      if state == 'T' and now - since > STOPPED_SECONDS:
        logging.warning('Worker %d was stopped, and is ended.', pid)
        _kill(pid)
      # multiprocessing knows a process when all that it is to do is written to
      # it; if it dies before, the thread that writes waits for ever.
      is_starting = state == 'Z' and pid not in alive
      if is_starting and now - since > _SILENT_SECONDS:
        return f'process {pid} ended while it was started'
    if self._died and now - self._died[0] > _SILENT_SECONDS:
      return self._died[1]
    return ''

  def _find_own(self, alive: Iterable[Any]) -> set[int]:
    """Returns the numbers of the reader's workers, also of ended ones."""
    known = {worker.pid for worker in alive}
    return (known | _find_children()) - self._others


def end_with_parent(*_: int) -> None:
  """Has a worker end when its parent does, however that ends; for grain."""
  parent = multiprocessing.parent_process()

  def wait():
    parent.join()
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


def _kill(pid: int) -> None:
  with contextlib.suppress(ProcessLookupError):
    os.kill(pid, signal.SIGKILL)


def _list_workers() -> list[Any]:
  """Returns the worker processes of all iterators."""
  return [
    process
    for process in multiprocessing.active_children()
    if process.name.startswith(_WORKER_NAME)
  ]


def _find_children() -> set[int]:
  """Returns the processes that make data, or have ended, on Linux.

  Those that are being started are among them, which multiprocessing does not
  know yet.
  """
  found = set()
  for children in pathlib.Path('/proc/self/task').glob('*/children'):
    with contextlib.suppress(OSError):  # The thread has ended, or a process.
      for pid in map(int, children.read_text().split()):
        # An ended one has no command line any more.
        words = pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()
        if not words or b'spawn_main' in words:
          found.add(pid)
  return found


def _read_state(pid: int) -> str:
  """Returns 'T' for a stopped process, 'Z' for an ended one, or another letter.

  Args:
    pid: number of the process; one that is not there is '?', as are all where
      nobody can tell.
  """
  try:
    text = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except OSError:
    return '?'
  return text.rpartition(')')[2].split()[0]


def _block_signals() -> None:
  """Keeps the signals from this thread, and from processes that it starts.

  Those that they start, too. Python's tracker of shared memory unblocks them
  where it is started, so it is started before.
  """
  resource_tracker.ensure_running()
  signal.pthread_sigmask(signal.SIG_BLOCK, stopping.SIGNALS)
