"""Checksums of a checkpoint's files: written last, verified before it is used.

`checksums.json` in the directory of a step has the size of each of its files,
and the BLAKE3 of each part of them. It is written when all others are complete
and before the checkpoint counts as one, so that a checkpoint either has it or
is unfinished. What older versions of this project wrote has SHA-256, which
takes two to three times as long; what the oldest wrote has no checksums, and
cannot be verified.

It also has a copy of what Orbax says of the step in a file that is written
later, and which Orbax needs to open the folder: `orbax_metadata.py`.
"""

import concurrent.futures
import hashlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import blake3
import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint.path import atomicity

from coatnet_jax.checkpoints import orbax_metadata
from coatnet_jax.checkpoints.reading import describe_read_failure, try_again
from coatnet_jax.errors import UserError
from coatnet_jax.paths import is_plain_file, write_whole
from coatnet_jax.strict_json import MAX_BYTES, read_mapping, to_json

CHECKSUMS_FILE = 'checksums.json'
# Says in Orbax's own file that there are checksums: without them a checkpoint
# that has this is damaged, and one that has not is of an older version.
CUSTOM_METADATA = {'checksums': CHECKSUMS_FILE}

# What Orbax reads as JSON.
_ORBAX_JSON = (orbax_metadata.FILE, '_METADATA', '_sharding')
# What a checkpoint has, a directory each.
ITEMS = ('state', 'progress', 'metadata', 'metrics')
# Orbax writes these after everything else.
_UNCHECKED = (
  orbax_metadata.FILE,
  'commit_success.txt',
  CHECKSUMS_FILE,
  '.partial',  # What `write_whole` was writing when it was killed.
)
# A file is read in parts, several at a time; to verify a checkpoint, by all
# processes, each its share. The first one alone computes the sums of a new one,
# while training goes on.
_PART_BYTES = 32 << 20
# What is in memory of a part.
_CHUNK_BYTES = 1 << 20
_NUM_THREADS = 16
# Hash functions of parts, by their names in the file.
_HASHES: dict[str, Callable[[], Any]] = {
  'blake3': blake3.blake3,
  'sha256': hashlib.sha256,
}
_NEW_HASH = 'blake3'
# What a process says of damage that only another one has found.
DAMAGE_ELSEWHERE = {'a file': 'is damaged, as another process found'}

_Result = TypeVar('_Result')


def write_checksums(directory: epath.Path) -> None:
  """Writes the checksums of a checkpoint whose files are complete.

  Args:
    directory: directory of the checkpoint.
  """
  _write_sums(
    directory,
    {
      'files': _compute_sums(directory, _list_files(directory)),
      'orbax': orbax_metadata.read(directory),
    },
  )


def add_checksums(directory: epath.Path, item: str) -> None:
  """Adds those of an item that was written later, when its files are complete.

  Args:
    directory: directory of the checkpoint.
    item: item that has none yet; where no other has any, it gets none.

  Raises:
    ValueError: the checksums are damaged.
  """
  if not has_checksums(directory):
    return
  sums = _read_checksums(directory)
  sums['files'] |= _compute_sums(directory, _list_files(directory / item, item))
  _write_sums(directory, sums)


def is_covered(directory: epath.Path, item: str) -> bool:
  """Returns whether an item has checksums, or the checkpoint has none at all.

  Args:
    directory: directory of the checkpoint.
    item: item that may have been written without them.
  """
  if not has_checksums(directory):
    return True
  files = _read_checksums(directory)['files']
  return any(name.split('/')[0] == item for name in files)


def has_checksums(directory: epath.Path) -> bool:
  """Returns whether a checkpoint can be verified, or should be able to."""
  if (directory / CHECKSUMS_FILE).exists():
    return True
  says = orbax_metadata.read(directory) or {}
  return says.get('custom_metadata') == CUSTOM_METADATA


def read_orbax_copy(directory: epath.Path) -> dict[str, Any] | None:
  """Returns what Orbax said of a step when its checksums were written."""
  try:
    return _read_checksums(directory)['orbax']
  except Exception:  # What reads buckets raises kinds of its own.
    return None


def find_damage(
  directory: epath.Path,
  items: Sequence[str] = (),
  *,
  share: tuple[int, int] = (0, 1),
) -> dict[str, str]:
  """Compares a checkpoint's files with its checksums.

  Args:
    directory: directory of the checkpoint.
    items: items whose files are compared: 'state', for example; all if empty.
    share: (k, n) compares the k-th of n shares of the files' parts, from 0, for
      n processes that each take one.

  Returns:
    What is wrong, by the name of the file in the checkpoint: empty where
    nothing is, or where there are no checksums to compare with.
  """
  if odd := _find_odd_files(directory, items):
    return odd
  if not has_checksums(directory):
    return {}
  try:
    files = _read_checksums(directory)['files']
  except UserError:
    raise  # Whole, and of a newer version.
  except ValueError as error:
    return {CHECKSUMS_FILE: str(error)}
  except Exception as error:  # What reads buckets raises kinds of its own.
    return {CHECKSUMS_FILE: describe_read_failure(error)}
  wanted = {
    name: entry
    for name, entry in files.items()
    if not items or name.split('/')[0] in items
  }
  parts = [
    part
    for name, entry in wanted.items()
    for part in _split_file(name, entry['bytes'])
  ][share[0] :: share[1]]

  def compare(part):
    return _compare_part(directory, *part, wanted[part[0]])

  found = zip(parts, _map_parts(compare, parts))
  return {name: wrong for (name, _), wrong in found if wrong}


def find_damage_together(
  directory: epath.Path, items: Sequence[str] = ()
) -> dict[str, str]:
  """Does what `find_damage` does, each process its share of the files.

  To be called by all processes.

  Args:
    directory: directory of the checkpoint.
    items: items whose files are compared; all if empty.

  Returns:
    What is wrong, by the name of the file: empty on all processes or on none.
  """
  share = (jax.process_index(), jax.process_count())
  damage = find_damage(directory, items, share=share)
  if is_good_everywhere(not damage):
    return {}
  return damage or DAMAGE_ELSEWHERE


def is_good_everywhere(is_good: bool) -> bool:
  """Returns whether something went well on every process; called by all."""
  return bool(multihost_utils.process_allgather(np.asarray(is_good)).all())


def describe_damage(damage: dict[str, str]) -> str:
  """Returns what is wrong with a checkpoint's files, for a sentence.

  Args:
    damage: what is wrong by the name of a file, from `find_damage`; not empty.
  """
  name, wrong = min(damage.items())
  others = len(damage) - 1
  more = f', and {others} more of its files' if others else ''
  return f'{name} {wrong}{more}'


def get_temporary_path_class(directory: epath.Path) -> type:
  """Returns Orbax's class for unfinished checkpoints, with checksums.

  Args:
    directory: directory of the checkpoints, perhaps of a bucket.
  """
  if ocp.utils.is_gcs_path(directory):
    return _ChecksummedCommitFile
  return _ChecksummedRename


class _ChecksummedRename(atomicity.AtomicRenameTemporaryPath):
  """A directory that is renamed when it is complete."""

  async def finalize(self) -> None:
    """Writes the checksums, then makes the checkpoint count."""
    _write_checksums_of_step(self)
    await super().finalize()


class _ChecksummedCommitFile(atomicity.CommitFileTemporaryPath):
  """A directory that counts once it has a file that says so, on buckets."""

  async def finalize(self) -> None:
    """Writes the checksums, then makes the checkpoint count."""
    _write_checksums_of_step(self)
    await super().finalize()


def _write_checksums_of_step(path: Any) -> None:
  # Orbax makes such a path of each item, too, before that of the step.
  if path.get_final().name.isdigit():
    write_checksums(path.get())


def _compute_sums(
  directory: epath.Path, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
  """Returns the sizes and checksums of a checkpoint's files, by their names."""
  sizes = {name: try_again((directory / name).stat).length for name in names}
  parts = [part for name in names for part in _split_file(name, sizes[name])]
  files = {name: {'bytes': sizes[name], _NEW_HASH: []} for name in names}
  digests = _map_parts(
    lambda part: try_again(lambda: _hash_part(directory, *part, _NEW_HASH)),
    parts,
  )
  for (name, _), digest in zip(parts, digests):
    files[name][_NEW_HASH].append(digest)
  return files


def _write_sums(directory: epath.Path, sums: dict[str, Any]) -> None:
  """Writes the checksums, whole or not at all."""
  text = to_json({**sums, 'sha256': _compute_own_sum(sums)}, indent=1)
  write_whole(directory / CHECKSUMS_FILE, text)


def _read_checksums(directory: epath.Path) -> dict[str, Any]:
  """Returns what `write_checksums` wrote.

  Raises:
    ValueError: it is damaged.
  """
  sums = try_again(lambda: read_mapping(directory / CHECKSUMS_FILE))
  try:
    own_sum = sums.pop('sha256')
    if own_sum == _compute_own_sum(sums) and _is_well_formed(sums['files']):
      return sums
  except UserError:
    raise
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
    pass
  raise ValueError('is damaged')


def _is_well_formed(files: Mapping[str, Any]) -> bool:
  """Returns whether sums are of files below a checkpoint, a part each.

  Whoever writes the sums can also compute their own.
  """
  return all(
    not (parts := pathlib.PurePosixPath(name)).is_absolute()
    and '..' not in parts.parts
    and type(entry['bytes']) is int
    and len(entry[_find_hash(entry)]) == _count_parts(entry['bytes'])
    for name, entry in files.items()
  )


def _find_odd_files(
  directory: epath.Path, items: Sequence[str]
) -> dict[str, str]:
  """Returns what a checkpoint has that is not to be read.

  To read a pipe or a device may never end, nor may JSON of any size, which
  Orbax reads whole. Buckets have no such things as the first two.
  """
  if '://' in str(directory):
    return {}
  found = {}
  for item in ('.', *(items or ITEMS)):
    for parent, folders, names in os.walk(directory / item):
      if item == '.':
        folders.clear()
      for name in names:
        path = os.path.join(parent, name)
        if not os.path.isfile(path):
          found[os.path.relpath(path, directory)] = 'is no file'
        elif name in _ORBAX_JSON and os.path.getsize(path) > MAX_BYTES:
          found[os.path.relpath(path, directory)] = 'is too large'
  return found


def _list_files(directory: epath.Path, prefix: str = '') -> list[str]:
  """Returns the files below a directory as 'state/d/0', sorted.

  Args:
    directory: directory of a checkpoint, or of one of its items.
    prefix: name of the item.
  """
  names = []
  for folder, _, files in directory.walk():
    parent = prefix / folder.relative_to(directory)
    names += [(parent / file).as_posix() for file in files]
  return sorted(name for name in names if not name.endswith(_UNCHECKED))


def _split_file(name: str, size: int) -> list[tuple[str, int]]:
  """Returns the parts of a file that are read at a time, by their numbers."""
  return [(name, k) for k in range(_count_parts(size))]


def _count_parts(size: int) -> int:
  """Returns how many parts a file of so many bytes is read in."""
  return max(1, -(-size // _PART_BYTES))


def _map_parts(
  function: Callable[[tuple[str, int]], _Result],
  parts: Sequence[tuple[str, int]],
) -> list[_Result]:
  """Returns a function's results for parts of files, several at a time."""
  with concurrent.futures.ThreadPoolExecutor(
    min(_NUM_THREADS, os.cpu_count() or 1), 'checksums'
  ) as pool:
    return list(pool.map(function, parts))


def _find_hash(entry: Mapping[str, Any]) -> str:
  """Returns the name of the hash function of a file's parts.

  Raises:
    UserError: none of them is known here.
  """
  for name in _HASHES:
    if name in entry:
      return name
  raise UserError(
    f'{CHECKSUMS_FILE} of a checkpoint has sums of a kind that is not known'
    f' here ({", ".join(sorted(set(entry) - {"bytes"}))}): a newer version of'
    ' this project wrote it. Use that one.'
  )


def _hash_part(
  directory: epath.Path, name: str, number: int, function: str
) -> str:
  """Returns the checksum of a part of a file, in hexadecimal digits.

  Args:
    directory: directory of the checkpoint.
    name: name of the file in it.
    number: number of the part, from 0.
    function: name of the hash function.
  """
  digest, left = _HASHES[function](), _PART_BYTES
  with (directory / name).open('rb') as file:
    file.seek(number * _PART_BYTES)
    while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
      digest.update(chunk)
      left -= len(chunk)
  return digest.hexdigest()


def _compare_part(
  directory: epath.Path, name: str, number: int, wanted: dict[str, Any]
) -> str:
  """Returns what is wrong with a file, as far as a part of it tells, or ''."""
  function = _find_hash(wanted)

  def is_as_it_was():
    found = _hash_part(directory, name, number, function)
    return found == wanted[function][number]

  try:
    size = try_again((directory / name).stat).length
    if not is_plain_file(directory / name):
      return 'is no file'
    if size != wanted['bytes']:
      return f'has {size:,} bytes instead of {wanted["bytes"]:,}'
    if try_again(is_as_it_was) or is_as_it_was():  # Reading it may go wrong.
      return ''
  except Exception as error:  # What reads buckets raises kinds of its own.
    return describe_read_failure(error)
  return 'has another checksum'


def _compute_own_sum(sums: dict[str, Any]) -> str:
  """Returns the SHA-256 of the checksums themselves."""
  return hashlib.sha256(to_json(sums, sort_keys=True).encode()).hexdigest()
