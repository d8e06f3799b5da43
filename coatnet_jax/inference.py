"""What a trained model says of images, for all who ask it.

Evaluation during training, `tools.evaluate` and `tools.predict` give variables
and images, and get logits, classes, probabilities and losses by the same rules.
All are functions of arrays, to be called under `jit`.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.training.image_normalization import normalize_images
from coatnet_jax.training.losses import (
  LossOptions,
  compute_loss,
  compute_probabilities,
  create_soft_targets,
)
from coatnet_jax.training.metrics import find_valid, rank_classes


def compute_logits(
  variables: Any,
  images: jax.Array,
  *,
  model: nn.Module,
  preprocessing: PreprocessingOptions,
) -> jax.Array:
  """Computes the logits of images.

  Args:
    variables: {'params', 'batch_stats'} of the model.
    images: [B, H, W, 3] uint8, from `augmentation.crop_for_evaluation`.
    model: network to apply, from `create_model`.
    preprocessing: mean and standard deviation of the pixels.

  Returns:
    [B, K] float32.
  """
  images = _normalize(images, preprocessing)
  return model.apply(variables, images, train=False)


def compute_pre_logits(
  variables: Any,
  images: jax.Array,
  *,
  model: nn.Module,
  preprocessing: PreprocessingOptions,
) -> jax.Array:
  """Computes the features that logits are computed from, [B, D] float32.

  Arguments are those of `compute_logits`; the model must have logits.
  """
  _, sown = model.apply(
    variables,
    _normalize(images, preprocessing),
    train=False,
    mutable=['intermediates'],
  )
  return sown['intermediates']['pre_logits'].astype(jnp.float32)


def compute_losses(
  logits: jax.Array, labels: jax.Array, loss: LossOptions
) -> jax.Array:
  """Computes the loss of each example, without label smoothing.

  >>> loss = LossOptions(kind='softmax', label_smoothing=0.1)
  >>> losses = compute_losses(jnp.zeros((1, 2)), jnp.array([1]), loss)
  >>> f'{losses[0]:.4f}'
  '0.6931'

  Args:
    logits: [B, K], any float dtype.
    labels: [B] int32 classes, or [B, K] float soft labels.
    loss: options of the loss, of which only the kind counts.

  Returns:
    [B] float32.
  """
  return compute_loss(
    logits,
    create_soft_targets(labels, logits.shape[-1]),
    options=dataclasses.replace(loss, label_smoothing=0.0),
  )


def rate_logits(
  logits: jax.Array, labels: jax.Array, loss: LossOptions
) -> dict[str, jax.Array]:
  """Returns what evaluation needs of logits.

  >>> loss = LossOptions(kind='softmax', label_smoothing=0.0)
  >>> rated = rate_logits(jnp.zeros((1, 4)), jnp.array([3]), loss)
  >>> {name: array.tolist() for name, array in rated.items() if name != 'loss'}
  {'classes': [[0, 1, 2, 3]], 'confidence': [0.25], 'valid': [True]}

  Args:
    logits: [B, K], any float dtype.
    labels: true class of each, [B] int32.
    loss: options of the loss, of which only the kind counts.

  Returns:
    'classes' [B, k] int32, the most probable first, with k = 5, or K where that
    is less; 'confidence' [B] float32, the largest probability; 'loss' [B]
    float32; 'valid' [B] bool, false where a logit is NaN.
  """
  return {
    'classes': rank_classes(logits, 5),
    'confidence': compute_probabilities(logits, loss).max(axis=-1),
    'loss': compute_losses(logits, labels, loss),
    'valid': find_valid(logits),
  }


def predict_top_classes(
  variables: Any,
  images: jax.Array,
  *,
  model: nn.Module,
  loss: LossOptions,
  preprocessing: PreprocessingOptions,
  top: int,
) -> tuple[jax.Array, jax.Array]:
  """Returns the most probable classes of images, and their probabilities.

  Args:
    variables: {'params', 'batch_stats'} of the model.
    images: [B, H, W, 3] uint8, from `augmentation.crop_for_evaluation`.
    model: network to apply, from `create_model`.
    loss: loss that the model was trained with.
    preprocessing: mean and standard deviation of the pixels.
    top: number of classes to return, at most K.

  Returns:
    The classes, [B, top] int32, the most probable first, ranked by logits as
    evaluation does: probabilities close to 1 can round to the same number.
    Their probabilities, [B, top] float32: those of all classes add up to 1
    where classes exclude each other ('softmax') and are independent of each
    other elsewhere ('sigmoid').
  """
  logits = compute_logits(
    variables, images, model=model, preprocessing=preprocessing
  )
  classes = rank_classes(logits, top)
  probabilities = compute_probabilities(logits, loss)
  return classes, jnp.take_along_axis(probabilities, classes, axis=-1)


def _normalize(
  images: jax.Array, preprocessing: PreprocessingOptions
) -> jax.Array:
  return normalize_images(
    images, mean=preprocessing.mean, std=preprocessing.std
  )
