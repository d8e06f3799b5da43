"""Contestants that take turns: started, asked, and ended by one parent.

Whatever happens to one of them, an error, its death, or that it takes too long,
is said in its row, and the others go on.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from coatnet_jax.strict_json import to_json

# A turn is at least so many steps, and about so many seconds.
MIN_STEPS, MAX_STEPS = 4, 200
TURN_SECONDS = 1.0
# Part of the time after which nobody begins to compile any more.
_PREPARATION = 0.85
# Seconds that an answer is waited for even where the time is over: of the first
# round, without which there is nothing to compare, and at the end.
_LEAST_SECONDS = 10.0
_ROOT = pathlib.Path(__file__).parents[2]


class ContestantError(Exception):
  """A contestant cannot go on; the message says why, for its row."""


@dataclasses.dataclass(kw_only=True)
class Row:
  """What is known of a contestant.

  Attributes:
    name: name of the contestant.
    error: sentence on why it did not come to its end; '' if it did.
    facts: what it says of itself: 'num_parameters', 'versions', 'device'.
    notes: what was done otherwise than was asked for.
    first_call_seconds: time in seconds of the first step, which compiles.
    steps: number of steps of a turn.
    seconds: seconds per step of each round that it took part in.
    processor_seconds: processor time of the same.
    peak_bytes: most memory held: the device's on a GPU, else the process's.
  """

  name: str
  error: str = ''
  facts: dict[str, Any] = dataclasses.field(default_factory=dict)
  notes: list[str] = dataclasses.field(default_factory=list)
  first_call_seconds: float | None = None
  steps: int = 0
  seconds: list[float] = dataclasses.field(default_factory=list)
  processor_seconds: list[float] = dataclasses.field(default_factory=list)
  peak_bytes: int | None = None


class Contestant:
  """A process that answers, from its start to its end."""

  def __init__(
    self,
    name: str,
    words: Sequence[str],
    environment: Mapping[str, str],
    log: pathlib.Path,
  ):
    """Starts nothing yet.

    Args:
      name: name of the contestant, shown in its row.
      words: words of the command that starts its process.
      environment: all environment variables that it has.
      log: file for what it writes to stderr.
    """
    self.row = Row(name=name)
    self._words = list(words)
    self._environment = dict(environment)
    self._log = log
    self._process = None

  def start(self) -> None:
    """Starts the process, from the root of the project."""
    with self._log.open('w') as log:
      self._process = subprocess.Popen(
        self._words,
        cwd=_ROOT,
        env=self._environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        # With the compilers that torch.compile starts, it is ended as a whole.
        start_new_session=True,
      )

  def ask(self, question: str, seconds: float, **arguments: Any) -> Any:
    """Returns the answer to a question.

    Args:
      question: name of the question, a method of the contestant.
      seconds: time in seconds after which it is not waited for any more.
      **arguments: arguments of that method, which JSON can hold.

    Raises:
      ContestantError: it answers with an error or not at all.
    """
    line = to_json([question, arguments]) + '\n'
    with contextlib.suppress(BrokenPipeError):  # What it died of comes below.
      self._process.stdin.write(line.encode())
      self._process.stdin.flush()
    answers = self._process.stdout
    # Whole lines alone are written, and one for each question.
    if not select.select([answers], [], [], max(0.0, seconds))[0]:
      raise ContestantError(f'{question}: no answer within {seconds:,.0f} s')
    line = answers.readline()
    if not line:
      status = self._process.wait()
      raise ContestantError(
        f'{question}: the process ended with status {status}'
        f'{self._find_last_words()}'
      )
    reply = json.loads(line)
    if 'error' in reply:
      raise ContestantError(f'{question}: {reply["error"]}')
    return reply['answer']

  def end(self) -> None:
    """Ends the process, if there is one."""
    if self._process is None:
      return
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self._process.pid, signal.SIGKILL)
    self._process.wait()
    for pipe in (self._process.stdin, self._process.stdout):
      with contextlib.suppress(BrokenPipeError):
        pipe.close()
    self._process = None

  def _find_last_words(self) -> str:
    lines = self._log.read_text(errors='replace').strip().splitlines()
    return f', after "{lines[-1].strip()[:200]}"' if lines else ''


def compare(
  contestants: Sequence[Contestant],
  *,
  max_rounds: int,
  max_seconds: float,
  report: Callable[[str], None] = lambda text: None,
) -> list[Row]:
  """Lets contestants compute in turn; returns a row for each.

  The first is what the others are compared with: a model of another number of
  parameters is not the same one, and is left out. The order is reversed from
  round to round, so that each comes before the other as often as after it.

  Args:
    contestants: contestants, not started yet; all are ended.
    max_rounds: largest number of rounds; fewer are made where time is short.
    max_seconds: time in seconds that all may take. No round begins that would
      take longer, but for the first, of which a turn has at least 10 seconds.
    report: function called with a line on what goes on.
  """
  start = time.monotonic()
  with contextlib.ExitStack() as stack:
    for contestant in contestants:
      stack.callback(contestant.end)
      with _giving_up(contestant, report):
        left = start + _PREPARATION * max_seconds - time.monotonic()
        _prepare(contestant, contestants[0].row, left, report)
    round_seconds = 0.0
    for index in range(max_rounds):
      begin = time.monotonic()
      if index and begin + round_seconds > start + max_seconds:
        report(f'the time is over after {index} of {max_rounds} rounds')
        break
      alive = [c for c in contestants if not c.row.error]
      for contestant in alive if index % 2 == 0 else reversed(alive):
        row = contestant.row
        with _giving_up(contestant, report):
          left = start + max_seconds - time.monotonic()
          least = 0.0 if index else _LEAST_SECONDS
          answer = contestant.ask('turn', max(left, least), steps=row.steps)
          row.seconds.append(answer['seconds'])
          row.processor_seconds.append(answer['processor_seconds'])
      round_seconds = time.monotonic() - begin
    for contestant in contestants:
      if not contestant.row.error:
        with _giving_up(contestant, report):
          contestant.row.peak_bytes = contestant.ask(
            'peak_bytes', _LEAST_SECONDS
          )
  return [contestant.row for contestant in contestants]


@contextlib.contextmanager
def _giving_up(
  contestant: Contestant, report: Callable[[str], None]
) -> Iterator[None]:
  """Ends a contestant that cannot go on, and notes why in its row."""
  try:
    yield
  except ContestantError as error:
    contestant.row.error = str(error)
    contestant.end()
    report(f'{contestant.row.name}: {error}')


def _prepare(
  contestant: Contestant,
  first: Row,
  seconds: float,
  report: Callable[[str], None],
) -> None:
  """Starts a contestant and takes its first step."""
  row = contestant.row
  deadline = time.monotonic() + seconds
  if seconds <= 0:
    raise ContestantError('not started: the others took all of the time')
  report(f'{row.name}: starting')
  contestant.start()
  row.facts = contestant.ask('prepare', seconds)
  ours, theirs = (r.facts.get('num_parameters') for r in (first, row))
  if ours is not None and ours != theirs:
    raise ContestantError(
      f'another model: {theirs:,} parameters, and {ours:,} of {first.name}'
    )
  report(f'{row.name}: compiling, {theirs:,} parameters')
  answer = contestant.ask('compile', deadline - time.monotonic())
  row.first_call_seconds = answer['first_call_seconds']
  row.notes = answer['notes']
  # Estimated by its second step, after which nothing is compiled any more.
  row.steps = count_steps(answer['seconds'])


def count_steps(seconds: float) -> int:
  """Returns how many steps make a turn.

  >>> count_steps(0.1), count_steps(10.0), count_steps(0.0)
  (10, 4, 200)

  Args:
    seconds: time in seconds that a step takes, about.
  """
  steps = math.ceil(TURN_SECONDS / max(seconds, 1e-6))
  return min(MAX_STEPS, max(MIN_STEPS, steps))
