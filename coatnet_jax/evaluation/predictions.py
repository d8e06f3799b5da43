"""One pass of a model over a source of images: what it says of each.

Only a few bytes of an example come back to the host, its best classes, their
confidence and its loss; logits stay on the device. Every process of several
gets the predictions of all.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from coatnet_jax import terminal
from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data import batching
from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.data.damage import CorruptImageCounter
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.data.sources import DataOptions
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.evaluation.data_sets import EvaluationData
from coatnet_jax.evaluation.dispatch import jit_step, read_behind
from coatnet_jax.evaluation.measures import Predictions
from coatnet_jax.inference import compute_logits, rate_logits
from coatnet_jax.training.losses import LossOptions, compute_probabilities


def predict_step(
  variables: Any,
  batch: Mapping[str, jax.Array],
  *,
  model: nn.Module,
  loss: LossOptions,
  preprocessing: PreprocessingOptions,
  candidates: tuple[int, ...] | None,
  with_probabilities: bool = False,
) -> dict[str, jax.Array]:
  """Predicts one batch; to be called under `jit`.

  Args:
    variables: variables of the model: 'params' and 'batch_stats'.
    batch: 'image' [B, H, W, 3] uint8; 'label' [B] int32, places among the
      candidates; 'mask' [B] bool and 'corrupt' [B] int32, which are passed on.
    model: network to apply, from `create_model`.
    loss: options of the loss, of which only the kind counts: labels are not
      smoothed.
    preprocessing: mean and standard deviation of the pixels.
    candidates: classes whose logits count, None for all; see `LabelSpace`.
    with_probabilities: whether those of all classes are returned too.

  Returns:
    'label', 'mask', 'corrupt', and as in `Predictions` 'classes' [B, k],
    'confidence', 'loss' and 'valid', [B], by `inference.rate_logits`; and
    'probabilities' [B, C], where they are asked for.
  """
  logits = compute_logits(
    variables, batch['image'], model=model, preprocessing=preprocessing
  )
  if candidates is not None:
    logits = logits[:, np.array(candidates)]
  predicted = {
    **{name: batch[name] for name in ('label', 'mask', 'corrupt')},
    **rate_logits(logits, batch['label'], loss),
  }
  if with_probabilities:
    predicted['probabilities'] = compute_probabilities(logits, loss)
  return predicted


def predict_source(
  trained: TrainedModel,
  evaluation: EvaluationData,
  *,
  batch_size: int,
  report_undecodable: Callable[[int], None],
  with_probabilities: bool = False,
) -> Iterator[Predictions]:
  """Predicts every image of an evaluation once, in order.

  The model is compiled before this returns.

  Args:
    trained: model with its weights.
    evaluation: images with their preprocessing, and what their labels mean to
      the model.
    batch_size: number of images at a time, a multiple of the mesh's size.
    report_undecodable: function that takes the index of an image that is left
      out because it cannot be decoded.
    with_probabilities: whether the predictions have those of all classes.

  Returns:
    An iterator of the predictions of a batch's images.

  Raises:
    UserError: while iterating, more images cannot be decoded than may be.
  """
  space = evaluation.space
  trained = dataclasses.replace(trained, preprocessing=evaluation.preprocessing)
  step = jit_trained_step(
    predict_step,
    trained,
    loss=trained.loss,
    candidates=space.candidates,
    with_probabilities=with_probabilities,
  )
  outputs = run_over_source(
    step,
    evaluation.source,
    positions=space.positions,
    trained=trained,
    data=evaluation.data,
    batch_size=batch_size,
    report_undecodable=report_undecodable,
  )
  return (
    Predictions.create(indices, rows['label'], rows)
    for indices, rows in outputs
  )


def jit_trained_step(
  step: Callable[..., Any], trained: TrainedModel, **options: Any
) -> Callable[[Mapping[str, jax.Array]], Any]:
  """Returns a function of batches: a step with a trained model's weights.

  Args:
    step: function of variables and a batch, with `model` and `preprocessing`.
    trained: model with its weights, its mesh, and the preprocessing.
    **options: further keyword arguments of `step`, which can be hashed.
  """
  jitted = jit_step(
    step,
    trained.mesh,
    model=trained.model,
    preprocessing=trained.preprocessing,
    **options,
  )
  return functools.partial(jitted, trained.variables)


def run_over_source(
  step: Callable[[Mapping[str, jax.Array]], dict[str, jax.Array]],
  source: ImageSource,
  *,
  positions: np.ndarray,
  trained: TrainedModel,
  data: DataOptions,
  batch_size: int,
  report_undecodable: Callable[[int], None],
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
  """Applies a jitted function to every image of a source.

  Args:
    step: function that takes 'image', 'label', 'mask' and 'corrupt' of the
      global batch and returns replicated arrays [B, ...], the last three among
      them. It is compiled before this returns.
    source: images to look at.
    positions: [n] int32, the label that each class of the data is given; where
      images have several, a permutation.
    trained: model with its mesh, and the preprocessing of the images.
    data: options: batches read ahead, workers and threads, and the part of
      images that may be damaged.
    batch_size: number of images at a time, a multiple of the mesh's size.
    report_undecodable: function that takes the index of an image that is left
      out because it cannot be decoded.

  Returns:
    An iterator of a batch's indices in the source, [n] int64, and its rows,
    without padding.
  """
  mesh = trained.mesh
  shards = mesh_lib.find_process_shards(mesh)
  num_shards = mesh_lib.count_batch_shards(mesh)
  batches = batching.create_eval_batches(
    source,
    data=data,
    preprocessing=trained.preprocessing,
    global_batch_size=batch_size,
    shards=shards,
    num_shards=num_shards,
  )

  def place(batch):
    batch = {
      'image': batch['image'],
      'label': _place_labels(batch['label'], positions),
      'mask': batch['mask'],
      'corrupt': batch['corrupt'].astype(np.int32),
    }
    return mesh_lib.put_batch(batch, mesh, tuple(batch))

  rows = batch_size // num_shards * len(shards)
  terminal.begin('compiling')
  jax.block_until_ready(step(place(_blank_batch(rows, trained, source))))
  counter = CorruptImageCounter(source, data.max_damaged_fraction)

  def run():
    read = (_count_corrupt(batch, counter) for batch in batches)
    outputs = read_behind(step(place(batch)) for batch in read)
    terminal.begin('reading images', f'0 of {len(batches)} batches read')
    for number, output in enumerate(outputs):
      count = number + 1
      terminal.begin(
        'reading images',
        f'{count} of {len(batches)} batches read',
        count / len(batches),
      )
      corrupt, mask = output.pop('corrupt'), output.pop('mask')
      for index in corrupt[corrupt >= 0].tolist():
        report_undecodable(index)
      indices = number * batch_size + np.flatnonzero(mask)
      yield indices, {name: array[mask] for name, array in output.items()}
    terminal.begin('computing the measures')

  return run()


def _count_corrupt(batch, counter):
  counter.update(batch)
  return batch


def _place_labels(labels: np.ndarray, positions: np.ndarray) -> np.ndarray:
  """Returns what labels are among the candidates, of either kind."""
  if labels.ndim == 1:
    return positions[labels]
  placed = np.zeros_like(labels)
  placed[:, positions] = labels
  return placed


def _blank_batch(
  rows: int, trained: TrainedModel, source: ImageSource
) -> dict[str, np.ndarray]:
  """Returns a batch of black images, to compile a step with."""
  labels = np.zeros(rows, np.int32)
  if source.has_several_labels:
    labels = np.zeros((rows, source.num_classes), np.float32)
  return {
    'image': np.zeros((rows, *trained.preprocessing.image_size, 3), np.uint8),
    'label': labels,
    'mask': np.ones(rows, bool),
    'corrupt': np.full(rows, -1),
  }
