"""A round: a run that is disturbed, started again until its end, and judged."""

import dataclasses
import os
import pathlib
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence

from benchmarks.chaos import results, stages
from benchmarks.chaos.stages import Cadence
from benchmarks.chaos.started_run import StartedRun

# Statuses of main.py.
FINISHED, FAILED, STOPPED = 0, 1, 75
_MAX_STARTS = 8


@dataclasses.dataclass(frozen=True)
class Undisturbed:
  """What a run comes to that nothing disturbs.

  Attributes:
    result: arrays and evaluations of its end, of `results.read_result`.
    seconds: time it took, in seconds.
  """

  result: dict
  seconds: float


class Plan:
  """What the rounds have in common.

  Attributes:
    words: words of main.py's command line.
    cadence: numbers of steps of the run, and between its checkpoints and
      evaluations.
    directory: directory for everything that runs write.
  """

  def __init__(
    self, words: Sequence[str], cadence: Cadence, directory: pathlib.Path
  ):
    """Runs nothing yet; the attributes say what the arguments are."""
    self.words = [*cadence.list_changes(), *words]
    self.cadence = cadence
    self.directory = directory
    # Programs are compiled once, but where compiling is what is disturbed.
    self.environment = {
      'JAX_COMPILATION_CACHE_DIR': os.environ.get(
        'JAX_COMPILATION_CACHE_DIR', str(directory / 'compiled')
      ),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }
    self._undisturbed: dict[tuple[str, ...], Undisturbed] = {}
    self._lock = threading.Lock()

  def find_undisturbed(self, changes: Sequence[str] = ()) -> Undisturbed:
    """Returns what the run comes to; runs it the first time.

    Args:
      changes: further words of the command line.

    Raises:
      RuntimeError: it does not finish even without a disturbance.
    """
    key = tuple(changes)
    with self._lock:
      if key not in self._undisturbed:
        self._undisturbed[key] = self._run_undisturbed(changes)
      return self._undisturbed[key]

  def _run_undisturbed(self, changes: Sequence[str]) -> Undisturbed:
    workdir = self.directory / f'undisturbed_{len(self._undisturbed)}'
    with StartedRun(
      [*self.words, *changes],
      workdir,
      workdir.with_suffix('.out'),
      environment=self.environment,
    ) as run:
      if run.wait() != FINISHED:
        raise RuntimeError(run.read_output())
      seconds = time.monotonic() - run.started
    undisturbed = Undisturbed(results.read_result(workdir), seconds)
    shutil.rmtree(workdir)
    return undisturbed


class Round:
  """One run with its restarts.

  Attributes:
    plan: command line, cadence and directory that all rounds have in common.
    draws: source of the round's random numbers.
    stage: name of the stage in which the run is first disturbed.
    changes: further words of every start's command line.
    workdir: workdir of the run.
    events: what was done to it, in order.
    broken: promises that were broken; the round is survived without any.
    seconds_to_end: longest time from a request to stop, or from an error, to
      the process's end, in seconds; 0 where there was none.
    num_starts: number of times that it was started.
    can_finish: whether the run is to be started again until it has finished.
  """

  def __init__(self, plan: Plan, name: str, seed: int, stage: str):
    """Starts nothing yet.

    Args:
      plan: command line, cadence and directory that all rounds have in common.
      name: name of the round's directory.
      seed: seed of its random numbers.
      stage: name of the stage to disturb.
    """
    self.plan = plan
    self.draws = random.Random(seed)
    self.stage = stage
    self.changes: list[str] = []
    self.directory = plan.directory / name
    self.workdir = self.directory / 'workdir'
    self.events: list[str] = []
    self.broken: list[str] = []
    self.seconds_to_end = 0.0
    self.num_starts = 0
    self.can_finish = True
    self._runs: list[StartedRun] = []
    self.directory.mkdir(parents=True)

  def expect(self, is_kept: bool, promise: str) -> None:
    """Writes down a promise that is broken.

    Args:
      is_kept: whether the promise is kept.
      promise: sentence for where it is not.
    """
    if not is_kept:
      self.broken.append(f'{promise} ({"; ".join(self.events) or "start"})')

  def start(
    self, *, environment: dict[str, str] | None = None, **options
  ) -> StartedRun:
    """Starts the run, for the first time or again.

    Args:
      environment: further variables of the environment.
      **options: further options of `StartedRun`.
    """
    variables = {**self.plan.environment, **(environment or {})}
    if self.stage == 'compiling' and not self.num_starts:
      # Nothing is compiled yet.
      variables['JAX_COMPILATION_CACHE_DIR'] = str(self.directory / 'compiled')
    self.num_starts += 1
    run = StartedRun(
      [*self.plan.words, *self.changes],
      self.workdir,
      self.directory / f'start_{self.num_starts}.out',
      environment=variables,
      **options,
    )
    self._runs.append(run)
    return run

  def leave_none(self) -> None:
    """Kills what is left of the runs that were started."""
    for run in self._runs:
      run.kill_all()

  def wait_for_moment(self, run: StartedRun, stage: str | None = None) -> bool:
    """Waits for a random moment of a stage; returns False if the run ended.

    Args:
      run: run that was started.
      stage: name of the stage; None is the round's.
    """
    stage = stage or self.stage
    is_there = stages.wait_for_moment(stage, run, self.plan.cadence, self.draws)
    seconds = time.monotonic() - run.started
    self.events.append(
      f'{stage}, {seconds:.1f} s' if is_there else f'ended before {stage}'
    )
    return is_there

  def wait_for_checkpoints(self, run: StartedRun, count: int) -> bool:
    """Waits for saved checkpoints and a moment; returns False if it ended.

    Args:
      run: run that was started.
      count: number of checkpoints that are to be there.
    """
    while len(self.find_steps()) < count:
      if run.has_ended():
        self.expect(False, 'ended without checkpoints')
        return False
      time.sleep(0.005)
    time.sleep(self.draws.uniform(0, 1.0))
    return not run.has_ended()

  def find_steps(self) -> list[int]:
    """Returns the steps of the checkpoints that are whole, in order."""
    directory = self.workdir / 'checkpoints'
    if not directory.is_dir():
      return []
    return sorted(
      int(path.name) for path in directory.iterdir() if path.name.isdigit()
    )

  def end(self, run: StartedRun, *statuses: int, since: float = 0.0) -> bool:
    """Waits for the end of a run; returns whether it has finished the training.

    Args:
      run: run that was started.
      *statuses: exit statuses that keep the promise.
      since: when it was asked to end, by `time.monotonic`; 0 if it was not.
    """
    status = run.wait()
    if since:
      self.seconds_to_end = max(self.seconds_to_end, time.monotonic() - since)
    output = run.read_output()
    self.events.append(f'status {status}')
    self.expect(
      status in statuses,
      f'ended with {status} instead of {" or ".join(map(str, statuses))}',
    )
    self.expect('Traceback (most' not in output, 'ended with a traceback')
    self.expect(not run.find_survivors(), 'left processes behind')
    run.kill_all()
    is_finished = (self.workdir / 'summary.json').exists()
    self.expect(
      is_finished == (status == FINISHED) or status not in (FINISHED, STOPPED),
      f'ended with {status}, which is not what the workdir says',
    )
    return status == FINISHED

  def finish(self) -> None:
    """Starts the run again until it has finished, and compares the result."""
    while not (self.workdir / 'summary.json').exists():
      if self.num_starts == _MAX_STARTS:
        self.expect(False, f'not finished after {_MAX_STARTS} starts')
        return
      if not self.end(self.start(), FINISHED):
        return
    difference = results.describe_difference(
      self.plan.find_undisturbed(self.changes).result,
      results.read_result(self.workdir),
    )
    self.expect(not difference, difference)


def run_round(
  fault: Callable[[Round], None], plan: Plan, name: str, seed: int, stage: str
) -> Round:
  """Runs a round to its end, and removes what it wrote if it is survived.

  Args:
    fault: what disturbs the run, of `faults.FAULTS`.
    plan: command line, cadence and directory that all rounds have in common.
    name: name of the round's directory.
    seed: seed of its random numbers.
    stage: name of the stage to disturb.
  """
  played = Round(plan, name, seed, stage)
  try:
    fault(played)
    if played.can_finish:
      played.finish()
  finally:
    played.leave_none()
  if not played.broken:
    shutil.rmtree(played.directory)
  return played


def has_sentence(output: str) -> bool:
  """Returns whether a run's output ends with an error in one sentence."""
  return bool(re.search(r'^Error: .+', output, re.M))
