"""Saving the checkpoints of a run, and resuming from the newest.

Reading one to use its model is `trained_model.py`'s. One format serves both:
an Orbax checkpoint per kept step, under `<workdir>/checkpoints/<step>`:
  state     the `TrainState`, all of it;
  progress  the data position and the time taken: `Progress`;
  metadata  what model and images need: `Metadata`;
  metrics   of the evaluation at that step, if there was one.
Writing is asynchronous, and a checkpoint counts only once it is complete.
"""

import dataclasses
import datetime
import os
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from coatnet_jax.checkpoints import folder
from coatnet_jax.checkpoints.metadata import (
  Metadata,
  Progress,
  describe_failure,
)
from coatnet_jax.checkpoints.quality import (
  BEST_METRICS,
  best_evaluation,
  compute_quality,
  find_evaluations,
)
from coatnet_jax.errors import UserError
from coatnet_jax.paths import resolve_path
from coatnet_jax.strict_json import null_for_nan
from coatnet_jax.values import OneOf, Options, Range

# Where a damaged checkpoint is put aside, beside the directory of good ones.
DAMAGED_DIRECTORY = 'damaged_checkpoints'

_clock = time.monotonic
_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


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
) -> ocp.CheckpointManager:
  """Opens a workdir's checkpoints for saving; removes half-written ones.

  `manager.should_save(step)` says whether `every_seconds` have passed.

  Args:
    workdir: directory of the run.
    options: when checkpoints are saved, and which are kept.
    report: function called with a sentence for the user.
  """
  directory = checkpoint_directory(workdir)
  folder.remove_unfinished(directory, report)

  def get_quality(metrics):
    return compute_quality(metrics, options.best_metric)

  return ocp.CheckpointManager(
    directory,
    options=ocp.CheckpointManagerOptions(
      best_fn=get_quality,
      preservation_policy=policies.AnyPreservationPolicy(
        [
          policies.LatestN(options.max_to_keep),
          policies.BestN(
            get_metric_fn=get_quality,
            n=1,
            keep_checkpoints_without_metrics=False,
          ),
        ]
      ),
      save_decision_policy=_EverySeconds(
        minimum_interval_secs=options.every_seconds
      )
      if options.every_seconds
      else policies.SpecificStepsPolicy(()),
    ),
  )


class _EverySeconds(policies.ContinuousCheckpointingPolicy):
  """Orbax's policy by time, with a clock that nobody sets.

  Orbax compares the host's time with that of the newest checkpoint's files: a
  host that was ahead when it wrote them would not save for as long.
  """

  _newest: int | None = None
  _seen: float = 0.0

  def should_save(self, step, previous_steps, *, context) -> bool:
    """Returns whether a checkpoint is due; see the base class."""
    newest, now = max((s.step for s in previous_steps), default=None), _clock()
    if newest != self._newest:
      self._newest, self._seen = newest, now
    return super().should_save(
      _Moment(step.step, None, _EPOCH + datetime.timedelta(seconds=now)),
      []
      if newest is None
      else [
        _Moment(newest, None, _EPOCH + datetime.timedelta(seconds=self._seen))
      ],
      context=context,
    )


class _Moment(NamedTuple):
  """When a step was taken: Orbax's `PolicyCheckpointInfo`."""

  step: int
  metrics: None
  time: datetime.datetime


def save_checkpoint(
  manager: ocp.CheckpointManager,
  state: Any,
  *,
  step: int,
  progress: Progress,
  metadata: Metadata,
  metrics: Mapping[str, float] | None = None,
) -> None:
  """Starts writing a checkpoint; to be called on every process.

  Args:
    manager: checkpoint manager from `open_checkpoints`.
    state: `TrainState` to be saved.
    step: number of optimizer steps taken, as in the state.
    progress: how far the run has come.
    metadata: what it takes to use the checkpoint.
    metrics: measures of this step's evaluation, if there was one.
  """
  manager.save(
    step,
    args=ocp.args.Composite(
      state=ocp.args.StandardSave(state),
      progress=ocp.args.JsonSave(dataclasses.asdict(progress)),
      metadata=ocp.args.JsonSave(dataclasses.asdict(metadata)),
    ),
    metrics=null_for_nan(metrics) if metrics else None,
    force=True,
  )


def restore_newest(
  manager: ocp.CheckpointManager,
  abstract_state: Any,
  report: Callable[[str], None],
) -> tuple[Any, Progress] | None:
  """Restores the newest checkpoint that is whole.

  One that cannot be read is reported and put aside, once an older one has
  been read.

  Args:
    manager: checkpoint manager from `open_checkpoints`.
    abstract_state: tree of `jax.ShapeDtypeStruct` with shardings.
    report: function called with a sentence for the user.

  Returns:
    (state, progress), or None where there is no checkpoint at all.

  Raises:
    UserError: there are checkpoints, and none can be read.
  """
  failures = {}
  for step in sorted(manager.all_steps(), reverse=True):
    restored, failure = None, 'on another process'
    try:
      restored = manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(abstract_state),
          progress=ocp.args.JsonRestore(),
        ),
      )
    except Exception as error:  # Orbax raises many kinds for missing files.
      logging.exception('Checkpoint %d cannot be read', step)
      failure = describe_failure(error)
    if not _all_processes(restored is not None):
      failures[step] = failure
      continue
    for failed, reason in failures.items():
      moved_to = _put_aside(manager, failed)
      report(
        f'The checkpoint of step {failed} is incomplete ({reason}) and was'
        f' moved to {moved_to}.'
      )
    report(f'Resuming from the checkpoint of step {step:,}.')
    return restored.state, Progress(**restored.progress)
  if failures:
    raise UserError(
      f'None of the checkpoints in {manager.directory} can be read by this'
      ' config: '
      + '; '.join(f'step {step}: {why}' for step, why in failures.items())
    )
  return None


def _all_processes(is_good: bool) -> bool:
  """Returns whether something went well on every process."""
  return bool(multihost_utils.process_allgather(np.asarray(is_good)).all())


def _put_aside(manager: ocp.CheckpointManager, step: int) -> epath.Path:
  """Moves a checkpoint out of the manager's sight, so that nothing is lost."""
  source = epath.Path(manager.directory) / str(step)
  directory = source.parent.parent / DAMAGED_DIRECTORY
  target, number = directory / str(step), 1
  while target.exists():
    number += 1
    target = directory / f'{step}_{number}'
  # Everybody has looked where it goes before the first process moves it, and
  # nobody looks what is left before it has.
  multihost_utils.sync_global_devices(f'put aside {step}: {target}')
  if jax.process_index() == 0:
    directory.mkdir(exist_ok=True)
    source.rename(target)
  multihost_utils.sync_global_devices(f'moved {step}: {target}')
  manager.reload()
  return target


def summarize(
  manager: ocp.CheckpointManager, options: CheckpointOptions
) -> dict[str, Any]:
  """Returns what came out of a finished run, as JSON values."""
  evaluations = find_evaluations(manager)
  last = max(evaluations)
  best = best_evaluation(evaluations, options.best_metric)
  progress = Progress(
    **manager.restore(
      last, args=ocp.args.Composite(progress=ocp.args.JsonRestore())
    ).progress
  )
  rate = progress.examples_seen / max(progress.seconds_in_steps, 1e-9)
  return {
    'final': {'step': last, **evaluations[last]},
    'best': None if best is None else {'step': best, **evaluations[best]},
    'steps': last,
    'images_seen': progress.examples_seen,
    'seconds': round(progress.seconds, 1),
    'images_per_second': round(rate, 1),
  }
