"""Frozen features: what a model's logits are computed of.

That is the head's `pre_logits`, [B, width]: pooled, normalised and, in the
paper's variants, through the tanh layer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from coatnet_jax import inference
from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.data.damage import explain_damage
from coatnet_jax.data.image_source import (
  DerivedSource,
  ImageSource,
  format_count,
)
from coatnet_jax.data.sources import DataOptions
from coatnet_jax.evaluation.predictions import (
  jit_trained_step,
  run_over_source,
)


class Subset(DerivedSource):
  """Some images of a source, in a given order."""

  def __init__(self, source: ImageSource, indices: Sequence[int]):
    """Takes the source and which of its images."""
    super().__init__(source)
    self._indices = [int(index) for index in indices]
    self.description = (
      f'{format_count(len(self._indices), "image")} of {source.description}'
    )

  def __len__(self):
    """The number of examples."""
    return len(self._indices)

  def __getitem__(self, index):
    """Returns one example; see ImageSource."""
    return self._source[self._indices[index]]

  def describe(self, index):
    """Names the example for a log."""
    return self._source.describe(self._indices[index])


def feature_step(
  variables: Any,
  batch: Mapping[str, jax.Array],
  *,
  model: nn.Module,
  preprocessing: PreprocessingOptions,
) -> dict[str, jax.Array]:
  """Computes the features of a batch; to be called under `jit`.

  Args:
    variables: variables of the model: 'params' and 'batch_stats'.
    batch: 'image' [B, H, W, 3] uint8; 'label', 'mask' and 'corrupt', [B], are
      passed on.
    model: model from `create_model`, with logits.
    preprocessing: mean and standard deviation of the pixels.

  Returns:
    'features' [B, D] float32, and what is passed on.
  """
  return {
    **{name: batch[name] for name in ('label', 'mask', 'corrupt')},
    'features': inference.compute_pre_logits(
      variables, batch['image'], model=model, preprocessing=preprocessing
    ),
  }


def compute_features(
  trained: TrainedModel,
  source: ImageSource,
  *,
  data: DataOptions,
  batch_size: int,
  report_undecodable: Callable[[str], None],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Computes the features of every image of a source, in order.

  Images go through the evaluation's preprocessing. One that cannot be decoded
  is left out.

  Args:
    trained: model with its weights.
    source: images to look at.
    data: options: batches read ahead, workers and threads, and the part of
      images that may be damaged.
    batch_size: number of images at a time, a multiple of the mesh's size.
    report_undecodable: function that takes the name of an image that is left
      out because it cannot be decoded, and why.

  Returns:
    An iterator of, for a batch, indices [n] int64 in the source, features
    [n, D] float32 and labels [n] int32, the data's own.

  Raises:
    UserError: while iterating, more images cannot be decoded than may be.
  """
  outputs = run_over_source(
    jit_trained_step(feature_step, trained),
    source,
    positions=np.arange(source.num_classes, dtype=np.int32),
    trained=trained,
    data=data,
    batch_size=batch_size,
    report_undecodable=lambda index: report_undecodable(
      explain_damage(source, index)
    ),
  )
  return (
    (indices, rows['features'], rows['label']) for indices, rows in outputs
  )


def collect_features(
  batches: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]], count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns indices [n], features [n, D] and labels [n] of all batches.

  Args:
    batches: features of each batch, from `compute_features`.
    count: number of the source's images: memory is taken once, and filled.
  """
  indices, labels = np.zeros(count, np.int64), np.zeros(count, np.int32)
  features, end = np.zeros((0, 0), np.float32), 0
  for some_indices, some_features, some_labels in batches:
    if not end:
      features = np.zeros((count, some_features.shape[1]), np.float32)
    rows = slice(end, end + len(some_indices))
    indices[rows], features[rows] = some_indices, some_features
    labels[rows], end = some_labels, rows.stop
  return indices[:end], features[:end], labels[:end]
