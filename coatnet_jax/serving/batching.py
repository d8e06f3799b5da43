"""Simultaneous requests as one batch.

A batch is all that waits when the model is free, up to a number: nobody waits
for a batch to be filled, and under load batches grow by themselves.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any


class Batcher:
  """Collects items of many tasks for a function of several."""

  def __init__(
    self,
    compute: Callable[[Sequence[Any]], Sequence[Any]],
    *,
    max_batch: int,
    observe: Callable[[int], object] = lambda size: None,
  ):
    """Computes nothing yet: see `run`.

    Args:
      compute: function of a list of items that returns a result for each; it is
        called in a thread of its own.
      max_batch: largest number of items that it takes.
      observe: function that is called with the size of each batch.
    """
    self._compute = compute
    self._max_batch = max_batch
    self._observe = observe
    self._queue: asyncio.Queue[tuple[Any, asyncio.Future]] = asyncio.Queue()
    self._thread = concurrent.futures.ThreadPoolExecutor(1, 'model')

  @property
  def num_waiting(self) -> int:
    """The number of items that are in no batch yet."""
    return self._queue.qsize()

  async def submit(self, item: Any) -> Any:
    """Returns the result for an item, once its batch is computed.

    Args:
      item: item for the function of `__init__`. How many wait, the caller
        limits.

    Raises:
      Exception: what the function raised for the item's batch.
    """
    future = asyncio.get_running_loop().create_future()
    self._queue.put_nowait((item, future))
    return await future

  async def run(self) -> None:
    """Computes batches until the task is cancelled."""
    try:
      while True:
        await self._run_one(await self._collect())
    finally:
      self._thread.shutdown(wait=False)

  async def _collect(self) -> list[tuple[Any, asyncio.Future]]:
    """Returns what waits, up to `max_batch`, and at least one item."""
    batch = [await self._queue.get()]
    while len(batch) < self._max_batch and not self._queue.empty():
      batch.append(self._queue.get_nowait())
    # Whose client has gone needs no result.
    return [(item, future) for item, future in batch if not future.done()]

  async def _run_one(self, batch: list[tuple[Any, asyncio.Future]]) -> None:
    if not batch:
      return
    self._observe(len(batch))
    items = [item for item, _ in batch]
    loop = asyncio.get_running_loop()
    try:
      results = await loop.run_in_executor(self._thread, self._compute, items)
    except Exception as error:
      for _, future in batch:
        if not future.done():
          future.set_exception(error)
      return
    for (_, future), result in zip(batch, results, strict=True):
      if not future.done():
        future.set_result(result)
