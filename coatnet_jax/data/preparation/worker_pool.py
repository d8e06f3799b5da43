"""Work over processes that end with the one that started them."""

import concurrent.futures
import concurrent.futures.process
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import cv2

from coatnet_jax.data.preparation.examples import PreparationSource
from coatnet_jax.data.preparation.shards import (
  Shard,
  WrittenShard,
  write_shard,
)
from coatnet_jax.errors import UserError

_Item = TypeVar('_Item')
_Result = TypeVar('_Result')


def write_shards(
  source: PreparationSource, shards: list[Shard], num_workers: int
) -> Iterator[tuple[Shard, WrittenShard]]:
  """Writes shards, each in one process.

  Args:
    source: source that the images lie in.
    shards: shards to be written.
    num_workers: number of processes; with 1, this one.

  Yields:
    A shard and what was written, as they get done.

  Raises:
    UserError: as `write_shard` does; or a process was ended from outside.
  """
  if num_workers == 1:
    yield from ((shard, write_shard(source, shard)) for shard in shards)
    return
  waiting = iter(shards)
  with _create_pool(min(num_workers, len(shards)), source) as pool:
    running: dict[concurrent.futures.Future, Shard] = {}
    try:
      while True:
        # Two for each, so that none waits, and no more in memory.
        while len(running) < 2 * num_workers:
          shard = next(waiting, None)
          if shard is None:
            break
          running[pool.submit(_write_in_worker, shard)] = shard
        if not running:
          return
        done, _ = concurrent.futures.wait(
          running, return_when=concurrent.futures.FIRST_COMPLETED
        )
        for future in done:
          yield running.pop(future), future.result()
    finally:
      for future in running:
        future.cancel()


def map_in_processes(
  function: Callable[[_Item], _Result], items: list[_Item], num_workers: int
) -> Iterator[_Result]:
  """Yields the results of a function for all items, in their order.

  Args:
    function: function that can be pickled.
    items: arguments of its calls.
    num_workers: number of processes; with 1, this one.

  Raises:
    UserError: a process was ended from outside.
  """
  if num_workers == 1:
    yield from map(function, items)
    return
  with _create_pool(num_workers) as pool:
    yield from pool.map(function, items, chunksize=8)


@contextlib.contextmanager
def _create_pool(
  num_workers: int, source: PreparationSource | None = None
) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
  with concurrent.futures.ProcessPoolExecutor(
    num_workers,
    multiprocessing.get_context('spawn'),
    initializer=_start_worker,
    initargs=(source,),
  ) as pool:
    try:
      yield pool
    except concurrent.futures.process.BrokenProcessPool as error:
      raise UserError(
        'A worker process was ended from outside, perhaps for want of memory;'
        ' run the same command again, with fewer workers.'
      ) from error


_worker_source: PreparationSource | None = None


def _start_worker(source: PreparationSource | None) -> None:
  global _worker_source
  _worker_source = source
  # Ctrl-C reaches all processes; the first one sees to it.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  # OpenCV says itself what the report is going to.
  cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  """Ends this process when the one that started it is gone, killed perhaps."""
  parent = multiprocessing.parent_process()
  multiprocessing.connection.wait([parent.sentinel])
  os._exit(1)


def _write_in_worker(shard: Shard) -> WrittenShard:
  return write_shard(_worker_source, shard)
