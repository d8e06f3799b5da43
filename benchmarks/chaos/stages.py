"""The stages of a run, and waiting for a random moment of one."""

import dataclasses
import random
import re
import time
from collections.abc import Callable

from benchmarks.chaos.started_run import StartedRun, find_last_step

_POLL_SECONDS = 0.002


@dataclasses.dataclass(frozen=True)
class Cadence:
  """How long the runs are that are disturbed.

  Attributes:
    num_steps: number of steps of the whole run.
    evaluation_steps: number of steps from one evaluation to the next.
    checkpoint_steps: number of steps from one checkpoint to the next.
  """

  num_steps: int
  evaluation_steps: int
  checkpoint_steps: int

  def list_changes(self) -> list[str]:
    """Returns the words of a command line that make a run such."""
    return [
      f'--config.training.num_steps={self.num_steps}',
      '--config.evaluation.every_epochs=0',
      f'--config.evaluation.every_steps={self.evaluation_steps}',
      f'--config.checkpoint.every_steps={self.checkpoint_steps}',
      '--config.checkpoint.every_seconds=0',
      '--config.logging.every_steps=1',
      '--config.logging.report=False',
    ]


@dataclasses.dataclass(frozen=True)
class Stage:
  """A part of a run that is recognised from outside.

  Attributes:
    is_reached: function of the run, its cadence and the number of a step that
      was drawn.
    seconds: time within which the moment lies, from the stage's beginning.
  """

  is_reached: Callable[[StartedRun, Cadence, int], bool]
  seconds: float


def _says(pattern: str) -> Callable[[StartedRun, Cadence, int], bool]:
  return lambda run, *_: bool(re.search(pattern, run.read_output(), re.M))


def _trains(run: StartedRun, cadence: Cadence, step: int) -> bool:
  return find_last_step(run.read_output()) >= step


def _saves(run: StartedRun, cadence: Cadence, step: int) -> bool:
  """Returns whether a checkpoint is half written."""
  checkpoints = run.workdir / 'checkpoints'
  return (
    _trains(run, cadence, step - cadence.checkpoint_steps)
    and checkpoints.is_dir()
    and any(not path.name.isdigit() for path in checkpoints.iterdir())
  )


def _evaluates(run: StartedRun, cadence: Cadence, step: int) -> bool:
  output = run.read_output()
  last = find_last_step(output)
  return (
    last > 0
    and last % cadence.evaluation_steps == 0
    and f'\nstep {last}: ' not in output
  )


def _ends(run: StartedRun, cadence: Cadence, step: int) -> bool:
  return f'\nstep {cadence.num_steps}: ' in run.read_output()


STAGES = {
  'starting': Stage(lambda run, *_: run.has_begun(), 0.6),
  'loading': Stage(_says('^Loading JAX'), 3.0),
  'preparing': Stage(_says('^workdir '), 2.0),
  'compiling': Stage(_says('^Compiling the train step'), 3.0),
  'training': Stage(_trains, 0.3),
  'saving': Stage(_saves, 0.1),
  'evaluating': Stage(_evaluates, 0.3),
  'ending': Stage(_ends, 1.5),
}


def wait_for_moment(
  name: str, run: StartedRun, cadence: Cadence, draws: random.Random
) -> bool:
  """Returns at a random moment of a stage.

  Args:
    name: name of the stage, of `STAGES`.
    run: run that was started.
    cadence: lengths that the run was started with.
    draws: source of random numbers.

  Returns:
    False if the run ended before.
  """
  stage = STAGES[name]
  step = draws.randint(1, cadence.num_steps)
  seconds = draws.uniform(0, stage.seconds)
  while not stage.is_reached(run, cadence, step):
    if run.has_ended():
      return False
    time.sleep(_POLL_SECONDS)
  time.sleep(seconds)
  return not run.has_ended()
