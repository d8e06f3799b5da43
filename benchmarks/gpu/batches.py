"""How long the train step takes, batch by batch, and which ones are slow."""

import dataclasses
import gc
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.versus.contestant import describe
from benchmarks.versus.ours import Ours
from benchmarks.versus.task import Task

# Of the best batch's images per second, for batches above 64.
CLIFF = 0.8
_LARGEST_UNCHECKED_BATCH = 64

_SECONDS_PER_TURN = 3.0


@dataclasses.dataclass(frozen=True)
class Timing:
  """How long the train step of one batch takes.

  Attributes:
    task: model, batch and dtype of the step that was timed.
    first_call_seconds: time of the first step, with compiling.
    seconds: time of a step; None where there is none.
    peak_bytes: most memory used so far by any batch, if the device says it.
    error: why there is no time, or ''.
  """

  task: Task
  first_call_seconds: float | None = None
  seconds: float | None = None
  peak_bytes: int | None = None
  error: str = ''

  @property
  def images_per_second(self) -> float:
    """Returns 0 where there is no time."""
    return self.task.batch_size / self.seconds if self.seconds else 0.0


def time_batches(
  tasks: Sequence[Task],
  deadline: float,
  *,
  clock: Callable[[], float] = time.monotonic,
  create: Callable[[Task], Ours] = Ours,
) -> Iterator[Timing]:
  """Times train steps, one batch after the other, until the time is over.

  Args:
    tasks: batches to time, what is most wanted first.
    deadline: time of the clock that none is begun after which the longest so
      far would not end before.
    clock: function that returns the time in seconds, for tests.
    create: function that makes what takes a task's steps.
  """
  longest = 0.0
  for task in tasks:
    start = clock()
    if start + longest > deadline:
      yield Timing(task, error='not begun: the time is over')
      continue
    try:
      yield _time_batch(create(task))
    except Exception as error:  # Out of memory, or it does not compile.
      yield Timing(task, error=describe(error))
    gc.collect()  # What it held of the device's memory.
    longest = max(longest, clock() - start)


def _time_batch(ours):
  ours.prepare()
  compiled = ours.compile()
  steps = max(1, int(_SECONDS_PER_TURN / compiled['seconds']))
  seconds = ours.turn(steps)['seconds'] if steps > 1 else compiled['seconds']
  return Timing(
    ours.task, compiled['first_call_seconds'], seconds, ours.peak_bytes()
  )


def find_cliffs(timings: Sequence[Timing]) -> list[Timing]:
  """Returns the batches above 64 that are far slower than a model's best.

  Args:
    timings: timings of one model at several batch sizes.
  """
  best = max((t.images_per_second for t in timings), default=0.0)
  return [
    timing
    for timing in timings
    if timing.seconds
    and timing.task.batch_size > _LARGEST_UNCHECKED_BATCH
    and timing.images_per_second < CLIFF * best
  ]


def format_timings(timings: Sequence[Timing]) -> str:
  """Returns a table in Markdown, by model, attention and batch.

  Args:
    timings: timings of all models at all batch sizes.
  """
  lines = [
    '| model | attention | images | ms | images/s | of best | first step | |',
    f'|{" --- |" * 8}',
  ]
  for group in group_timings(timings):
    best = max(timing.images_per_second for timing in group)
    cliffs = find_cliffs(group)
    for timing in sorted(group, key=lambda t: t.task.batch_size):
      task, speed = timing.task, timing.images_per_second
      cells = [task.model, task.attention, str(task.batch_size)]
      if timing.seconds:
        cells += [f'{1e3 * timing.seconds:,.1f}', f'{speed:,.0f}']
        cells += [f'{speed / best:.2f}', f'{timing.first_call_seconds:,.0f} s']
      else:
        cells += [''] * 4
      cells.append('a cliff' if timing in cliffs else timing.error)
      lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)


def group_timings(timings: Sequence[Timing]) -> list[list[Timing]]:
  """Returns the timings of each model and implementation of attention.

  Args:
    timings: timings of all models at all batch sizes.
  """
  groups = {}
  for timing in timings:
    key = (timing.task.model, timing.task.attention)
    groups.setdefault(key, []).append(timing)
  return list(groups.values())
