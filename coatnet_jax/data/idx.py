"""The idx files of MNIST and its descendants, kept in memory.

The format, from http://yann.lecun.com/exdb/mnist: two zero bytes, a type (8
is uint8), the number of dimensions, each dimension as a big-endian 32-bit
integer, then the values.
"""

import gzip
import hashlib
import math
import pathlib
import struct
import zlib
from typing import BinaryIO

import numpy as np

from coatnet_jax.data.image_source import ImageSource, format_count
from coatnet_jax.errors import UserError, explain_choice
from coatnet_jax.texts import read_names

# The names the four files were published under.
_FILE_PREFIXES = {'train': 'train', 'test': 't10k'}
# The largest of the published have 640 MB.
_MAX_BYTES = 1 << 31
_CLASS_NAMES_FILE = 'class_names.txt'


class IdxSource(ImageSource):
  """One split of an MNIST-like data set, greyscale repeated to RGB."""

  in_memory = True

  def __init__(self, directory: pathlib.Path, split: str):
    """Reads `<split>-images-idx3-ubyte` and its labels, plain or gzipped.

    Classes are called '0', '1', ... up to the largest training label, or as
    the lines of `class_names.txt` in the same directory say.

    Args:
      directory: directory of the four files.
      split: name of the split, 'train' or 'test' (published as 't10k').

    Raises:
      UserError: a file is missing, truncated, not idx, or does not fit the
        others.
    """
    if split not in _FILE_PREFIXES:
      raise UserError(
        explain_choice('A split of config.data', split, _FILE_PREFIXES)
      )
    prefix = _FILE_PREFIXES[split]
    self._path = _find(directory, f'{prefix}-images-idx3-ubyte')
    labels_path = _find(directory, f'{prefix}-labels-idx1-ubyte')
    self._images = read_idx(self._path, num_dimensions=3)
    self._labels = read_idx(labels_path, num_dimensions=1)
    if len(self._images) != len(self._labels):
      raise UserError(
        f'{self._path} has {len(self._images)} images and {labels_path} has '
        f'{len(self._labels)} labels; they are not of one data set.'
      )
    self.class_names = _class_names(directory)
    self.description = (
      f'{directory}, {split}: {format_count(len(self), "image")}, '
      f'{format_count(self.num_classes, "class")}'
    )

  def __len__(self):
    """The number of examples."""
    return len(self._images)

  def __getitem__(self, index):
    """Returns one example; see ImageSource."""
    image = np.repeat(self._images[index][..., None], 3, axis=-1)
    return {'image': image, 'label': int(self._labels[index])}

  def describe(self, index):
    """Names the example for a log."""
    return f'{self._path}, image {index}'

  def list_files(self):
    """Yields the names and checksums of the arrays; see ImageSource."""
    for name, array in (('images', self._images), ('labels', self._labels)):
      yield name, hashlib.sha256(array.tobytes()).hexdigest()


def read_idx(path: pathlib.Path, num_dimensions: int) -> np.ndarray:
  """Reads one idx file of uint8.

  Args:
    path: file, gzipped if its name ends in .gz.
    num_dimensions: number of dimensions that the array must have.

  Returns:
    uint8, of the shape the file states, not empty.

  Raises:
    UserError: the file is truncated, too long, or something else.
  """
  open_file = gzip.open if path.suffix == '.gz' else open
  try:
    with open_file(path, 'rb') as file:
      return _read_array(path, file, num_dimensions)
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(
      f'{path} cannot be read ({error}); get it again.'
    ) from error


def _read_array(
  path: pathlib.Path, file: BinaryIO, num_dimensions: int
) -> np.ndarray:
  """Reads no more than the header says, whatever the rest inflates to."""
  header_size = 4 + 4 * num_dimensions
  header = file.read(header_size)
  if (
    header[:4] != bytes((0, 0, 8, num_dimensions)) or len(header) < header_size
  ):
    raise UserError(
      f'{path} is not an idx file of {num_dimensions} dimensions of bytes; get'
      ' it again.'
    )
  shape = struct.unpack(f'>{num_dimensions}I', header[4:])
  expected = math.prod(shape)
  if expected > _MAX_BYTES:
    raise UserError(
      f'{path} has {expected:,} bytes, by its header, of shape {shape}; at most'
      f' {_MAX_BYTES:,} are kept in memory. Prepare the images in a folder, or'
      ' get the file again.'
    )
  data = file.read(expected + 1)
  if len(data) != expected or not expected:
    found = f'{header_size + len(data):,}'
    more = ' or more' * (len(data) > expected)
    raise UserError(
      f'{path} has {found}{more} bytes where its header, of shape {shape},'
      f' implies {header_size + expected:,}; it is truncated or damaged, get it'
      ' again.'
    )
  return np.frombuffer(data, np.uint8).reshape(shape)


def _find(directory: pathlib.Path, name: str) -> pathlib.Path:
  for path in (directory / name, directory / f'{name}.gz'):
    if path.is_file():
      return path
  raise UserError(
    f'There is no {name} or {name}.gz in {directory.absolute()}; set '
    'config.data.data_dir to the directory of the idx files.'
  )


def _class_names(directory: pathlib.Path) -> tuple[str, ...]:
  """Names from class_names.txt, else the numbers the training labels use."""
  path = directory / _CLASS_NAMES_FILE
  if path.is_file():
    return read_names(path, 'The class list', unique=False)
  labels = read_idx(_find(directory, 'train-labels-idx1-ubyte'), 1)
  return tuple(str(label) for label in range(int(labels.max()) + 1))
