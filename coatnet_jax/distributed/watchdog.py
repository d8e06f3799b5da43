"""Ends every process of a run when one has died or hangs, and says which.

Each process writes a beat into JAX's coordination service, which lives in
process 0: what its main thread does, and how many things it has begun. All
processes begin the same things in the same order, so who has begun the fewest
is who the others wait for. Process 0 reads all beats, and gives the verdict
that ends the run; the others wait for it, and watch process 0 themselves.

What is bounded by what, at most:

  a process is killed, its machine is gone or stopped (no beat at all)
      SILENCE_SECONDS; BROKEN_SECONDS where a collective of another process
      has failed with it, as those of CPUs do at once
  process 0 is killed
      at once, by JAX: it aborts the others; `last_words.py` says why
  process 0 is stopped
      SILENCE_SECONDS, found by each of the others
  the main thread of a process hangs, while its beats go on
      `hang_seconds` after the last thing that it began
  everything else, such as a watchdog that fails itself
      JAX's heartbeats, without our message: between half of HEARTBEAT_SECONDS,
      which is the time that one heartbeat may take, and all of it

A beat takes a moment of Python. A library that holds Python's lock longer than
SILENCE_SECONDS looks as if it were dead; compiling and saving do not.
"""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

from absl import logging

from coatnet_jax.distributed.last_words import LastWords
from coatnet_jax.errors import UserError
from coatnet_jax.strict_json import to_json

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 40.0
BROKEN_SECONDS = 15.0
# JAX aborts a process as soon as half of this has passed without an answer, and
# by then the watchdog must have said why.
HEARTBEAT_SECONDS = 120
# How long an error of one process waits for the same one of process 0, and
# process 0 for the others to have read its verdict.
GRACE_SECONDS = 5.0

_BEATS = 'coatnet_jax/beats'
_VERDICT = 'coatnet_jax/verdict'
_READ = 'coatnet_jax/verdict_read'
# Errors of XLA that are a process's own, not another's end.
_OWN_ERRORS = ('RESOURCE_EXHAUSTED', 'INVALID_ARGUMENT', 'UNIMPLEMENTED')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beat:
  """What a process tells of itself.

  Attributes:
    host: name of the host it runs on.
    number: number of this beat.
    begun: number of things that its main thread has begun.
    doing: words for the last of them, for after "It was".
    error: message of the error that ended it; empty if none has.
    is_broken: whether the error may be another process's end.
    is_finished: whether it waits for the others to finish too.
  """

  host: str
  number: int = 0
  begun: int = 0
  doing: str = 'starting'
  error: str = ''
  is_broken: bool = False
  is_finished: bool = False


class Judge:
  """Process 0's memory of all beats; the clock is the caller's."""

  def __init__(self, process_count: int, *, hang_seconds: float, now: float):
    """Starts with processes of which nothing is known.

    Args:
      process_count: number of processes of the run.
      hang_seconds: longest time for one thing while the others wait.
      now: seconds of any clock.
    """
    self._hang_seconds = hang_seconds
    self._beats = [Beat(host='unknown')] * process_count
    self._heard = [now] * process_count
    self._moved = [now] * process_count
    self._failed_since: float | None = None

  def update(self, beats: Mapping[int, Beat], now: float) -> None:
    """Takes the newest beat of every process that has any."""
    for index, beat in beats.items():
      before = self._beats[index]
      if beat.number != before.number:
        self._heard[index] = now
      if beat.begun != before.begun:
        self._moved[index] = now
      self._beats[index] = beat
    if self._failed_since is None and any(b.error for b in self._beats):
      self._failed_since = now

  def find_silent(self, now: float) -> list[int]:
    """Returns who has not been heard of for longer than is allowed."""
    is_broken = any(beat.is_broken for beat in self._beats)
    limit = BROKEN_SECONDS if is_broken else SILENCE_SECONDS
    return [
      index
      for index, heard in enumerate(self._heard)
      if now - heard > limit and not self._beats[index].error
    ]

  def reach_verdict(self, now: float) -> str:
    """Returns what ends the run: a sentence that names who; empty if nothing.

    An error of process 0 is the sentence itself: it is everybody's, as a rule.
    """
    failed_for = 0.0 if self._failed_since is None else now - self._failed_since
    errors = {i: b for i, b in enumerate(self._beats) if b.error}
    own = {i: b for i, b in errors.items() if not b.is_broken}
    if 0 in own:
      return own[0].error
    if own and failed_for > GRACE_SECONDS:
      index = min(own)
      return f'{self._name(index)} ended by an error: {own[index].error}'
    if silent := self.find_silent(now):
      index = silent[0]
      return (
        f'{self._name(index)} has not been heard of for'
        f' {now - self._heard[index]:.0f} s: it was killed, or its machine is'
        f' gone or stopped; it was {self._beats[index].doing}.'
      )
    if failed_for > 2 * BROKEN_SECONDS:
      index = min(errors)
      reason = f'{self._name(index)} has waited in vain: {errors[index].error}'
      if hanging := self._find_hanging(now, 2 * BROKEN_SECONDS, reason):
        return hanging
    hanging = self._find_hanging(now, self._hang_seconds, 'the others wait.')
    return hanging or self._find_broken(errors, failed_for)

  def _find_hanging(self, now: float, limit: float, reason: str) -> str:
    fewest = min(beat.begun for beat in self._beats)
    last = [i for i, beat in enumerate(self._beats) if beat.begun == fewest]
    behind = [i for i in last if not self._beats[i].error]
    # Where several are behind, the others may wait for the slowest.
    seconds = min((now - self._moved[i] for i in behind), default=0.0)
    if seconds <= limit or self._beats[behind[0]].is_finished:
      return ''
    doing = self._beats[behind[0]].doing
    if len(behind) == len(self._beats):
      return (
        f'No process has got any further for {seconds:.0f} s; all'
        f' {len(behind)} are {doing}.'
      )
    names = ', '.join(self._name(index) for index in behind[:10])
    return (
      f'{names} {"has" if len(behind) == 1 else "have"} been {doing} for'
      f' {seconds:.0f} s, and {reason}'
    )

  def _find_broken(self, errors: Mapping[int, Beat], failed_for: float) -> str:
    """Returns a broken collective for which nobody else is to blame."""
    if not errors or failed_for < 3 * BROKEN_SECONDS:
      return ''
    index = min(errors)
    return f'{self._name(index)} ended by an error: {errors[index].error}'

  def _name(self, index: int) -> str:
    return name_process(index, self._beats[index].host)


def name_process(index: int, host: str) -> str:
  """Returns what a process is called in messages.

  >>> name_process(3, 'host-3')
  'Process 3 (host-3)'
  """
  return f'Process {index} ({host})'


class Watchdog:
  """Two threads: one beats, one watches the others and ends this process."""

  def __init__(
    self,
    client: Any,
    *,
    process_index: int,
    process_count: int,
    hosts: list[str],
    hang_seconds: float,
    last_words: LastWords,
  ):
    """Begins to beat and to watch.

    Args:
      client: client of JAX's coordination service.
      process_index: index of this process.
      process_count: number of processes of the run.
      hosts: names of the hosts of all processes.
      hang_seconds: longest time for one thing while the others wait.
      last_words: timer, cancelled when this class ends the process itself.
    """
    self._client = client
    self._index = process_index
    self._count = process_count
    self._hosts = hosts
    self._last_words = last_words
    now = time.monotonic()
    self._judge = Judge(process_count, hang_seconds=hang_seconds, now=now)
    self._beat = Beat(host=hosts[process_index])
    self._error: BaseException | None = None
    self._lock = threading.Lock()
    self._ending = threading.Lock()
    self._wake = threading.Event()
    self._is_stopped = False
    self._heard_of_first, self._first_beat = now, ''
    self._threads = [
      threading.Thread(target=self._keep_beating, daemon=True),
      threading.Thread(
        target=self._watch_all if process_index == 0 else self._watch_first,
        daemon=True,
      ),
    ]
    for thread in self._threads:
      thread.start()

  def begin(self, doing: str) -> None:
    """Tells what this process's main thread does from now on."""
    self._change(doing=doing, begun=self._beat.begun + 1)

  def fail(self, error: BaseException) -> None:
    """Ends all processes because of an error in this one; does not return.

    Whatever it was that ends the run first, here or elsewhere, is what is
    said.
    """
    text = str(error).strip()
    if not isinstance(error, UserError):  # Its traceback has all of it.
      first_line = text.partition('\n')[0][:300]
      text = f'{type(error).__name__}: {first_line}'.removesuffix(': ')
    self._error = error
    self._change(error=text, is_broken=_may_be_of_another(error))
    self._wake.set()
    time.sleep(SILENCE_SECONDS + 3 * BROKEN_SECONDS)
    self._end(f'{self._name(self._index)} ended by an error: {text}')

  def finish(self) -> None:
    """Waits until all processes are here, and stops watching."""
    self._change(doing='finished', begun=self._beat.begun + 1, is_finished=True)
    self._client.wait_at_barrier('coatnet_jax/finish', 24 * 3600 * 1000)
    if self._index == 0:
      self._client.key_value_set(_VERDICT, '')  # Whoever waits for it may go.
    self._is_stopped = True
    self._wake.set()
    for thread in self._threads:
      thread.join()

  def _change(self, **changes: Any) -> None:
    with self._lock:
      self._beat = dataclasses.replace(self._beat, **changes)

  def _name(self, index: int) -> str:
    return name_process(index, self._hosts[index])

  def _keep_beating(self) -> None:
    while not self._is_stopped:
      self._change(number=self._beat.number + 1)
      beat = to_json(dataclasses.asdict(self._beat))
      try:
        self._client.key_value_set(f'{_BEATS}/{self._index}', beat, True)
        first = self._client.key_value_try_get(f'{_BEATS}/0')
      except Exception as error:  # What it raises is not documented.
        logging.info('The coordination service does not answer: %s', error)
      else:
        if first != self._first_beat:
          self._first_beat, self._heard_of_first = first, time.monotonic()
      self._wake.wait(BEAT_SECONDS)
      self._wake.clear()

  def _watch_all(self) -> None:
    """Process 0: judges, and tells the others."""
    while not self._is_stopped:
      time.sleep(0.5)
      now = time.monotonic()
      try:
        found = self._client.key_value_dir_get(_BEATS)
      except Exception as error:  # What it raises is not documented.
        logging.info('The beats cannot be read: %s', error)
        found = []
      self._judge.update(
        {int(k.rpartition('/')[2]): Beat(**json.loads(v)) for k, v in found},
        now,
      )
      if verdict := self._judge.reach_verdict(now):
        self._tell(_VERDICT, verdict)
        self._end(verdict)

  def _watch_first(self) -> None:
    """The others: wait for the verdict, and watch process 0."""
    while not self._is_stopped:
      try:
        verdict = self._client.blocking_key_value_get(
          _VERDICT, round(BEAT_SECONDS * 1000)
        )
      except Exception:  # There is none yet; its type is not documented.
        verdict = ''
      if verdict:
        self._tell(f'{_READ}/{self._index}', '')
        self._end(verdict)
      self._wake.wait(0.1)
      seconds = time.monotonic() - self._heard_of_first
      if seconds > SILENCE_SECONDS and not self._is_stopped:
        self._end(
          f'{self._name(0)}, which holds the run together, has not been heard'
          f' of for {seconds:.0f} s: its machine is gone or stopped.'
        )

  def _end(self, verdict: str) -> None:
    """Says why, and ends this process at once, whatever else it does."""
    self._ending.acquire()  # For good: one thread ends the process.
    logging.info('%s', verdict)
    own = self._beat.error
    expected = isinstance(self._error, UserError | KeyboardInterrupt)
    if own and own in verdict and not expected:
      traceback.print_exception(self._error)
    # An error that all have is said once.
    if self._index == 0:
      self._say(f'Error: {verdict}')
    elif verdict != own:
      self._say(f'{self._name(self._index)}: Error: {verdict}')
    self._last_words.cancel()
    for process in multiprocessing.active_children():
      process.kill()  # Python's own end of them is passed over below.
    if self._index == 0:
      self._wait_for_readers()
    sys.stdout.flush()
    os._exit(1)

  def _tell(self, key: str, value: str) -> None:
    """Writes what others wait for, if they can still be reached."""
    with contextlib.suppress(Exception):
      self._client.key_value_set(key, value)

  def _say(self, text: str) -> None:
    print(text, file=sys.stderr, flush=True)

  def _wait_for_readers(self) -> None:
    """Process 0: stays until the others know, as its end aborts them."""
    deadline = time.monotonic() + GRACE_SECONDS
    expected = self._count - 1 - len(self._judge.find_silent(time.monotonic()))
    while time.monotonic() < deadline:
      if len(self._client.key_value_dir_get(_READ)) >= expected:
        time.sleep(0.5)
        return
      time.sleep(0.1)


def _may_be_of_another(error: BaseException | None) -> bool:
  """Returns whether an error, or its cause, is XLA's, as broken collectives."""
  import jax

  while error is not None:
    if isinstance(error, jax.errors.JaxRuntimeError):
      return not str(error).startswith(_OWN_ERRORS)
    error = error.__cause__ or error.__context__
  return False
