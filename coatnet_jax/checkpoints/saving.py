"""Saving the checkpoints of a run.

Resuming from them is `resuming.py`'s, and reading one to use its model
`trained_model.py`'s. One format serves all: an Orbax checkpoint per kept step,
under `<workdir>/checkpoints/<step>`:
  state     the `TrainState`, all of it;
  progress  the data position and the time taken: `Progress`;
  metadata  what model and images need: `Metadata`;
  metrics   of the evaluation at that step, if there was one; added after it,
    so that a run that dies while evaluating has lost nothing;
beside `checksums.json`, with which all of them are verified (`checksums.py`).
Writing is asynchronous, and a checkpoint counts only once it is complete.
"""

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from coatnet_jax.checkpoints import checksums, folder, quality
from coatnet_jax.checkpoints.early_stopping import EarlyStopping
from coatnet_jax.checkpoints.metadata import (
  Metadata,
  Progress,
  describe_failure,
)
from coatnet_jax.checkpoints.quality import (
  BEST_METRICS,
  find_best_evaluation,
  find_evaluations,
)
from coatnet_jax.checkpoints.resuming import restore_progress
from coatnet_jax.checkpoints.retention import (
  Checkpoints,
  EverySeconds,
  NewestAndBest,
)
from coatnet_jax.distributed.first_process import ask_first_process
from coatnet_jax.errors import UserError
from coatnet_jax.paths import resolve_path
from coatnet_jax.strict_json import to_json
from coatnet_jax.values import OneOf, Options, Range

# Orbax measures its timeouts by the time of day, which can be set forth in the
# middle of a save. None is to end a run; where processes wait for each other,
# `distributed/watchdog.py` notices one that hangs.
_TIMEOUT_SECONDS = 100 * 365 * 24 * 3600


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointOptions(Options, section='config.checkpoint'):
  """When checkpoints are saved and which are kept; see configs/base.py."""

  every_steps: Annotated[int, Range(at_least=0, at_most=2**31 - 1)]
  every_seconds: Annotated[float, Range(at_least=0, at_most=1e9)]
  max_to_keep: Annotated[int, Range(at_least=1, at_most=10**6)]
  best_metric: Annotated[str, OneOf(BEST_METRICS)]

  def is_due(self, step: int) -> bool:
    """Returns whether `every_steps` asks for a checkpoint at a step."""
    return bool(self.every_steps) and step % self.every_steps == 0


def checkpoint_directory(workdir: str | os.PathLike[str]) -> epath.Path:
  """Returns where a workdir has its checkpoints."""
  return resolve_path(workdir, 'the workdir') / 'checkpoints'


def has_checkpoint(workdir: str | os.PathLike[str]) -> bool:
  """Returns whether a run has saved one, to its end, in a workdir."""
  return bool(folder.find_steps(checkpoint_directory(workdir)))


def open_checkpoints(
  workdir: str, options: CheckpointOptions, report: Callable[[str], None]
) -> Checkpoints:
  """Opens a workdir's checkpoints for saving; removes half-written ones.

  `manager.should_save(step)` says whether `every_seconds` have passed.

  Args:
    workdir: directory of the run.
    options: when checkpoints are saved, and which are kept.
    report: function called with a sentence for the user.
  """
  directory = checkpoint_directory(workdir)
  folder.remove_unfinished(directory, report)
  folder.mend_helpers(directory, report)

  retention = NewestAndBest(
    _agree_on_evaluations(directory),
    max_to_keep=options.max_to_keep,
    best_metric=options.best_metric,
  )
  return Checkpoints(
    directory,
    retention=retention,
    options=ocp.CheckpointManagerOptions(
      async_options=ocp.options.AsyncOptions(
        timeout_secs=_TIMEOUT_SECONDS,
        # Else threads wait for it, for 300 s by that clock.
        create_directories_asynchronously=False,
      ),
      temporary_path_class=checksums.get_temporary_path_class(directory),
      preservation_policy=retention,
      save_decision_policy=EverySeconds(
        minimum_interval_secs=options.every_seconds
      )
      if options.every_seconds
      else policies.SpecificStepsPolicy(()),
    ),
  )


def _agree_on_evaluations(
  directory: epath.Path,
) -> dict[int, Mapping[str, float]]:
  """Returns the metrics of every step, as the first process reads them."""
  text = ask_first_process(
    lambda: to_json(find_evaluations(directory, folder.find_steps(directory)))
  )
  return {
    int(step): {
      name: math.nan if value is None else value
      for name, value in metrics.items()
    }
    for step, metrics in json.loads(text).items()
  }


class SavingError(UserError):
  """A checkpoint could not be written."""


def save_checkpoint(
  manager: Checkpoints,
  state: Any,
  *,
  step: int,
  progress: Progress,
  metadata: Metadata,
) -> None:
  """Starts writing a checkpoint; to be called on every process.

  Args:
    manager: checkpoint manager from `open_checkpoints`.
    state: `TrainState` to be saved.
    step: number of optimizer steps taken, as in the state.
    progress: numbers of examples and seconds until this step.
    metadata: what it takes to use the checkpoint.

  Raises:
    SavingError: this one, or the one before, cannot be written.
  """
  with _explain_failure(manager):
    manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        progress=ocp.args.JsonSave(dataclasses.asdict(progress)),
        metadata=ocp.args.JsonSave(dataclasses.asdict(metadata)),
      ),
      custom_metadata=checksums.CUSTOM_METADATA,
      force=True,
    )


def save_evaluation(
  manager: Checkpoints, step: int, metrics: Mapping[str, float]
) -> None:
  """Adds an evaluation to the checkpoint of its step; on every process.

  Args:
    manager: checkpoint manager from `open_checkpoints`.
    step: step that was evaluated, and saved before.
    metrics: measures of the evaluation.

  Raises:
    SavingError: it, or the checkpoint, cannot be written.
  """
  with _explain_failure(manager):
    manager.wait_until_finished()
    if jax.process_index() == 0:
      quality.write_metrics(epath.Path(manager.directory) / str(step), metrics)
    multihost_utils.sync_global_devices(f'evaluation {step} is saved')
    manager.evaluations[step] = metrics


class StepSaver:
  """What the loop does with the checkpoints of a run; on every process."""

  def __init__(
    self,
    manager: Checkpoints,
    metadata: Metadata,
    early_stopping: EarlyStopping,
  ):
    """Counts the evaluation of the newest checkpoint, if it has one.

    Args:
      manager: checkpoint manager from `open_checkpoints`.
      metadata: what each checkpoint says of the model and its data.
      early_stopping: what that checkpoint's progress says.
    """
    self._manager = manager
    self._early_stopping = early_stopping
    self._metadata = metadata
    self._saved_step = max(manager.all_steps(), default=0)
    self._is_writing = False
    if self._saved_step in manager.evaluations:
      early_stopping.update(
        self._saved_step, manager.evaluations[self._saved_step]
      )

  @property
  def stops_early(self) -> bool:
    """Whether evaluations have not become better for long enough.

    Not before the newest step is evaluated, with which a run ends.
    """
    return self._early_stopping.is_due and not self.lacks_evaluation()

  def is_complete(self, num_steps: int) -> bool:
    """Returns whether the step that ends the run is saved and evaluated.

    Args:
      num_steps: number of steps of the run.
    """
    ends = self._saved_step == num_steps or self._early_stopping.is_due
    return ends and self._saved_step in self._manager.evaluations

  @property
  def saved_step(self) -> int:
    """The newest step that was saved, or is about to be; 0 if there is none."""
    return self._saved_step

  def should_save(self, step: int) -> bool:
    """Returns whether enough time has passed to save a step."""
    return self._manager.should_save(step)

  def save(self, state: Any, step: int, progress: Progress) -> None:
    """Does what `save_checkpoint` does."""
    save_checkpoint(
      self._manager,
      state,
      step=step,
      progress=self._early_stopping.add_to(progress),
      metadata=self._metadata,
    )
    self._saved_step, self._is_writing = step, True

  def save_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
    """Does what the function of this name does, and counts the evaluation."""
    save_evaluation(self._manager, step, metrics)
    self._early_stopping.update(step, metrics)

  def lacks_evaluation(self) -> bool:
    """Returns whether the newest step is saved, and no evaluation of it."""
    step = self._saved_step
    return bool(step) and step not in self._manager.evaluations

  def check(self) -> None:
    """Raises SavingError where the last save has failed; does not wait for it.

    It costs nothing where nothing is being written: the loop calls it in each
    step.
    """
    if self._is_writing and not self._manager.is_saving_in_progress():
      self._is_writing = False
      finish_saving(self._manager)


def finish_saving(manager: Checkpoints) -> None:
  """Waits until all checkpoints are written; on every process.

  Args:
    manager: checkpoint manager from `open_checkpoints`.

  Raises:
    SavingError: one cannot be written.
  """
  with _explain_failure(manager):
    manager.wait_until_finished()


def remove_old_checkpoints(
  manager: Checkpoints, report: Callable[[str], None]
) -> None:
  """Removes the checkpoints that are not kept; on every process.

  Args:
    manager: checkpoint manager from `open_checkpoints`.
    report: function called with a sentence where one cannot be removed, which
      takes room and does no other harm.
  """
  try:
    manager.remove_old()
  except Exception as error:  # What removes from buckets has its own.
    logging.info('A checkpoint is left', exc_info=True)
    report(
      f'An old checkpoint in {manager.directory} cannot be removed:'
      f' {describe_failure(error)}.'
    )


def close_checkpoints(manager: Checkpoints) -> None:
  """Closes a manager, after an error of its own, too."""
  try:
    manager.close()
  except Exception:  # It has been said, or another one is.
    logging.exception('The checkpoints cannot be closed')


def describe_newest(manager: Checkpoints) -> str:
  """Returns what a run can be resumed from, for a sentence; '' if nothing."""
  steps = folder.find_steps_at_once(epath.Path(manager.directory))
  return f'the checkpoint of step {steps[-1]:,}' if steps else ''


@contextlib.contextmanager
def _explain_failure(manager: Checkpoints) -> Iterator[None]:
  """Context whose errors say what was lost, and what was not."""
  try:
    yield
  except (UserError, jax.errors.JaxRuntimeError):
    raise
  except Exception as error:  # Orbax and what writes to buckets have their own.
    saved = ''
    with contextlib.suppress(Exception):
      saved = describe_newest(manager)
    how = f'resumes from {saved}, the last good one' if saved else 'begins anew'
    raise SavingError(
      f'A checkpoint cannot be written to {manager.directory}:'
      f' {describe_failure(error)}. Make room there, or let it be written to;'
      f' then the same command {how}.'
    ) from error


def summarize(
  manager: Checkpoints,
  options: CheckpointOptions,
  *,
  examples_per_step: int,
) -> dict[str, Any]:
  """Returns what came out of a finished run, as JSON values.

  Args:
    manager: checkpoint manager from `open_checkpoints`.
    options: measure by which the best checkpoint is chosen.
    examples_per_step: number of examples that a step of the run takes.
  """
  directory = epath.Path(manager.directory)
  evaluations = find_evaluations(directory, manager.all_steps())
  last = max(manager.all_steps())
  best = find_best_evaluation(evaluations, options.best_metric)
  progress = restore_progress(
    directory / str(last), last * examples_per_step, logging.warning
  )
  rate = progress.examples_seen / max(progress.seconds_in_steps, 1e-9)
  return {
    'final': {'step': last, **evaluations.get(last, {})},
    'best': None if best is None else {'step': best, **evaluations[best]},
    'steps': last,
    'skipped_steps': progress.skipped_steps,
    'images_seen': progress.examples_seen,
    'seconds': round(progress.seconds, 1),
    'images_per_second': round(rate, 1),
  }
