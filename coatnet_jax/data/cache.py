"""Keeps a small data set decoded in memory."""

import humanize
import numpy as np
from absl import logging

from coatnet_jax.data.decoding import decode_example
from coatnet_jax.data.image_source import (
  CorruptImageError,
  DerivedSource,
  ImageSource,
)

# How many images, spread evenly, a source's decoded size is estimated from.
_SAMPLE_SIZE = 16


class CachedSource(DerivedSource):
  """A source whose images are uint8 arrays in memory.

  Images that cannot be decoded fail where they are used, as without a cache.
  The arrays are pickled to each worker process, which costs the cache's size of
  memory per worker and a copy at its start.
  """

  def __init__(
    self, source: ImageSource, examples: list[dict | CorruptImageError]
  ):
    """Takes a source and all its examples, decoded, or what they raise."""
    super().__init__(source)
    self._examples = examples
    self.in_memory = True

  def __len__(self):
    """The number of examples."""
    return len(self._examples)

  def __getitem__(self, index):
    """Returns one example; see ImageSource."""
    example = self._examples[index]
    if isinstance(example, CorruptImageError):
      raise example
    return example

  def describe(self, index):
    """Names the example for a log."""
    return self._source.describe(index)

  def find_path(self, index):
    """Returns the file of an example; see ImageSource."""
    return self._source.find_path(index)

  def find_labels(self):
    """Returns the labels of the examples; see ImageSource."""
    return self._source.find_labels()

  def list_files(self):
    """Yields the files of the examples; see ImageSource."""
    return self._source.list_files()


def cache_if_small(
  source: ImageSource, max_mebibytes: float, *, exact: bool = True
) -> ImageSource:
  """Decodes a source into memory if it fits.

  A few images are decoded first, and no more if those are too large: a large
  data set costs nothing but that.

  Args:
    source: source whose decoded images may be kept.
    max_mebibytes: largest decoded size that is kept, in units of 2**20 bytes.
    exact: whether JPEGs are decoded to libjpeg's own pixels; see
      `decoding.decode_image`.

  Returns:
    A `CachedSource`, or the source itself where that would be too large or
    is in memory already.
  """
  max_bytes = max_mebibytes * 2**20
  if source.in_memory or not max_bytes:
    return source
  sample = np.linspace(0, len(source) - 1, min(_SAMPLE_SIZE, len(source)))
  sample_bytes = [
    _size(_decoded(source, index, exact)) for index in sample.astype(int)
  ]
  if np.mean(sample_bytes) * len(source) > max_bytes:
    return source
  examples, num_bytes = [], 0
  for index in range(len(source)):
    examples.append(_decoded(source, index, exact))
    num_bytes += _size(examples[-1])
    if num_bytes > max_bytes:
      return source
  logging.info(
    'Keeping %d decoded images in memory (%s).',
    len(examples),
    humanize.naturalsize(num_bytes, binary=True),
  )
  return CachedSource(source, examples)


def _decoded(
  source: ImageSource, index: int, exact: bool
) -> dict | CorruptImageError:
  """Returns the example with pixels, or the error if it cannot be decoded."""
  try:
    image, label = decode_example(source, index, exact=exact)
  except CorruptImageError as error:
    return CorruptImageError(str(error))  # Without its traceback, and so small.
  return {'image': image, 'label': label}


def _size(example: dict | CorruptImageError) -> int:
  if isinstance(example, CorruptImageError):
    return 0
  return example['image'].nbytes
