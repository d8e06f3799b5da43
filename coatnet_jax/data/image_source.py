"""What every source of images looks like to the rest of the data package.

A source gives single examples by number, encoded or as pixels; it does not
decode, augment, shuffle or batch.
"""

import abc
import multiprocessing.pool
import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
from etils import epath

from coatnet_jax.data.picture_size import DEFAULT_MAX_PIXELS


class CorruptImageError(ValueError):
  """What lies there is no image, or not a whole one; the message says why."""


class ImageSource(abc.ABC):
  """Labelled images with random access.

  Sources are pickled to worker processes, so a subclass keeps no open files
  in its state.

  Attributes:
    class_names: names of the classes, each at the place of its label.
    description: one line for the terminal: what, which split, how many.
    in_memory: whether the pixels are in memory already, so that caching and
      worker processes would gain little.
    max_image_pixels: pixels of the largest image that is decoded.
    has_several_labels: whether an image may have several labels, or none: then
      'label' of an example is [K] float32, 1 for each that it has.
  """

  class_names: tuple[str, ...]
  description: str
  in_memory: bool = False
  max_image_pixels: int = DEFAULT_MAX_PIXELS
  has_several_labels: bool = False

  @property
  def num_classes(self) -> int:
    """The number of classes."""
    return len(self.class_names)

  @property
  def data_set_size(self) -> int:
    """The number of images of the whole data set; these may be a part."""
    return len(self)

  @abc.abstractmethod
  def __len__(self) -> int:
    """The number of examples."""

  @abc.abstractmethod
  def __getitem__(self, index: int) -> dict[str, bytes | np.ndarray | int]:
    """Returns one example.

    Args:
      index: number of the example, 0 .. len(self) - 1.

    Returns:
      `image`: the encoded file as bytes, or [H, W, 3] uint8 RGB; `label`:
      int, not checked against the number of classes.

    Raises:
      CorruptImageError: the example is damaged where it lies.
      UserError: it cannot be read, and others probably cannot either.
    """

  @abc.abstractmethod
  def describe(self, index: int) -> str:
    """Names the example for a log: its file, or its record's number."""

  def find_path(self, index: int) -> pathlib.Path | None:
    """Returns the file of an example; None where it has none of its own."""
    return None

  def find_labels(self) -> np.ndarray:
    """Returns the label of every example, [N] int32; -1 where it is damaged.

    Of a source that has several, [N, K] float32.

    Reads all examples, without decoding them, where the labels are not known
    otherwise.
    """

    def find_label(index):
      try:
        return int(self[index]['label'])
      except CorruptImageError:
        return -1

    with multiprocessing.pool.ThreadPool(8) as pool:
      labels = pool.map(find_label, range(len(self)), chunksize=256)
    return np.array(labels, np.int32)

  def list_files(self) -> Iterator[tuple[str, str | int]]:
    """Yields what says whether the examples are the same ones another time.

    Yields:
      A name, and a number or a text that goes with it: of each file, in the
      examples' order, its path in the data set and its size in bytes; nothing
      where the examples are not of files.
    """
    yield from ()


class DerivedSource(ImageSource):
  """The images of another source, all or some of them, in a form of its own."""

  def __init__(self, source: ImageSource):
    """Takes the other source."""
    self._source = source
    self.class_names = source.class_names
    self.description = source.description
    self.in_memory = source.in_memory
    self.max_image_pixels = source.max_image_pixels
    self.has_several_labels = source.has_several_labels

  @property
  def data_set_size(self) -> int:
    """The number of images of the data set that the source is of."""
    return self._source.data_set_size


def find_sizes(paths: Iterable[str | os.PathLike[str]]) -> Iterator[int]:
  """Yields the sizes of files in bytes, -1 of one that is not there.

  Args:
    paths: files, perhaps of a bucket, whose sizes are asked for in parallel.
  """

  def find_size(path):
    try:
      return epath.Path(path).stat().length
    except Exception:  # What reads buckets raises kinds of its own.
      return -1

  with multiprocessing.pool.ThreadPool(32) as pool:
    yield from pool.imap(find_size, paths, chunksize=64)


def format_count(number: int, what: str) -> str:
  """Returns '10,000 images', '1 class' or '1,000 classes'.

  >>> format_count(1, 'class'), format_count(1000, 'class')
  ('1 class', '1,000 classes')
  """
  if number == 1:
    return f'1 {what}'
  plural = what + ('es' if what.endswith('s') else 's')
  return f'{number:,} {plural}'
