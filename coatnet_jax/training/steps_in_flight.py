"""How far the host is ahead of its devices, and when these wait for it.

Steps are dispatched before those before them are computed, so that the host's
work costs no time. Here is a bound to that, as each step in flight holds its
batch in the devices' memory; and the time in which no step was computed, which
the host alone cannot tell: it may wait for a batch while devices compute.
"""

import collections
import contextlib
import time
from concurrent import futures
from typing import Any

import jax


class StepsInFlight:
  """Context of a loop that dispatches steps; knows which are computed."""

  def __init__(self, limit: int = 2):
    """Begins with no step.

    Args:
      limit: number of steps that may be dispatched and not computed.
    """
    self._limit = limit
    self._pending: collections.deque[futures.Future] = collections.deque()
    self._last: futures.Future | None = None
    self._waiter = futures.ThreadPoolExecutor(1, 'steps_in_flight')

  def __enter__(self):
    """Returns itself."""
    return self

  def __exit__(self, *_):
    """Waits for no step."""
    self._waiter.shutdown(wait=False, cancel_futures=True)

  def add(self, outputs: Any) -> None:
    """Takes note of a step, and waits until at most `limit` are not computed.

    Args:
      outputs: arrays that the step returned and that are not donated.
    """
    self._last = self._waiter.submit(_wait, outputs)
    self._pending.append(self._last)
    while len(self._pending) > self._limit:
      self._pending.popleft().result()

  def count_idle_seconds(self, since: float) -> float:
    """Returns for how many seconds no step was computed; 0 before the first.

    Args:
      since: moment from which they are counted, of `time.monotonic`.
    """
    if self._last is None or not self._last.done():
      return 0.0
    return max(0.0, time.monotonic() - max(since, self._last.result()))


def _wait(outputs: Any) -> float:
  """Returns when a step was computed."""
  with contextlib.suppress(Exception):  # The loop meets it where it reads them.
    jax.block_until_ready(outputs)
  return time.monotonic()
