"""What is told of a folder's or a list's images before a run begins.

Classes and how many images they have, sizes of pictures, what is in both
splits; and what no run should begin with.
"""

import concurrent.futures
import dataclasses
import time

import numpy as np

from coatnet_jax.data.decoding import CorruptImageError, read_header
from coatnet_jax.data.image_source import ImageSource, format_count
from coatnet_jax.data.near_duplicates import Duplicates, find_duplicates
from coatnet_jax.data.sampling import find_class_counts
from coatnet_jax.errors import UserError

# A class is rare that has less than this part of an equal share.
RARE = 1 / 4
# So many classes are listed one by one, and so many of more.
_MOST_CLASSES = 12
_NAMED = 5
# Files whose sizes in pixels are looked at, and the longest that this takes.
_MOST_LOOKED_AT = 500
_SECONDS = 1.0


def find_rare_classes(counts: np.ndarray) -> list[int]:
  """Returns the classes with far fewer images than others, rarest first.

  >>> find_rare_classes(np.array([90, 10]))
  [1]

  Args:
    counts: number of training images of each class, [K].
  """
  share = counts.sum() / max((counts > 0).sum(), 1)
  return sorted(
    np.flatnonzero(counts < RARE * share).tolist(), key=lambda k: counts[k]
  )


def inspect(
  train: ImageSource,
  evaluation: ImageSource,
  *,
  batch_size: int,
  is_weighted: bool,
  num_threads: int = 4,
) -> list[str]:
  """Looks at the images of a run, in some seconds.

  Args:
    train: images that are trained on.
    evaluation: images that are held out.
    batch_size: number of images of a training step.
    is_weighted: whether rare classes are sampled more often, or count more.
    num_threads: number of threads that read and decode.

  Returns:
    Lines for people; a line that goes on with the one before begins with space.

  Raises:
    UserError: there is one class alone, less than a batch of images, or no
      pictures but of a single pixel.
  """
  counts = [find_class_counts(source) for source in (train, evaluation)]
  check_counts(train, counts[0], batch_size)
  sizes = _find_sizes((train, evaluation), num_threads)
  lines = ['classes     ' + _describe_classes(train.class_names, *counts)]
  rare = [train.class_names[label] for label in find_rare_classes(counts[0])]
  if rare and not is_weighted and not train.has_several_labels:
    lines.append(
      f'            {_shorten(rare)} may be missed; to try:'
      ' --config.data.sampling=balanced'
      ' --config.checkpoint.best_metric=mean_class_accuracy'
    )
  if absent := [
    name for name, count in zip(train.class_names, counts[1]) if not count
  ]:
    lines.append(f'            nothing is held out of {_shorten(absent)}')
  if sizes.seen:
    lines.append('pictures    ' + sizes.describe())
  duplicates = find_duplicates(train, evaluation, num_threads)
  return [*lines, 'duplicates  ' + _describe(duplicates, train, evaluation)]


def check_counts(
  train: ImageSource, counts: np.ndarray, batch_size: int
) -> None:
  """Checks that there is something to be learnt.

  Args:
    train: images that are trained on.
    counts: number of images of each class, [K].
    batch_size: number of images of a training step.

  Raises:
    UserError: there is one class alone, or less than a batch of images.
  """
  if len(counts) < 2 and not train.has_several_labels:
    raise UserError(
      f'{train.description} has one class alone, {train.class_names[0]!r}; a'
      ' classifier needs at least two: add a folder, or labels, of something'
      ' else.'
    )
  if len(train) < batch_size:
    raise UserError(
      f'config.training.global_batch_size is {batch_size:,}, and there are'
      f' {format_count(len(train), "image")} to train on; it must be that many'
      ' at most.'
    )


def _describe_classes(
  names: tuple[str, ...], trained: np.ndarray, held_out: np.ndarray
) -> str:
  """Returns how many images classes have, those with few of them marked."""
  rare = find_rare_classes(trained)

  def show(label):
    mark = ' (rare)' * (label in rare)
    return f'{names[label]} {trained[label]:,} + {held_out[label]:,}{mark}'

  if len(names) <= _MOST_CLASSES:
    listed = ', '.join(map(show, range(len(names))))
    return f'to train on + held out: {listed}'
  few = ', '.join(map(show, np.argsort(trained, kind='stable')[:_NAMED]))
  return (
    f'{trained.min():,} to {trained.max():,} images to train on, {len(rare):,}'
    f' of {len(names):,} classes are rare; fewest (to train on + held out):'
    f' {few}'
  )


@dataclasses.dataclass(frozen=True)
class _Sizes:
  """Sizes of pictures in pixels.

  Attributes:
    seen: height and width of each that was looked at.
    total: number of pictures that the splits have together.
  """

  seen: list[tuple[int, int]]
  total: int

  def describe(self) -> str:
    """Returns the smallest, the largest and the usual one."""
    shown = [f'{width}x{height}' for height, width in self.seen]
    usual = max(sorted(set(shown)), key=shown.count)
    by_area = sorted(self.seen, key=lambda size: (size[0] * size[1], size))
    (low_height, low_width), (height, width) = by_area[0], by_area[-1]
    looked_at = 'all'
    if len(self.seen) < self.total:
      looked_at = f'{len(self.seen):,} of {self.total:,}'
    if len(set(shown)) == 1:
      return f'{usual} px ({looked_at} looked at)'
    return (
      f'{low_width}x{low_height} to {width}x{height} px, most often {usual}'
      f' ({looked_at} looked at)'
    )


def _find_sizes(
  sources: tuple[ImageSource, ImageSource], num_threads: int
) -> _Sizes:
  """Returns the sizes of pictures, as their headers say.

  Raises:
    UserError: all have a single pixel.
  """
  total = sum(map(len, sources))
  chosen = np.random.default_rng(0).choice(
    total, min(total, _MOST_LOOKED_AT), replace=False
  )
  end = time.monotonic() + _SECONDS

  def look(place):
    source, index = sources[0], place
    if place >= len(source):
      source, index = sources[1], place - len(source)
    if time.monotonic() > end:
      return None
    try:
      image = source[index]['image']
      if isinstance(image, np.ndarray):
        return image.shape[:2]
      header = read_header(image)
      return header.height, header.width
    except (CorruptImageError, UserError):
      return None

  with concurrent.futures.ThreadPoolExecutor(max(num_threads, 1)) as pool:
    found = [
      size for size in pool.map(look, chosen.tolist()) if size is not None
    ]
  if found and set(found) == {(1, 1)}:
    raise UserError(
      f'All {len(found):,} images that were looked at have a single pixel, as'
      f' {sources[0].describe(0)}, in which there is nothing to see: replace'
      ' them, as they may be placeholders.'
    )
  return _Sizes(found, total)


def _describe(
  duplicates: Duplicates, train: ImageSource, evaluation: ImageSource
) -> str:
  """Returns which held-out images are trained on too."""
  seen = duplicates.num_compared
  all_of_them = seen == (len(train), len(evaluation))
  how = (
    'all compared'
    if all_of_them
    else f'{seen[0]:,} + {seen[1]:,} images compared'
  )
  if not duplicates.pairs:
    return f'none that are trained on and held out ({how})'
  index, other = next(iter(duplicates.pairs.items()))
  count = len(duplicates.pairs)
  return (
    f'{count:,} of {format_count(len(evaluation), "held-out image")}'
    f' {"is" if count == 1 else "are"} trained on too, or nearly the same'
    f' ({how}), so results will look better than they are:\n            '
    f'{evaluation.describe(index)} is like {train.describe(other)}'
    + ', ...'
    * (count > 1)
  )


def _shorten(names: list[str]) -> str:
  more = len(names) - _NAMED
  shown = ', '.join(names[:_NAMED])
  return f'{shown} and {more:,} more' if more > 0 else shown
