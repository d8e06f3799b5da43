"""Resuming a run from the newest of its checkpoints that is whole."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from coatnet_jax.checkpoints import checksums, folder
from coatnet_jax.checkpoints.metadata import (
  Progress,
  describe_failure,
  read_json_item,
)
from coatnet_jax.checkpoints.reading import try_again
from coatnet_jax.checkpoints.retention import Checkpoints
from coatnet_jax.distributed.first_process import ask_first_process
from coatnet_jax.errors import UserError
from coatnet_jax.strict_json import to_json
from coatnet_jax.training.finite import describe_names, find_not_finite


def restore_newest(
  manager: Checkpoints,
  abstract_state: Any,
  report: Callable[[str], None],
  *,
  examples_per_step: int,
) -> tuple[Any, Progress] | None:
  """Restores the newest checkpoint that is whole.

  One whose arrays are damaged, or cannot be read, is reported and put aside
  once an older one has been read. Damage to its other files blocks nothing.

  Args:
    manager: checkpoint manager from `open_checkpoints`.
    abstract_state: tree of `jax.ShapeDtypeStruct` with shardings.
    report: function called with a sentence for the user.
    examples_per_step: number of examples that a step of the run takes.

  Returns:
    (state, progress), or None where there is no checkpoint at all.

  Raises:
    UserError: there are checkpoints, and none can be read.
  """
  failures = {}
  for step in sorted(manager.all_steps(), reverse=True):
    directory = epath.Path(manager.directory) / str(step)
    state, failure = restore_step(directory, step, abstract_state)
    if state is None:
      failures[step] = failure
      continue
    for failed, reason in failures.items():
      moved_to = _put_aside(manager, failed)
      report(
        f'The checkpoint of step {failed:,} is damaged ({reason}) and was moved'
        f' to {moved_to}.'
      )
    report(f'Resuming from the checkpoint of step {step:,}.')
    progress = restore_progress(directory, step * examples_per_step, report)
    _report_metadata(directory, report)
    return state, progress
  if failures:
    raise UserError(
      f'None of the checkpoints in {manager.directory} can be read by this'
      ' config: '
      + '; '.join(f'step {step}: {why}' for step, why in failures.items())
    )
  return None


def restore_step(
  directory: epath.Path, step: int, abstract_state: Any
) -> tuple[Any, str]:
  """Returns the state of a step, or None and what is wrong with it.

  To be called by all processes, which agree.

  Args:
    directory: directory of the step's checkpoint.
    step: number of the step.
    abstract_state: tree of `jax.ShapeDtypeStruct` with shardings.
  """
  state, failure = _restore_state(directory, step, abstract_state)
  if not checksums.is_good_everywhere(state is not None):
    return None, failure or 'on another process'
  if names := find_not_finite(state):  # Older versions saved that.
    return None, describe_names(names)
  return state, ''


def _restore_state(
  directory: epath.Path, step: int, abstract_state: Any
) -> tuple[Any, str]:
  """Returns the state of a step if it is whole, or None and what is wrong."""
  if damage := checksums.find_damage_together(directory, ('state',)):
    return None, checksums.describe_damage(damage)
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      state = try_again(
        lambda: checkpointer.restore(directory / 'state', abstract_state)
      )
  except Exception as error:  # Orbax raises many kinds for missing files.
    logging.exception('Checkpoint %d cannot be read', step)
    return None, describe_failure(error)
  if int(state.step) != step:  # It was renamed, or copied.
    return None, f'it is of step {int(state.step):,}'
  return state, ''


def restore_progress(
  directory: epath.Path, examples_seen: int, report: Callable[[str], None]
) -> Progress:
  """Returns how far the run has come, which its step knows too.

  To be called by all processes.

  Args:
    directory: directory of the checkpoint.
    examples_seen: number of examples that so many steps take.
    report: function called with a sentence for the user.
  """
  said: list[str] = []
  # One answer for all: what it counts may end the run.
  text = ask_first_process(
    lambda: to_json(
      dataclasses.asdict(_read_progress(directory, examples_seen, said.append))
    )
  )
  for line in said:
    report(line)
  return Progress(**json.loads(text))


def _read_progress(
  directory: epath.Path, examples_seen: int, report: Callable[[str], None]
) -> Progress:
  """Does what `restore_progress` does, on one process."""
  damage = checksums.find_damage(directory, ('progress',))
  problem = checksums.describe_damage(damage) if damage else ''
  if not problem:
    try:
      progress = Progress(**read_json_item(directory / 'progress'))
      if progress.examples_seen == examples_seen:
        return progress
      problem = (
        f'it says {progress.examples_seen!r} examples, and the steps take'
        f' {examples_seen:,}'
      )
    except Exception as error:  # Orbax raises many kinds for missing files.
      problem = describe_failure(error)
  report(
    f'The progress of {directory} is damaged ({problem}); the data are resumed'
    ' where the step says. The time taken until then is not known; skipped'
    ' steps, and evaluations that were not better, are counted anew.'
  )
  return Progress(examples_seen=examples_seen)


def _report_metadata(
  directory: epath.Path, report: Callable[[str], None]
) -> None:
  """Says where a checkpoint can be resumed from, and its model not be used."""
  if damage := checksums.find_damage(directory, ('metadata',)):
    report(
      f'The metadata of {directory} is damaged'
      f' ({checksums.describe_damage(damage)}). Resuming needs none of it; to'
      ' predict, evaluate or finetune, another step is used.'
    )


def _put_aside(manager: Checkpoints, step: int) -> epath.Path:
  """Moves a checkpoint out of the manager's sight, so that nothing is lost."""
  source = epath.Path(manager.directory) / str(step)
  target = folder.find_place_aside(source.parent, str(step))
  # Everybody has looked where it goes before the first process moves it, and
  # nobody looks what is left before it has.
  multihost_utils.sync_global_devices(f'put aside {step}: {target}')
  if jax.process_index() == 0:
    target.parent.mkdir(exist_ok=True)
    source.rename(target)
  multihost_utils.sync_global_devices(f'moved {step}: {target}')
  manager.evaluations.pop(step, None)
  manager.reload()
  return target
