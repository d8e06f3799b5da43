"""Images that cannot be decoded: how many there may be, and which they are.

Training replaces them and evaluation leaves them out, up to a part of the data
set as a whole: config.data.max_damaged_fraction.
"""

import concurrent.futures
import math
import time
from collections.abc import Sequence

import numpy as np
from absl import logging

from coatnet_jax.data.decoding import CorruptImageError, decode_example
from coatnet_jax.data.image_source import ImageSource, format_count
from coatnet_jax.errors import UserError

# The longest that a first look takes, for each source.
LOOK_SECONDS = 2.0
_MOST_LOOKED_AT = 4000
_NAMED = 10
# Standard deviations by which a sample must have too many, to stop at once.
_CERTAINTY = 4


def count_allowed_damage(source: ImageSource, max_fraction: float) -> int:
  """Returns how many images of a source may be damaged.

  Args:
    source: images of a data set, or of a part of it.
    max_fraction: largest part of the whole data set that may be damaged; one
      image where that is less, but for 0.
  """
  if not max_fraction:
    return 0
  return max(1, math.floor(max_fraction * source.data_set_size))


def explain_damage(source: ImageSource, index: int) -> str:
  """Returns a damaged image's name and what is wrong with it.

  Args:
    source: images, one of which is damaged.
    index: index in the source of an image that cannot be decoded.
  """
  try:
    decode_example(source, index)
  except CorruptImageError as error:
    return f'{source.describe(index)}: {error}'
  return source.describe(index)


class CorruptImageCounter:
  """Counts the corrupt images of a source and stops where there are many.

  Each process counts what it reads itself.

  Attributes:
    count: number of different images that could not be decoded.
  """

  def __init__(self, source: ImageSource, max_fraction: float):
    """Starts at none.

    Args:
      source: images whose batches are counted.
      max_fraction: largest part that may be damaged, as
        `count_allowed_damage` takes it.
    """
    self._source = source
    self._max_fraction = max_fraction
    self._seen: dict[int, str] = {}

  @property
  def count(self) -> int:
    """How many different images could not be decoded."""
    return len(self._seen)

  def update(self, batch: dict[str, np.ndarray]) -> None:
    """Counts the corrupt images of a batch; logs those that are new.

    Args:
      batch: batch with `corrupt`, [b] int64: an index of the source, or -1 for
        an image that is whole.

    Raises:
      UserError: more images are corrupt than may be.
    """
    corrupt = batch['corrupt']
    for index in corrupt[corrupt >= 0].tolist():
      if index not in self._seen:
        self._seen[index] = explain_damage(self._source, index)
        logging.warning('Cannot decode %s', self._seen[index])
    if self.count > count_allowed_damage(self._source, self._max_fraction):
      raise _create_error(
        f'{self.count:,}',
        self._source,
        self._max_fraction,
        [self._seen[index] for index in sorted(self._seen)],
      )


def look_for_damage(
  sources: Sequence[ImageSource], max_fraction: float, num_threads: int
) -> str:
  """Decodes images for some seconds, before a run begins with them.

  A small data set is looked at whole, of a large one a sample.

  Args:
    sources: splits of a data set.
    max_fraction: largest part that may be damaged; see `count_allowed_damage`.
    num_threads: number of threads that decode.

  Returns:
    A line about what cannot be decoded; '' for nothing.

  Raises:
    UserError: more images cannot be decoded than may be.
  """
  damaged, looked_at, too_many = [], 0, False
  for source in sources:
    found, number = _look(source, max(num_threads, 1))
    damaged += [explain_damage(source, index) for index in found]
    looked_at += number
    if number < len(source):
      # A sample: the number that it finds has about its own square root for a
      # standard deviation, and only what is certainly too much ends the run.
      certain = len(found) - _CERTAINTY * math.sqrt(len(found))
      too_many |= certain > max_fraction * number
  # All splits in one message: whoever replaces the images wants to know all.
  if too_many or len(damaged) > count_allowed_damage(sources[0], max_fraction):
    is_sample = looked_at < sum(map(len, sources))
    of = f', among {looked_at:,} that were looked at,' * is_sample
    raise _create_error(
      f'{len(damaged):,}{of}', sources[0], max_fraction, damaged
    )
  if not damaged:
    return ''
  return (
    f'{format_count(len(damaged), "image")} of {looked_at:,} that were looked'
    f' at cannot be decoded, and will be replaced in training and left out in'
    f' evaluation; the first is {damaged[0]}'
  )


def _look(source: ImageSource, num_threads: int) -> tuple[list[int], int]:
  """Returns the damaged images that were found, and how many were looked at."""
  # In random order, so that a time that runs out leaves a sample.
  indices = (
    np.random.default_rng(0)
    .choice(len(source), min(len(source), _MOST_LOOKED_AT), replace=False)
    .tolist()
  )
  end = time.monotonic() + LOOK_SECONDS

  def is_damaged(index: int) -> bool | None:
    if time.monotonic() > end:
      return None
    try:
      decode_example(source, index, exact=False)
    except CorruptImageError:
      return True
    return False

  with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
    results = list(pool.map(is_damaged, indices))
  found = [i for i, damaged in zip(indices, results) if damaged]
  return sorted(found), sum(damaged is not None for damaged in results)


def _create_error(
  count: str, source: ImageSource, max_fraction: float, names: list[str]
) -> UserError:
  """Returns the error of too many damaged images."""
  listed = '\n  '.join(names[:_NAMED])
  return UserError(
    f'{count} of {source.data_set_size:,} images cannot be decoded, and'
    f' config.data.max_damaged_fraction allows {max_fraction:.3g} of them:'
    f' replace or remove them, or allow more. The first are\n  {listed}'
  )
