"""Ends a run in order when it is asked to, instead of where it stands."""

import os
import signal
import threading

import jax
from jax.experimental import multihost_utils

from coatnet_jax import stopping


class StopSignal:
  """Context in which SIGINT and SIGTERM only ask the loop to stop.

  The loop calls `is_due` after each step and each batch of an evaluation,
  saves and returns. Where `stopping.py` does not listen, as in a notebook, the
  context takes the signals over, and the second one acts as usual. Outside of
  the main thread it does nothing.

  Where there are several processes, it is enough to ask one: JAX's preemption
  service tells all, and finds a moment that none of them has come to yet, at
  which all stop. The service listens to SIGTERM by itself, from the start of
  the process, and a SIGINT is turned into one.
  """

  def __init__(self):
    self._previous = {}
    self._is_alone = jax.process_count() == 1
    self._num_moments = 0

  def is_due(self) -> bool:
    """Returns whether to stop: the same on all processes, which all ask."""
    if self._is_alone:
      return stopping.is_asked()
    self._num_moments += 1
    return multihost_utils.reached_preemption_sync_point(self._num_moments)

  def __enter__(self):
    """Takes the signals over."""
    stopping.save_first()
    if stopping.is_listening():
      return self
    if threading.current_thread() is threading.main_thread():
      for number in stopping.SIGNALS if self._is_alone else (signal.SIGINT,):
        self._previous[number] = signal.signal(number, self._receive)
    return self

  def __exit__(self, *_):
    """Gives them back."""
    self._restore()
    if not stopping.is_listening():
      stopping.forget()

  def _receive(self, *_):
    self._restore()
    if self._is_alone:
      stopping.ask()
    else:
      os.kill(os.getpid(), signal.SIGTERM)

  def _restore(self):
    while self._previous:
      signal.signal(*self._previous.popitem())
