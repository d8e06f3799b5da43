"""One shard: images read, verified and written as TFDS writes them.

A shard appears under its name when it is whole, together with a note of what
is in it; what it holds depends on nothing but its own images.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import uuid
from collections.abc import Iterator

from array_record.python import array_record_module
from tensorflow_datasets.proto import tf_example_pb2

from coatnet_jax.data.preparation.examples import Examples, PreparationSource
from coatnet_jax.data.preparation.verification import (
  DroppedImageError,
  verify_image,
)
from coatnet_jax.errors import UserError
from coatnet_jax.strict_json import to_json
from coatnet_jax.texts import printable

# The folder of notes and unfinished files in a data set that is not complete.
WORK_FOLDER = '.preparing'
# Records one by one, so that any can be read alone, and as they are: images
# are compressed already.
_WRITER_OPTIONS = 'group_size:1,uncompressed'
# The largest size of a file that is read: as without any compression.
_BYTES_PER_PIXEL = 4
_HEADER_BYTES = 2**20
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclasses.dataclass(frozen=True)
class Shard:
  """What to write.

  Attributes:
    directory: directory of the data set.
    file_name: name of the file in it.
    examples: images that the shard is to hold.
    max_pixels: largest number of pixels of an image; see `verify_image`.
  """

  directory: pathlib.Path
  file_name: str
  examples: Examples
  max_pixels: int

  @property
  def path(self) -> pathlib.Path:
    """Where the shard will be."""
    return self.directory / self.file_name

  @property
  def note_path(self) -> pathlib.Path:
    """Where the note of it will be."""
    return self.directory / WORK_FOLDER / f'{self.file_name}.json'


@dataclasses.dataclass(frozen=True)
class WrittenShard:
  """What is known of a shard that is whole.

  Attributes:
    num_examples: number of images in the shard.
    num_bytes: size of the records in bytes.
    file_bytes: size of the file in bytes.
    sha256: the file's SHA-256, in hexadecimal digits.
    changed: name, and what was done, of each image that was encoded anew.
    dropped: name, and the reason, of each image that is not in it.
  """

  num_examples: int
  num_bytes: int
  file_bytes: int
  sha256: str
  changed: list[list[str]]
  dropped: list[list[str]]


def read_note(shard: Shard) -> WrittenShard | None:
  """Returns what is known of a shard that is whole; None if it is not."""
  try:
    note = json.loads(shard.note_path.read_text(encoding='utf-8'))
    written = WrittenShard(**note)
    whole = shard.path.stat().st_size == written.file_bytes
  except (OSError, ValueError, TypeError):
    return None
  return written if whole else None


def write_shard(source: PreparationSource, shard: Shard) -> WrittenShard:
  """Writes a shard and the note of it.

  Args:
    source: source that the examples lie in.
    shard: images, and the file to write them to.

  Returns:
    What was written.

  Raises:
    UserError: the disk is full, or a file of the source cannot be read.
  """
  work_folder = shard.directory / WORK_FOLDER
  # A name of this attempt alone: a cluster may try a shard twice at a time.
  attempt = f'{shard.file_name}.{uuid.uuid4().hex}'
  unfinished = work_folder / f'{attempt}.unfinished'
  note = work_folder / f'{attempt}.note.unfinished'
  try:
    with explain_disk_errors(shard.directory):
      written = _write_records(source, shard, unfinished)
      note.write_text(to_json(dataclasses.asdict(written)), encoding='utf-8')
      # The note comes first: a shard without one is written again.
      note.replace(shard.note_path)
      unfinished.replace(shard.path)
  finally:
    unfinished.unlink(missing_ok=True)
    note.unlink(missing_ok=True)
  return written


@contextlib.contextmanager
def explain_disk_errors(directory: pathlib.Path) -> Iterator[None]:
  """Turns the system's word for a full disk into a UserError.

  Args:
    directory: directory that is written in.

  Raises:
    UserError: there is no room, or a quota or the largest size is reached.
  """
  try:
    yield
  # A RuntimeError is array_record's, with the system's words in it.
  except (OSError, RuntimeError) as error:
    for code in _DISK_ERRORS:
      reason = os.strerror(code)
      if getattr(error, 'errno', None) == code or reason in str(error):
        raise UserError(
          f'{directory} cannot be written any further ({reason}); make room and'
          ' run the same command again: the shards that are there are kept.'
        ) from error
    raise


def _write_records(
  source: PreparationSource, shard: Shard, path: pathlib.Path
) -> WrittenShard:
  num_examples, num_bytes = 0, 0
  changed, dropped = [], []
  writer = array_record_module.ArrayRecordWriter(str(path), _WRITER_OPTIONS)
  for index in range(len(shard.examples)):
    name = printable(shard.examples.names[index])
    try:
      image = verify_image(
        _read(source, shard, index),
        source.encoding_format,
        shard.max_pixels,
      )
    except DroppedImageError as error:
      dropped.append([name, str(error)])
      continue
    if image.change:
      changed.append([name, image.change])
    record = _serialize(
      image.data,
      int(shard.examples.labels[index]),
      shard.examples.names[index],
    )
    writer.write(record)
    num_examples += 1
    num_bytes += len(record)
  writer.close()
  return WrittenShard(
    num_examples,
    num_bytes,
    path.stat().st_size,
    _sync_and_hash(path),
    changed,
    dropped,
  )


def _read(source: PreparationSource, shard: Shard, index: int) -> bytes:
  size = int(shard.examples.sizes[index])
  if size > _BYTES_PER_PIXEL * shard.max_pixels + _HEADER_BYTES:
    raise DroppedImageError(
      f'{size:,} bytes, too many for {shard.max_pixels:,} pixels'
    )
  try:
    return source.read(shard.examples, index)
  except OSError as error:
    name = printable(shard.examples.names[index])
    raise UserError(
      f'{name} cannot be read from {error.filename or source.name}:'
      f' {error.strerror or error}.'
    ) from error


def _serialize(image: bytes, label: int, name: bytes) -> bytes:
  """Returns a tf.train.Example, with its features always in one order."""
  example = tf_example_pb2.Example()
  features = example.features.feature
  features['image'].bytes_list.value.append(image)
  features['label'].int64_list.value.append(label)
  features['file_name'].bytes_list.value.append(name)
  return example.SerializeToString(deterministic=True)


def _sync_and_hash(path: pathlib.Path) -> str:
  """Returns the SHA-256 of a file that is then on the disk."""
  with open(path, 'rb') as file:
    os.fsync(file.fileno())
    return hashlib.file_digest(file, 'sha256').hexdigest()
