"""What lies in a folder of checkpoints: theirs, Orbax's leftovers, others'."""

import re
from collections.abc import Callable

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

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
    for path in sorted(directory.iterdir()):
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
