"""Which images are trained and evaluated on: options to a source."""

import dataclasses
import os
import pathlib
from typing import Annotated

import numpy as np

from coatnet_jax.data.cache import cache_if_small
from coatnet_jax.data.folder import create_folder_source, find_directory
from coatnet_jax.data.folder_listing import is_split
from coatnet_jax.data.idx import IdxSource
from coatnet_jax.data.image_source import ImageSource, format_count
from coatnet_jax.data.label_list import create_list_source
from coatnet_jax.data.label_rows import is_list, read_rows
from coatnet_jax.data.picture_size import DEFAULT_MAX_PIXELS
from coatnet_jax.data.splits import Division, WantedSplit
from coatnet_jax.errors import UserError, explain_choice
from coatnet_jax.paths import resolve_local_path
from coatnet_jax.texts import printable, read_text
from coatnet_jax.values import (
  NOT_EMPTY,
  REGULAR_EXPRESSION,
  ImageSize,
  OneOf,
  Options,
  Range,
)

SAMPLINGS = ('natural', 'balanced')
SOURCES = ('tfds', 'folder', 'idx', 'synthetic')


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions(Options, section='config.data'):
  """What is read, from where, and by how many; see configs/base.py."""

  source: Annotated[str, OneOf(SOURCES)]
  name: str
  data_dir: str
  train_split: str
  eval_split: Annotated[str, NOT_EMPTY]
  eval_fraction: Annotated[
    float, Range(above=0, at_most=1), 'below 1 to train, 1 to evaluate on all'
  ]
  # Configs of older checkpoints have none of these four.
  num_folds: Annotated[
    int, Range(at_least=2, at_most=1000, also=(0,)), '0 for no folds'
  ] = 0
  fold: Annotated[int, Range(at_least=0, below=1000)] = 0
  group_pattern: Annotated[str, REGULAR_EXPRESSION] = ''
  sampling: Annotated[str, OneOf(SAMPLINGS)] = 'natural'
  synthetic_examples: Annotated[int, Range(at_least=1, at_most=10**12)]
  synthetic_classes: Annotated[int, Range(at_least=1, at_most=2**24)]
  synthetic_image_size: ImageSize
  cache_mebibytes: Annotated[int, Range(at_least=0, at_most=2**30)]
  num_workers: Annotated[int, Range(at_least=0, at_most=1024)]
  num_threads: Annotated[int, Range(at_least=0, at_most=1024)]
  prefetch_batches: Annotated[int, Range(at_least=1, at_most=2**16)]
  # Configs of older checkpoints have none.
  max_damaged_fraction: Annotated[float, Range(at_least=0, at_most=1)] = 0.01
  max_image_pixels: Annotated[int, Range(at_least=1, at_most=2**31)] = (
    DEFAULT_MAX_PIXELS
  )
  changed: Annotated[str, OneOf(('refuse', 'accept'))] = 'refuse'

  @property
  def division(self) -> Division:
    """How a folder or a list without splits of its own is divided."""
    return Division(
      eval_fraction=self.eval_fraction,
      num_folds=self.num_folds,
      fold=self.fold,
      group_pattern=self.group_pattern,
    )

  def check_division(self) -> None:
    """Raises UserError for folds or groups of what is not divided here.

    Not a part of `check`: a model of a folder may be evaluated on other data.
    """
    if self.source == 'folder':
      return
    for name in ('num_folds', 'group_pattern'):
      if getattr(self, name):
        raise UserError(
          f'config.data.{name} is {getattr(self, name)!r}, which divides a'
          f' folder or a list, and config.data.source is {self.source!r}; name'
          " its splits instead, as --config.data.train_split='train[10%:]'."
        )

  def check(self):
    """Raises UserError for keys that contradict each other."""
    if self.fold >= max(self.num_folds, 1):
      allowed = f'in 0 .. {self.num_folds - 1}, as num_folds is'
      raise UserError(
        f'config.data.fold is {self.fold}; it must be'
        f' {allowed if self.num_folds else "0 where num_folds is"}'
        f' {self.num_folds}.'
      )
    if not self.train_split.strip() and self.source != 'folder':
      raise UserError(
        f"config.data.train_split is {self.train_split!r}; it must be a split's"
        " name, but where config.data.source is 'folder'."
      )


class SyntheticSource(ImageSource):
  """Random pixels with random labels, the same ones every time."""

  def __init__(
    self,
    split: str,
    *,
    num_examples: int,
    num_classes: int,
    image_size: tuple[int, int],
    seed: int,
  ):
    """Makes no image yet.

    Args:
      split: name of the split in the description.
      num_examples: number of images that it has.
      num_classes: number of classes of the labels.
      image_size: height and width in pixels.
      seed: seed that determines, with an example's number, its image and label.
    """
    self.class_names = tuple(str(label) for label in range(num_classes))
    self.description = (
      f'synthetic, {split}: {format_count(num_examples, "random image")} of '
      f'noise, {format_count(num_classes, "class")}; the results mean nothing'
    )
    self._num_examples = num_examples
    self._image_size = image_size
    self._seed = seed

  def __len__(self):
    """The number of examples."""
    return self._num_examples

  def __getitem__(self, index):
    """Returns one example; see ImageSource."""
    rng = np.random.default_rng((self._seed, index))
    label = int(rng.integers(self.num_classes))
    image = rng.integers(0, 256, (*self._image_size, 3), np.uint8)
    return {'image': image, 'label': label}

  def describe(self, index):
    """Names the example for a log."""
    return f'synthetic image {index}'


def create_source(options: DataOptions, split: str) -> ImageSource:
  """Opens the images of one split.

  Args:
    options: kind of source, place, and names of the splits.
    split: 'train' or 'eval'; `options` says what the data set calls it.

  Returns:
    The source; decoded and in memory if that takes at most
    `options.cache_mebibytes`, exactly for 'eval' and as training does for
    'train'.

  Raises:
    UserError: the data are not there, or not as described.
    ValueError: `split` is neither.
  """
  if split not in ('train', 'eval'):
    raise ValueError(explain_choice('split', split, ('train', 'eval')))
  source = _CREATE_BY_SOURCE[options.source](options, split)
  source.max_image_pixels = options.max_image_pixels
  return cache_if_small(source, options.cache_mebibytes, exact=split == 'eval')


def check_place(options: DataOptions) -> None:
  """Raises UserError where there is nothing at the place of the images.

  Quick, for before what takes minutes; `create_source` finds out the rest.

  Args:
    options: kind of source and place; those of TFDS are not looked for.
  """
  if options.source == 'folder':
    if not is_list(options.data_dir):
      find_directory(options.data_dir)
    elif not os.path.isfile(options.data_dir):
      read_text(resolve_local_path(options.data_dir, 'config.data.data_dir'))
  elif options.source == 'idx':
    _find_idx_directory(options.data_dir)


def _split_name(options: DataOptions, split: str) -> str:
  return options.train_split if split == 'train' else options.eval_split


def _create_tfds(options: DataOptions, split: str) -> ImageSource:
  # Here, because importing TFDS takes a second that others need not spend.
  from coatnet_jax.data.tfds_source import create_tfds_source

  return create_tfds_source(
    options.name, options.data_dir, _split_name(options, split)
  )


def _create_folder(options: DataOptions, split: str) -> ImageSource:
  create = (
    create_list_source if is_list(options.data_dir) else create_folder_source
  )
  wanted = WantedSplit(
    train_split=options.train_split,
    eval_split=options.eval_split,
    division=options.division,
    training=split == 'train',
  )
  return create(options.data_dir, wanted)


def check_has_splits(options: DataOptions) -> None:
  """Checks that one split of a folder or of a list can be asked for.

  Args:
    options: options of the data; those of other sources have splits.

  Raises:
    UserError: it has no splits, or is not there.
  """
  if options.source != 'folder':
    return
  if is_list(options.data_dir):
    path = resolve_local_path(options.data_dir, 'config.data.data_dir')
    has_splits = any(row.split for row in read_rows(path).rows)
  else:
    root = find_directory(options.data_dir)
    names = (options.train_split, options.eval_split)
    has_splits = any(is_split(root, *pair) for pair in (names, names[::-1]))
  if not has_splits:
    raise UserError(
      f'config.data.eval_split is {options.eval_split!r}, and'
      f' {printable(options.data_dir)} has no splits of its own: leave it out,'
      ' or say by eval_fraction or folds what is held out.'
    )


def _create_idx(options: DataOptions, split: str) -> ImageSource:
  directory = _find_idx_directory(options.data_dir)
  return IdxSource(directory, _split_name(options, split))


def _find_idx_directory(data_dir: str) -> pathlib.Path:
  if not data_dir:
    raise UserError(
      "config.data.data_dir is empty; config.data.source='idx' needs the "
      'directory of the idx files.'
    )
  directory = resolve_local_path(data_dir, 'config.data.data_dir')
  if not directory.is_dir():
    raise UserError(
      f'There is no directory {printable(directory)}; set config.data.data_dir'
      ' to the one that has the idx files.'
    )
  return directory


def _create_synthetic(options: DataOptions, split: str) -> ImageSource:
  return SyntheticSource(
    split,
    num_examples=options.synthetic_examples,
    num_classes=options.synthetic_classes,
    image_size=options.synthetic_image_size,
    seed=0 if split == 'train' else 1,
  )


_CREATE_BY_SOURCE = {
  'tfds': _create_tfds,
  'folder': _create_folder,
  'idx': _create_idx,
  'synthetic': _create_synthetic,
}
