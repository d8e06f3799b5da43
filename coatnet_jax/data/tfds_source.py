"""TFDS data sets that are prepared as ArrayRecord, read without TensorFlow.

Nothing is downloaded or prepared here: the error messages say how to.
"""

import bisect
import itertools
import logging
import os
import shlex
from collections.abc import Iterable

import tensorflow_datasets as tfds
from absl import logging as absl_logging
from array_record.python import array_record_module
from etils import epath

from coatnet_jax.data.image_source import (
  CorruptImageError,
  ImageSource,
  find_sizes,
  format_count,
)
from coatnet_jax.data.prepared_folders import (
  EMBEDDED_DIR,
  find_builder_dir,
  is_embedded,
)
from coatnet_jax.errors import UserError, list_choices
from coatnet_jax.paths import resolve_path
from coatnet_jax.texts import printable, split_lines

_KEY = 'config.data.data_dir'


def _is_not_about_embedded_groups(record: logging.LogRecord) -> bool:
  """Whether a message is not array_record's of records in groups.

  It calls them an error for being slower to read one by one. The embedded
  data sets have them, to be small, and are read once, into memory.
  """
  if 'was created with group size' not in str(record.msg):
    return True
  return not str(record.args[0]).startswith(str(EMBEDDED_DIR))


absl_logging.get_absl_logger().addFilter(_is_not_about_embedded_groups)

# Features that may name a record, for `describe`.
_NAME_FEATURES = ('file_name', 'filename', 'image_name', 'id')


class TfdsSource(ImageSource):
  """One split of a prepared data set; images stay encoded.

  Attributes:
    label_feature: name of the feature of an example's only, or first, label.
    full_name: name of the data set, with its version.
  """

  label_feature = 'label'

  def __init__(self, builder_dir: str, split: str):
    """Opens a split.

    Args:
      builder_dir: directory of dataset_info.json.
      split: split as TFDS writes it: 'train[:80%]'.

    Raises:
      UserError: the data set is not there, has no random access, no such
        split, or no image with a class label; or files are missing.
    """
    self._builder_dir = builder_dir
    self._split = split
    self._open()
    self.description = (
      f'{self.full_name}, {split}: {format_count(len(self), "image")}, '
      f'{format_count(self.num_classes, "class")}'
    )

  def _open(self) -> None:
    builder = _open_directory(self._builder_dir)
    self.full_name = builder.info.full_name
    features = builder.info.features
    _check_features(features, self.label_feature, self.full_name)
    self.class_names = _class_names(
      self._builder_dir, self.label_feature, features
    )
    # Only these two are parsed: other features may be images too.
    self._example_features = tfds.features.FeaturesDict(
      {name: features[name] for name in ('image', self.label_feature)}
    )
    names = [
      name
      for name in _NAME_FEATURES
      if name in features and isinstance(features[name], tfds.features.Text)
    ]
    self._name_features = tfds.features.FeaturesDict(
      {name: features[name] for name in names[:1]}
    )
    self._records = _open_records(builder, self._split)
    splits = builder.info.splits
    self._instructions = splits[self._split].file_instructions
    self._ends = list(
      itertools.accumulate(part.take for part in self._instructions)
    )
    self._num_bytes = _count_bytes(splits, self._find_paths())
    self._data_set_size = splits.total_num_examples

  def _find_paths(self) -> list[epath.Path]:
    return [epath.Path(part.filename) for part in self._instructions]

  @property
  def data_set_size(self) -> int:
    """The number of images of all splits."""
    return self._data_set_size

  def __getstate__(self):
    """Leaves out what is open, for worker processes."""
    return {
      key: getattr(self, key)
      for key in ('_builder_dir', '_split', 'description', 'max_image_pixels')
    }

  def __setstate__(self, state):
    """Opens the files again."""
    self.__dict__.update(state)
    self._open()

  def __len__(self):
    """The number of examples."""
    return len(self._records)

  def __getitem__(self, index):
    """Returns one example; see ImageSource."""
    example = self._read(
      index, self._example_features, {'image': tfds.decode.SkipDecoding()}
    )
    return {'image': example['image'], 'label': example[self.label_feature]}

  def _read(self, index: int, features, decoders=None) -> dict:
    """Reads features of a record.

    Raises:
      CorruptImageError: the record is damaged.
      UserError: its shard cannot be read, or is damaged as a whole.
    """
    try:
      record = self._read_record(index)
    except Exception as error:  # array_record raises kinds of its own.
      path, name = self._find_record(index)
      _check_shard(path)
      raise CorruptImageError(
        f'{name} is damaged: {_shorten(error)}'
      ) from error
    try:
      return features.deserialize_example_np(record, decoders=decoders)
    except Exception as error:  # So does what parses a record.
      _, name = self._find_record(index)
      raise CorruptImageError(
        f'{name} is not an example of this data set: {_shorten(error)}'
      ) from error

  def _read_record(self, index: int) -> bytes:
    """Returns a record; a failure counts if it fails twice.

    A disk or a bucket may fail once, and a batch is to be the same each time.
    """
    try:
      return self._records[index]
    except Exception:  # array_record raises kinds of its own.
      return self._records[index]

  def _find_record(self, index: int) -> tuple[epath.Path, str]:
    """Returns the shard of a record, and a name for it in a message."""
    shard = bisect.bisect_right(self._ends, index)
    first = self._ends[shard - 1] if shard else 0
    part = self._instructions[shard]
    path = epath.Path(part.filename)
    place = part.skip + index - first
    return path, f'record {place:,} of {printable(path.name)}'

  def describe(self, index):
    """Names the example for a log."""
    record = f'{self.full_name}, {self._split}, record {index}'
    try:
      names = self._read(index, self._name_features)
    except CorruptImageError:
      return record
    return ' '.join(
      [record, *(f'({printable(name)})' for name in names.values())]
    )

  def list_files(self):
    """Yields version, bytes, shards and their sums; see ImageSource.

    A shard's sum is its SHA-256 where `tools.prepare` wrote it down, or its
    size in bytes.
    """
    # Shards are padded to whole blocks, so that their sizes may stay the same
    # where examples change; the sum of the examples' own sizes says more.
    yield self.full_name, self._num_bytes
    paths = self._find_paths()
    sums = _read_shard_sums(epath.Path(self._builder_dir))
    for part, path, size in zip(self._instructions, paths, find_sizes(paths)):
      # A split may be a part of its records; -1 takes all that are left.
      name = f'{path.name}, {part.take} records from {part.skip}'
      yield name, sums.get(path.name, size)


def _check_shard(path: epath.Path) -> None:
  """Raises a UserError for a shard none of whose records can be read."""
  try:
    with path.open('rb') as file:
      file.read(1)
  except Exception as error:  # What reads buckets raises kinds of its own.
    reason = getattr(error, 'strerror', None) or _shorten(error)
    raise UserError(f'{printable(path)} cannot be read: {reason}.') from error
  try:
    reader = array_record_module.ArrayRecordReader(str(path))
    try:
      reader.num_records()
    finally:
      reader.close()
  except Exception as error:
    raise UserError(
      f'{printable(path)} is damaged, and none of its records can be read'
      f' ({_shorten(error)}): copy or prepare it again.'
    ) from error


def _shorten(error: Exception) -> str:
  """Returns what an error says, in part of a line."""
  return printable(str(error).partition(';')[0][:200])


def _count_bytes(
  splits: tfds.core.splits.SplitDict, shards: Iterable[epath.Path]
) -> int:
  """Returns how many bytes the examples of whole splits have.

  Args:
    splits: splits of the data set.
    shards: files that are read; a split counts where one of them is its own, as
      do 'train' and 'test' for 'train[:80%]+test'.
  """
  names = {path.name for path in shards}
  return sum(
    int(split.num_bytes)
    for split in splits.values()
    if not names.isdisjoint(split.filenames)
  )


def _read_shard_sums(directory: epath.Path) -> dict[str, str]:
  """Returns the SHA-256 of shards by file name, as `tools.prepare` has them."""
  path = directory / 'checksums.sha256'
  if not path.exists():
    return {}
  lines = [line.split(maxsplit=1) for line in path.read_text().splitlines()]
  return {line[1]: line[0] for line in lines if len(line) == 2}


def create_tfds_source(
  name: str,
  data_dir: str,
  split: str,
  source_class: type[TfdsSource] = TfdsSource,
) -> TfdsSource:
  """Finds a prepared data set and opens one split.

  Args:
    name: TFDS name, with an optional config and version
      ('imagenet2012:5.1.0'), looked up among the embedded data sets first;
      or empty.
    data_dir: the TFDS data directory, $TFDS_DATA_DIR or ~/tensorflow_datasets
      if empty; where `name` is empty, one prepared data set's directory.
    split: split as TFDS writes it: 'train[:80%]'.
    source_class: class of the source.

  Returns:
    The source.

  Raises:
    UserError: see `TfdsSource`.
  """
  if not name:
    if not data_dir:
      raise UserError(
        'config.data.name and config.data.data_dir are both empty; set one, '
        'to a TFDS data set or to the directory of a prepared one.'
      )
    return source_class(str(resolve_path(data_dir, _KEY)), split)
  if data_dir and is_embedded(name):
    raise UserError(
      f'config.data.data_dir is {data_dir!r}, and {name} comes with the code'
      ' and is read from there. For a folder of pictures, set source to'
      " 'folder' (config.data.source, in tools --data.source); for another data"
      ' set of TFDS its name; or leave data_dir empty.'
    )
  default = os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  data_dir = str(resolve_path(data_dir or default, _KEY))
  return source_class(find_builder_dir(name, data_dir), split)


def _open_directory(builder_dir: str) -> tfds.core.DatasetBuilder:
  try:
    builder = tfds.builder_from_directory(builder_dir)
  except (tfds.core.dataset_info.DatasetInfoFileError, OSError) as error:
    raise UserError(
      f'There is no prepared TFDS data set in {builder_dir}: '
      'it has no readable dataset_info.json. config.data.data_dir must name '
      'the version directory (.../NAME/1.0.0), or config.data.name the data '
      'set.'
    ) from error
  except UnicodeDecodeError as error:
    raise UserError(
      f'The data set in {builder_dir} has a list of labels or another text that'
      f' is not UTF-8 ({error}); convert it to UTF-8.'
    ) from error
  array_record = tfds.core.FileFormat.ARRAY_RECORD
  formats = builder.info.available_file_formats()
  if array_record not in formats:
    found = ', '.join(sorted(f.value for f in formats)) or 'no known format'
    target = f'{builder_dir}_array_record'
    quoted = shlex.join([str(builder_dir), target])
    raise UserError(
      f'{builder_dir} is prepared as {found}, which has no random access. '
      'Convert it to ArrayRecord, in a checkout of the project by\n'
      f'  python -m tools.convert_to_array_record {quoted}\n'
      f"and set config.data.name='' and config.data.data_dir={target!r}."
    )
  return builder


def _class_names(builder_dir: str, label: str, features) -> tuple[str, ...]:
  """Returns the names of the classes: TFDS keeps marks of a list's encoding."""
  names = tuple(features[label].names)
  path = epath.Path(builder_dir) / f'{label}.labels.txt'
  if not path.exists():
    return names
  listed = tuple(filter(None, split_lines(path.read_bytes())))
  return listed if len(listed) == len(names) else names


def _check_features(features, label: str, full_name: str) -> None:
  """Raises a UserError unless there is one image with one class label."""
  wanted = {'image': tfds.features.Image, label: tfds.features.ClassLabel}
  for name, kind in wanted.items():
    if name not in features or not isinstance(features[name], kind):
      found = ', '.join(
        f'{key} ({type(value).__name__})' for key, value in features.items()
      )
      raise UserError(
        f'{full_name} cannot be classified: it has no feature {name!r} of '
        f'type {kind.__name__}, only {found}.'
      )


def _open_records(builder: tfds.core.DatasetBuilder, split: str):
  """Returns the serialized records of a split, with random access."""
  try:
    records = builder.as_data_source(
      split,
      deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
      file_format=tfds.core.FileFormat.ARRAY_RECORD,
    )
  except ValueError as error:
    splits = [*sorted(builder.info.splits), "a part of one ('train[:90%]')"]
    raise UserError(
      f'A split of config.data is {split!r}, of which'
      f' {builder.info.full_name} has no examples;'
      f' {list_choices(split, splits)}'
    ) from error
  for instruction in builder.info.splits[split].file_instructions:
    path = str(instruction.filename)
    if '://' not in path and not os.path.exists(path):
      raise UserError(
        f'{builder.info.full_name} is incomplete: {path} is missing; copy '
        'or prepare it again.'
      )
  return records
