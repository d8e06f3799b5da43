"""What Orbax says of a step in a file that it needs to open the folder."""

from typing import Any

from etils import epath

from coatnet_jax.checkpoints.reading import try_again
from coatnet_jax.paths import write_whole
from coatnet_jax.strict_json import read_mapping, to_json

FILE = '_CHECKPOINT_METADATA'
# What Orbax writes of a step, and the types of these values.
_TYPES = {
  'item_handlers': dict | str | None,
  'metrics': dict,
  'performance_metrics': dict,
  'init_timestamp_nsecs': int | None,
  'commit_timestamp_nsecs': int | None,
  'custom_metadata': dict | None,
}


def read(directory: epath.Path) -> dict[str, Any] | None:
  """Returns what Orbax says of a step; None if that is not readable."""
  try:
    says = try_again(lambda: read_mapping(directory / FILE))
  except Exception:  # What reads buckets raises kinds of its own.
    return None
  is_readable = all(
    isinstance(value, _TYPES.get(name, object)) for name, value in says.items()
  )
  return says if is_readable else None


def is_whole(directory: epath.Path, copy: dict[str, Any] | None) -> bool:
  """Returns whether what Orbax says of a step is as it was written.

  Where it is not, Orbax may refuse to open the whole folder; nothing that is
  restored depends on it.

  Args:
    directory: directory of the checkpoint.
    copy: copy of it beside the checksums, if there is one.
  """
  found = read(directory)
  if copy is not None:
    return found is not None and _without_commit_time(found) == copy
  if not (directory / FILE).exists():
    return True  # It can do without.
  return found is not None and found.keys() <= _TYPES.keys()


def mend(directory: epath.Path, copy: dict[str, Any] | None) -> None:
  """Writes what Orbax says of a step anew, or puts it aside without a copy.

  Args:
    directory: directory of a checkpoint where it is not whole.
    copy: copy of it beside the checksums, if there is one.
  """
  path = directory / FILE
  if copy is None or path.is_dir():
    path.rename(path.with_name(f'{FILE}.damaged'))
  if copy is not None:
    # In its place, whatever is there: a link, perhaps, to another's file.
    write_whole(path, to_json(copy))


def _without_commit_time(says: dict[str, Any]) -> dict[str, Any]:
  """Returns what Orbax says before a checkpoint counts."""
  return {**says, 'commit_timestamp_nsecs': None}
