"""How much a weights file may hold, whatever its format.

CoAtNet-7 has 1,300 tensors, and names of 60 characters.
"""

import pathlib
from collections.abc import Iterable

from coatnet_jax.errors import UserError

MAX_TENSORS = 10_000
MAX_NAME_LENGTH = 500


def check_count(count: int, path: pathlib.Path) -> None:
  """Raises UserError for more tensors than any model has.

  Args:
    count: number of the file's tensors.
    path: path of the file.
  """
  if count > MAX_TENSORS:
    raise UserError(
      f'{path} has {count:,} tensors; at most {MAX_TENSORS:,} are read. Save'
      ' the weights of the model alone.'
    )


def check_names(names: Iterable[str], path: pathlib.Path) -> None:
  """Raises UserError for a name that no terminal shows, or that is too long."""
  for name in names:
    if len(name) > MAX_NAME_LENGTH or not name.isprintable():
      raise UserError(
        f'{path} has a tensor named {name[:60]!r}'
        + ' ...' * (len(name) > 60)
        + f'; names of at most {MAX_NAME_LENGTH} printable characters are'
        ' read. Rename it, or get the file again.'
      )
