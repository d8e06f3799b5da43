"""Sources to batches, in an order that depends on the seed and step alone.

A batch is a dictionary of numpy arrays, with the b rows of one process:

    image: [b, H, W, 3] uint8, not normalised
    label: [b] int32; [b, K] float32, 1 for each label, where a source has
      several
    mask: [b] bool, whether the example counts
    corrupt: [b] int64, number in the source of an image that could not be
      decoded, else -1

The global batch has shards of consecutive rows, and a process reads some of
them. The batch is the same for any number of shards, processes, workers and
threads. The position of a run is its step: a run that is resumed at step k
passes `start_step=k`.

Threads and workers make whole batches: more of them than batches that are
read ahead would have nothing to do.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np
from absl import flags
from grain.experimental import ZipMapDataset

from coatnet_jax.data.augmentation import (
  AugmentationOptions,
  PreprocessingOptions,
  augment_image,
  crop_for_evaluation,
)
from coatnet_jax.data.damage import count_allowed_damage, explain_damage
from coatnet_jax.data.decoding import CorruptImageError, decode_example
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.data.sampling import BalancedIndices
from coatnet_jax.data.sources import DataOptions
from coatnet_jax.data.workers import SteadyBatches, end_with_parent
from coatnet_jax.errors import UserError

Batch = dict[str, np.ndarray]


class _Example(NamedTuple):
  image: np.ndarray  # [H, W, 3] uint8.
  label: int | np.ndarray  # [K] float32 where there are several.
  mask: bool
  corrupt: int


def create_train_batches(
  source: ImageSource,
  *,
  data: DataOptions,
  preprocessing: PreprocessingOptions,
  augmentation: AugmentationOptions,
  global_batch_size: int,
  seed: int,
  start_step: int = 0,
  shards: Sequence[int] = (0,),
  num_shards: int = 1,
) -> SteadyBatches:
  """Reads and augments training images for ever, shuffled in each epoch.

  Epochs follow each other without a gap: a batch may end one and begin the
  next, and every image occurs once in each. A corrupt image is replaced by
  the next one of the source that can be decoded, augmented in its place.

  With balanced sampling, `data.sampling`, every class is as often in them as
  any other: `sampling.BalancedIndices`. Images of small classes then come up
  several times while others come up once.

  With repeated augmentation, `augmentation.repeats` of r (arXiv 1901.09335), a
  batch of B has B / r images, each r times and augmented anew. Copies are B / r
  rows apart: on other devices, if there are r, and never beside each other,
  where MixUp's partner is. An epoch is as long as ever, so it has one in r
  images; r epochs have all of them, r times.

  Args:
    source: images to train with.
    data: options: batches read ahead, workers and threads, and the part of
      images that may be damaged.
    preprocessing: image size and interpolation.
    augmentation: random changes to the images.
    global_batch_size: images per step, over all processes.
    seed: seed of order and augmentation, 0 .. 2**32 - 1.
    start_step: step of the first batch.
    shards: shards of each batch that this process reads, in their order.
    num_shards: number of shards of each batch.

  Returns:
    An iterator of the batches of this process, all of `mask` True. It has
    begun to read; `close()` ends its threads and worker processes.

  Raises:
    UserError: the batch size or seed is not possible; while iterating, a
      label is out of range, most images are corrupt or workers die.
    stopping.StoppedError: while iterating, the process was asked to stop.
  """
  shard_size = _compute_shard_size(global_batch_size, num_shards)
  augmentation.check_batch_size(global_batch_size)
  if not 0 <= seed < 2**32:
    raise UserError(f'config.seed is {seed}; it must be in 0 .. 2**32 - 1.')
  # What random_map draws is a function of the seed and the place in the
  # endless sequence, so it is another one in each epoch.
  if data.sampling == 'balanced':
    indices = BalancedIndices(source.find_labels(), seed).seed(seed)
  else:
    indices = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
  if augmentation.repeats > 1:
    indices = _Repeated(indices, augmentation.repeats, global_batch_size)
  examples = indices.random_map(
    _TrainingExample(
      source,
      preprocessing,
      augmentation,
      count_allowed_damage(source, data.max_damaged_fraction),
    )
  )
  batches = _batch(examples, shard_size, shards, num_shards)[start_step:]
  return SteadyBatches(
    lambda position: iter(
      _read_ahead(batches[position:], data, data.num_workers)
    )
  )


def create_eval_batches(
  source: ImageSource,
  *,
  data: DataOptions,
  preprocessing: PreprocessingOptions,
  global_batch_size: int,
  shards: Sequence[int] = (0,),
  num_shards: int = 1,
) -> 'EvalBatches':
  """Reads every image of a source once, over all processes, in its order.

  Every process gets as many batches; the last are filled up with zeros whose
  `mask` is False. So are corrupt images, which do not count.

  Args:
    source: images to evaluate on.
    data: options: batches read ahead, workers and threads.
    preprocessing: image size, crop and interpolation.
    global_batch_size: images per batch, over all processes.
    shards: shards of each batch that this process reads, in their order.
    num_shards: number of shards of each batch.

  Returns:
    The batches of this process; they can be iterated over many times.

  Raises:
    UserError: the batch size is not possible; while iterating, a label is
      out of range or workers die.
    stopping.StoppedError: while iterating, the process was asked to stop.
  """
  shard_size = _compute_shard_size(global_batch_size, num_shards)
  num_batches = -(-len(source) // global_batch_size)
  examples = grain.MapDataset.range(num_batches * global_batch_size).map(
    _EvaluationExample(source, preprocessing)
  )
  batches = _batch(examples, shard_size, shards, num_shards)
  # Starting workers takes longer than cropping what is in memory.
  num_workers = 0 if source.in_memory else data.num_workers
  return EvalBatches(
    lambda position: iter(_read_ahead(batches[position:], data, num_workers)),
    num_batches,
  )


class _Repeated(grain.MapDataset):
  """A sequence of which each batch has some elements several times.

  Batch k of B has elements k * B / r to (k + 1) * B / r, r times over.
  """

  def __init__(self, parent: grain.MapDataset, repeats: int, batch_size: int):
    """Takes the sequence, r, and B, a multiple of it."""
    super().__init__(parent)
    self._num_distinct = batch_size // repeats
    self._batch_size = batch_size

  def __len__(self) -> int:
    """As many as the sequence has, which never ends."""
    return len(self._parent)

  def __getitem__(self, index):
    """Returns the element at a place, or a slice as every `MapDataset`."""
    if isinstance(index, slice):
      return self.slice(index)
    batch, row = divmod(index, self._batch_size)
    return self._parent[batch * self._num_distinct + row % self._num_distinct]


class EvalBatches:
  """The evaluation batches of one process; see create_eval_batches."""

  def __init__(
    self, create: Callable[[int], Iterator[Batch]], num_batches: int
  ):
    """Takes what `SteadyBatches` does, and the number of batches."""
    self._create = create
    self._num_batches = num_batches

  def __len__(self) -> int:
    """The number of batches."""
    return self._num_batches

  def __iter__(self) -> Iterator[Batch]:
    """Starts from the first batch."""
    with contextlib.closing(SteadyBatches(self._create)) as batches:
      yield from batches


@dataclasses.dataclass(frozen=True)
class _TrainingExample:
  """Number in the source to augmented example, or to that of the next."""

  source: ImageSource
  preprocessing: PreprocessingOptions
  augmentation: AugmentationOptions
  max_damaged: int

  def __call__(self, index: int, rng: np.random.Generator) -> _Example:
    # More in a row than may be damaged in all: then too many are.
    attempts = min(self.max_damaged, len(self.source)) + 2
    for attempt in range(attempts):
      position = (index + attempt) % len(self.source)
      try:
        # Augmentation changes far more than exact decoding would.
        image, label = decode_example(self.source, position, exact=False)
      except CorruptImageError:
        continue
      _check_label(label, self.source, position)
      return _Example(
        image=augment_image(image, rng, self.preprocessing, self.augmentation),
        label=label,
        mask=True,
        corrupt=index if attempt else -1,
      )
    raise UserError(
      f'{attempts} images in a row cannot be decoded, more than'
      ' config.data.max_damaged_fraction allows: replace or remove them, or'
      f' allow more. The first is {explain_damage(self.source, index)}'
    )


@dataclasses.dataclass(frozen=True)
class _EvaluationExample:
  """Number in the source, or past its end, to cropped example or padding."""

  source: ImageSource
  preprocessing: PreprocessingOptions

  def __call__(self, index: int) -> _Example:
    if index >= len(self.source):
      return self._padding(corrupt=-1)
    try:
      image, label = decode_example(self.source, index)
    except CorruptImageError:
      return self._padding(corrupt=index)
    _check_label(label, self.source, index)
    return _Example(
      image=crop_for_evaluation(image, self.preprocessing),
      label=label,
      mask=True,
      corrupt=-1,
    )

  def _padding(self, corrupt: int) -> _Example:
    image = np.zeros((*self.preprocessing.image_size, 3), np.uint8)
    label: int | np.ndarray = 0
    if self.source.has_several_labels:
      label = np.zeros(self.source.num_classes, np.float32)
    return _Example(image=image, label=label, mask=False, corrupt=corrupt)


def _check_label(
  label: int | np.ndarray, source: ImageSource, index: int
) -> None:
  if source.has_several_labels:
    return
  if not 0 <= label < source.num_classes:
    raise UserError(
      f'The label of {source.describe(index)} is {label}; it must be in 0 .. '
      f'{source.num_classes - 1}, as there are {source.num_classes} classes.'
    )


def _compute_shard_size(global_batch_size: int, num_shards: int) -> int:
  if global_batch_size < 1 or global_batch_size % num_shards:
    raise UserError(
      f'The global batch size is {global_batch_size}; it must be a positive '
      f'multiple of {num_shards}, its number of shards.'
    )
  return global_batch_size // num_shards


def _batch(
  examples: grain.MapDataset,
  shard_size: int,
  shards: Sequence[int],
  num_shards: int,
) -> grain.MapDataset:
  """Makes batches of some shards of every global batch, one after the other."""
  first, count = shards[0], len(shards)
  if (
    list(shards) == list(range(first, first + count))
    and first % count == num_shards % count == 0
  ):
    # The shards of a process often are consecutive. They are then one shard of
    # as many times the size, which is not taken apart and put together again.
    shard_size, shards, num_shards = (
      shard_size * count,
      (first // count,),
      num_shards // count,
    )
  batches = examples.batch(shard_size, drop_remainder=True, batch_fn=_stack)
  # Whole global batches: grain's endless sequences end in the middle of one,
  # and parts of them must be equally long.
  end = len(batches) - len(batches) % num_shards
  parts = [batches[shard:end:num_shards] for shard in shards]
  if len(parts) == 1:
    return parts[0]
  return ZipMapDataset(parts).map(_concatenate)


def _concatenate(batches: Sequence[Batch]) -> Batch:
  return {
    name: np.concatenate([batch[name] for batch in batches])
    for name in batches[0]
  }


def _stack(examples: Sequence[_Example]) -> Batch:
  images, labels, masks, corrupt = zip(*examples, strict=True)
  return {
    'image': np.stack(images),
    'label': np.stack(labels)
    if isinstance(labels[0], np.ndarray)
    else np.array(labels, np.int32),
    'mask': np.array(masks, bool),
    'corrupt': np.array(corrupt, np.int64),
  }


def _read_ahead(
  batches: grain.MapDataset, data: DataOptions, num_workers: int
) -> grain.IterDataset:
  """Makes batches in threads, of worker processes if there are any."""
  # Grain hands absl's flags to its workers, and a notebook has parsed none.
  if num_workers and not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  dataset = batches.to_iter_dataset(
    grain.ReadOptions(
      num_threads=min(data.num_threads, data.prefetch_batches),
      prefetch_buffer_size=data.prefetch_batches,
    )
  )
  return dataset.mp_prefetch(
    grain.MultiprocessingOptions(num_workers=num_workers),
    worker_init_fn=end_with_parent,
  )
