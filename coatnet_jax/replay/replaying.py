"""Taking a step of a run again, to see where its numbers stop being finite.

A step's batch is a function of its number, and resuming is exact: so the newest
checkpoint before a step, and the steps from there on, give the very state that
the step began with. A run that diverges keeps the batch besides, for the case
that the data change until somebody looks: `tools/replay.py`.
"""

import contextlib
import dataclasses
import shlex
import traceback
from collections.abc import Callable

from absl import logging

from coatnet_jax.checkpoints import checksums, resuming, saving
from coatnet_jax.checkpoints.folder import find_steps
from coatnet_jax.distributed import processes
from coatnet_jax.replay.batches import (
  keep_batch,
  put_batch,
  read_kept_batch,
)
from coatnet_jax.replay.examination import (
  Examination,
  StepFunctions,
  examine_step,
)
from coatnet_jax.run import Run
from coatnet_jax.run_batches import read_train_batches
from coatnet_jax.training.finite import find_not_finite
from coatnet_jax.training.train_state import TrainState
from coatnet_jax.training.training_log import DivergenceError

# How long a run that has diverged looks for where it began, by the time that
# the steps took; whoever has more time calls tools.replay.
MAX_SECONDS = 60.0


def explain_divergence(
  error: DivergenceError,
  run: Run,
  workdir: str,
  functions: StepFunctions,
  create_state: Callable[[], TrainState],
  abstract_state: TrainState,
  *,
  seconds_per_step: float,
  report: Callable[[str], None],
) -> DivergenceError:
  """Keeps the batch of the step that diverged, and looks where it began.

  To be called by all processes, once nothing is being saved.

  Args:
    error: error of the loop.
    run: resolved run, from `create_run`.
    workdir: directory of the run.
    functions: functions of `train_step.py` that the step is made of.
    create_state: function that makes the state of a run that begins.
    abstract_state: shapes of the state, with shardings.
    seconds_per_step: time that a step of the run took.
    report: function called with a line about what goes on.

  Returns:
    The error with what was found, and the command that finds more.
  """
  # The loop's own variables hold the state that is worth nothing, and there is
  # no room for two.
  traceback.clear_frames(error.__traceback__)
  found = ''
  try:
    keep_batch(run, workdir, error.step)
    first = find_checkpoint_before(workdir, error.step)
    takes_long = (error.step - first) * seconds_per_step > MAX_SECONDS
    # Each process has measured for itself.
    if checksums.is_good_everywhere(not takes_long):
      report(
        f'Step {error.step:,} is not finite; it is taken again, to see where'
        ' that begins ...'
      )
      examination = replay_step(
        run, workdir, error.step, functions, create_state, abstract_state
      )
      if origin := examination.find_origin():
        at = f'At step {examination.step} it' * (examination.step != error.step)
        found = f'{at or "It"} begins {origin}. '
  except Exception:  # It would hide what it is about.
    logging.exception('The step cannot be taken again')
  command = (
    f'python -m tools.replay --workdir={shlex.quote(workdir)}'
    f' --step={error.step}'
  )
  return DivergenceError(
    error.problem,
    error.step,
    f'{found}To take the step apart: {command}.',
  )


def find_checkpoint_before(workdir: str, step: int) -> int:
  """Returns the step of the newest checkpoint before a step, or 0.

  Args:
    workdir: directory of the run.
    step: number of a step, from 1.
  """
  steps = find_steps(saving.checkpoint_directory(workdir))
  return max((saved for saved in steps if saved < step), default=0)


def replay_step(
  run: Run,
  workdir: str,
  step: int,
  functions: StepFunctions,
  create_state: Callable[[], TrainState],
  abstract_state: TrainState,
) -> Examination:
  """Takes a run's steps again up to one, and that one apart.

  Where an earlier step turns out not to be finite, it is that one instead. To
  be called by all processes.

  Args:
    run: resolved run, from `create_run`.
    workdir: directory of the run, which is left as it is.
    step: number of the step, from 1.
    functions: functions of `train_step.py` that the step is made of.
    create_state: function that makes the state of a run that begins.
    abstract_state: shapes of the state, with shardings.
  """
  batch = read_kept_batch(run, workdir, step)
  state, first = _restore_before(workdir, step, create_state, abstract_state)
  with contextlib.closing(read_train_batches(run, first)) as batches:
    for number in range(first + 1, step):
      processes.begin(f'taking step {number} again')
      state, metrics = functions.take_step(state, put_batch(run, next(batches)))
      was_skipped = float(metrics.get('skipped', 0))
      if not was_skipped and find_not_finite([metrics, state.batch_stats]):
        return replay_step(
          run, workdir, number, functions, create_state, abstract_state
        )
    processes.begin(f'taking step {step} apart')
    on_mesh = put_batch(run, next(batches) if batch is None else batch)
  return dataclasses.replace(
    examine_step(run, state, on_mesh, functions),
    checkpoint=first,
    has_kept_batch=batch is not None,
  )


def _restore_before(
  workdir: str,
  step: int,
  create_state: Callable[[], TrainState],
  abstract_state: TrainState,
) -> tuple[TrainState, int]:
  """Returns a state from before a step, and how many steps it has taken."""
  directory = saving.checkpoint_directory(workdir)
  for saved in sorted(find_steps(directory), reverse=True):
    if saved < step:
      state, _ = resuming.restore_step(
        directory / str(saved), saved, abstract_state
      )
      if state is not None:
        return state, saved
  return create_state(), 0
