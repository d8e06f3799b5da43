"""What lies in a folder of checkpoints: theirs, Orbax's leftovers, others'."""

import re
from collections.abc import Callable

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from coatnet_jax.checkpoints import checksums, orbax_metadata, quality
from coatnet_jax.checkpoints.reading import try_again

# Where what is damaged is put aside, beside the directory of good checkpoints.
DAMAGED_DIRECTORY = 'damaged_checkpoints'
_STEP = re.compile(r'0|[1-9][0-9]*')
_UNFINISHED = re.compile(
  rf'({_STEP.pattern})({re.escape(ocp.utils.TMP_DIR_SUFFIX)}.*)?'
)


def find_steps(directory: epath.Path) -> list[int]:
  """Returns the steps of the checkpoints that were written to their end.

  What has another name than a number is not one of them: a copy, a notebook's
  or a file system's folder.

  Args:
    directory: directory of the checkpoints; need not exist.
  """
  return try_again(lambda: find_steps_at_once(directory))


def find_steps_at_once(directory: epath.Path) -> list[int]:
  """Does what `find_steps` does, where a disk that fails is not waited for."""
  if not directory.is_dir():
    return []
  return sorted(
    int(path.name)
    for path in directory.iterdir()
    if _STEP.fullmatch(path.name)
    and path.is_dir()
    and ocp.utils.is_checkpoint_finalized(path)
  )


def remove_unfinished(
  directory: epath.Path, report: Callable[[str], None]
) -> None:
  """Removes the checkpoints that Orbax did not write to their end.

  To be called by all processes. Orbax's own cleaning would, in a bucket, take
  every folder for one of its own.

  Args:
    directory: directory of the checkpoints; need not exist.
    report: function called with a sentence for each.
  """
  if jax.process_index() == 0 and directory.is_dir():
    for path in try_again(lambda: sorted(directory.iterdir())):
      if not _UNFINISHED.fullmatch(path.name) or not path.is_dir():
        continue
      if ocp.utils.is_checkpoint_finalized(path):
        continue
      try:
        path.rmtree()
      except OSError as error:
        report(
          f'{path} was not written to its end, and cannot be removed'
          f' ({error.strerror or error}); it is not used.'
        )
      else:
        report(f'Checkpoint {path.name} was not written to its end; removed.')
  multihost_utils.sync_global_devices('unfinished checkpoints are removed')


def mend_helpers(directory: epath.Path, report: Callable[[str], None]) -> None:
  """Mends, or moves away, damaged files without which the arrays are whole.

  To be called by all processes, before Orbax opens the folder and reads them. A
  step whose evaluation is damaged counts as not evaluated.

  Args:
    directory: directory of the checkpoints; need not exist.
    report: function called with a sentence for each.
  """
  if jax.process_index() == 0:
    steps = find_steps(directory)
    for step in steps:
      try:
        _mend_step(directory, step, report, is_newest=step == max(steps))
      except OSError as error:
        report(
          f'Step {step:,} has damaged files beside its arrays, which cannot be'
          f' mended ({error.strerror or error}).'
        )
  multihost_utils.sync_global_devices('helpers of checkpoints are mended')


def _mend_step(
  directory: epath.Path,
  step: int,
  report: Callable[[str], None],
  *,
  is_newest: bool,
) -> None:
  path = directory / str(step)
  copy = checksums.read_orbax_copy(path)
  if not orbax_metadata.is_whole(path, copy):
    orbax_metadata.mend(path, copy)
    report(f"Orbax's description of step {step:,} was damaged; mended.")
  damage = checksums.find_damage(path, ('metrics',))
  if checksums.CHECKSUMS_FILE in damage:
    return  # Which says nothing of the evaluation.
  try:
    quality.read_metrics(path)
  except ValueError as error:
    # An older checkpoint may be kept as the best alone, and is not deleted for
    # its evaluation that nobody can read.
    source = path / 'metrics' if is_newest else path
    name = f'{step}_metrics' if is_newest else str(step)
    moved = ''
    if source.exists():
      target = find_place_aside(directory, name)
      target.parent.mkdir(exist_ok=True)
      source.rename(target)
      what = 'was' if is_newest else 'the whole step was'
      moved = f'; {what} moved to {target}'
    report(
      f'The evaluation of step {step:,} is damaged ({error}){moved}. The step'
      ' counts as not evaluated.'
    )


def find_place_aside(directory: epath.Path, name: str) -> epath.Path:
  """Returns a new path for what is moved out of a folder of checkpoints.

  Args:
    directory: directory of the checkpoints.
    name: name of what is moved, in `damaged_checkpoints` beside it.
  """
  aside = directory.parent / DAMAGED_DIRECTORY
  target, number = aside / name, 1
  while target.exists():
    number += 1
    target = aside / f'{name}_{number}'
  return target
