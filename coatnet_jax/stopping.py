"""Ends the process in order when it is asked to, from its first moment on.

    listen()  # Once, at the start of the program.

SIGINT (Ctrl-C) and SIGTERM ask. A thread hears them, as the main thread hears
nothing while a program is compiled. Before the first step there is nothing to
save, and the process ends at once. From then on (`save_first`) it is the loop
that saves and ends; where that takes too long, the thread ends the process. A
second signal ends it at once, whatever it does; of several processes a second
SIGINT alone, as JAX listens to SIGTERM there.

Imports no library that takes time. A notebook does not listen: there Python's
own handlers ask (`training/stop_signal.py`).
"""

import atexit
import contextlib
import math
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from coatnet_jax import terminal

# Not finished, but no error either: sysexits.h's EX_TEMPFAIL.
STATUS = 75
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# How long the loop has for what it is at: a step, a batch of an evaluation.
PATIENCE_SECONDS = 18.0
# How long a checkpoint may take that is being written by then.
SAVING_SECONDS = 240.0
# A signal that comes twice within this time is one: to the process and its
# group, or passed on by a program that started this one.
_SAME_SECONDS = 0.25
# How long the last things may take: giving the lease back, for example; and how
# long a sentence may.
_CLEANUP_SECONDS = 3.0
_SAYING_SECONDS = 1.0

_asked = threading.Event()
_is_listening = False
_saves_first = False
_leaves_threads = False
_status = STATUS
_is_saving: Callable[[], bool] = bool
_describe_saved: Callable[[], str] = str
_pass_on: Callable[[], None] | None = None
_cleanups: list[Callable[[], object]] = []


class StoppedError(Exception):
  """The process was asked to stop while it waited."""


def listen() -> None:
  """Begins to hear the signals, for as long as the process lives.

  To be called by the main thread. Signals that were blocked until now are heard
  now.
  """
  global _is_listening
  _is_listening = True
  readable, writable = os.pipe()
  os.set_blocking(writable, False)
  threading.Thread(
    target=_listen, args=(readable,), name='stopping', daemon=True
  ).start()
  # Python's C code writes a signal's number to the pipe at once; the handlers,
  # which wait for the main thread, have nothing to do.
  signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
  for number in SIGNALS:
    signal.signal(number, _do_nothing)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
  # The first to be registered is the last to be called: until then threads and
  # what others have registered may still hang, and a signal ends them.
  atexit.register(_ignore)


def is_listening() -> bool:
  """Returns whether this process hears the signals here."""
  return _is_listening


def ask() -> None:
  """Asks this process to stop."""
  _asked.set()


def forget() -> None:
  """Forgets that this process was asked, where it goes on."""
  _asked.clear()


def is_asked() -> bool:
  """Returns whether this process was asked to stop, and may by itself.

  One of several may not; they agree on a step: `StopSignal`.
  """
  return _asked.is_set()


def check() -> None:
  """Raises StoppedError if `is_asked`, for where a process waits."""
  if is_asked():
    raise StoppedError


def save_first() -> None:
  """Leaves it to the main thread, from now on, to end when asked to."""
  global _saves_first
  _saves_first = True


def describe_checkpoints(
  is_saving: Callable[[], bool], describe_saved: Callable[[], str]
) -> None:
  """Tells what is to be known of the run's checkpoints.

  Args:
    is_saving: function that says whether one is being written.
    describe_saved: function that says what is saved, for after "It resumes
      from": 'the checkpoint of step 3'; '' if nothing is.
  """
  global _is_saving, _describe_saved
  _is_saving, _describe_saved = is_saving, describe_saved


def pass_on_to(pass_on: Callable[[], None]) -> None:
  """Has a signal told to all processes of a run, where there are several.

  None of them ends by itself then, unless it is asked a second time.

  Args:
    pass_on: function that tells them; their loops agree on a step.
  """
  global _pass_on
  _pass_on = pass_on


def before_end(cleanup: Callable[[], object]) -> None:
  """Has a function called where the process ends without unwinding.

  Args:
    cleanup: function of another thread; cut off after a few seconds.
  """
  _cleanups.append(cleanup)


def finish() -> None:
  """Says that all is done: who asks from now on gets the status 0."""
  global _status
  _status = 0


def leave_threads() -> None:
  """Says that a thread waits for ever, so that the program is to end by `end`.

  Else Python would tidy up at its end what that thread still holds.
  """
  global _leaves_threads
  _leaves_threads = True


def leaves_threads() -> bool:
  """Returns whether `leave_threads` was called."""
  return _leaves_threads


def end(status: int, *, cleanup_seconds: float = 0.0) -> NoReturn:
  """Ends the process at once, whatever its threads do.

  Args:
    status: exit status of the process.
    cleanup_seconds: longest time that the functions of `before_end` may take.
  """
  if cleanup_seconds and _cleanups:
    _try_within(cleanup_seconds, _clean_up)
  for process in multiprocessing.active_children():
    process.kill()
  _try_within(_SAYING_SECONDS, _flush)
  os._exit(status)


def _try_within(seconds: float, action: Callable[[], object]) -> None:
  """Calls a function, and leaves it alone where it takes longer.

  A disk that hangs, a terminal that is stopped, or a lock that the main thread
  holds meanwhile, would else keep the process for ever.
  """
  thread = threading.Thread(target=action, daemon=True)
  thread.start()
  thread.join(seconds)


def _flush() -> None:
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(AttributeError, OSError, ValueError):
      stream.flush()


def _clean_up() -> None:
  for cleanup in reversed(_cleanups):
    with contextlib.suppress(Exception):
      cleanup()


def _ignore() -> None:
  """Ignores the signals for the very end of the process.

  Python takes its own handlers away then: what is asked for would kill the
  process, whose status is known already.
  """
  for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)


def _do_nothing(*_) -> None:
  """A handler whose only use is that there is one."""


def _listen(readable: int) -> None:
  """Hears signals, from a pipe, until the process ends."""
  first = last = 0.0  # When the first came, and until when there was patience.
  while True:
    ready, _, _ = select.select([readable], [], [], 0.1 if first else None)
    now = time.monotonic()
    numbers = os.read(readable, 1024) if ready else b''
    heard = [signal.Signals(n) for n in numbers if n in SIGNALS]
    if heard and not first:
      first = now
      last = now + (PATIENCE_SECONDS if _pass_on is None else math.inf)
      _begin_to_stop(heard[0])
    elif heard and now - first > _SAME_SECONDS:
      _end_now(
        f'Asked a second time ({heard[0].name}), so it ends at once', 0.3
      )
    elif first:
      if now - first < SAVING_SECONDS and _is_saving():
        last = max(last, now + 2)  # For what comes after it.
      if now > last:
        _end_now(f'Asked to stop {now - first:.0f} s ago, it ends')


def _begin_to_stop(number: signal.Signals) -> None:
  if not _saves_first and _pass_on is None:
    ask()
    _end_now(f'Stopped ({number.name}) before the first step')
  said = (
    f'Stopping ({number.name}), when all steps that are finished are saved; a'
    ' second signal ends it at once.'
  )
  # Before the loop is asked, which may end the process in a moment.
  _try_within(_SAYING_SECONDS, lambda: terminal.note(said))
  (_pass_on or ask)()


def _end_now(why: str, cleanup_seconds: float = _CLEANUP_SECONDS) -> NoReturn:
  """Says why and from where the run goes on, and ends the process."""

  def say():
    doing = terminal.get_activity()
    saved = ''
    with contextlib.suppress(Exception):
      saved = _describe_saved()
    how = f'resumes from {saved}' if saved else 'starts it again'
    what = f'{why}{doing and f", while {doing}"}'
    terminal.note(f'{what}; the same command {how}.')

  _try_within(_SAYING_SECONDS, say)
  end(_status, cleanup_seconds=cleanup_seconds)
