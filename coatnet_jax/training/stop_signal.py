"""Ends a run in order when it is asked to, instead of where it stands."""

import os
import signal
import threading

import jax
from jax.experimental import multihost_utils


class StopSignal:
  """Context in which the first SIGINT or SIGTERM only asks the loop to stop.

  The loop calls `is_due` after each step, saves and returns. The second one
  acts as usual. Does nothing outside of the main thread.

  Where there are several processes, it is enough to ask one: JAX's preemption
  service tells all, and finds a step that none of them has taken yet, after
  which all stop. The service listens to SIGTERM by itself, from the start of
  the process, so that a SIGTERM never acts as usual there, and a SIGINT is
  turned into one.
  """

  def __init__(self):
    self._received = False
    self._previous = {}
    self._is_alone = jax.process_count() == 1

  def is_due(self, step: int) -> bool:
    """Returns whether to stop after a step: the same on all processes.

    Args:
      step: number of the step that was taken; none may be left out.
    """
    if self._is_alone:
      return self._received
    return multihost_utils.reached_preemption_sync_point(step)

  def __enter__(self):
    """Takes the signals over."""
    if threading.current_thread() is threading.main_thread():
      alone = (signal.SIGINT, signal.SIGTERM)
      for number in alone if self._is_alone else (signal.SIGINT,):
        self._previous[number] = signal.signal(number, self._receive)
    return self

  def __exit__(self, *_):
    """Gives them back."""
    self._restore()

  def _receive(self, *_):
    self._received = True
    self._restore()
    if not self._is_alone:
      os.kill(os.getpid(), signal.SIGTERM)

  def _restore(self):
    while self._previous:
      signal.signal(*self._previous.popitem())
