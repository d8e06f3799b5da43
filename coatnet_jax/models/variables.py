"""A model's variables before any training: initialised, or their shapes."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def create_variables(
  model: nn.Module,
  image_size: tuple[int, int],
  key: jax.Array,
  *,
  channels: int = 3,
) -> dict[str, Any]:
  """Initialises a model; to be called under `jit`.

  Args:
    model: network to initialise, from `create_model` or another one.
    image_size: (height, width) in pixels.
    key: typed PRNG key of the random numbers.
    channels: number of channels of the images.

  Returns:
    {'params', 'batch_stats'}; a model without BatchNorm has {} of the second.

  Raises:
    UserError: the image size does not fit the model.
  """
  # Lazy: only the initialisers are computed, not a forward pass.
  images = jax.ShapeDtypeStruct((1, *image_size, channels), jnp.float32)
  variables = model.lazy_init(key, images, train=False)
  return {'batch_stats': {}, **variables}


def abstract_variables(
  model: nn.Module, image_size: tuple[int, int]
) -> dict[str, Any]:
  """Returns what `create_variables` does, of `jax.ShapeDtypeStruct`.

  >>> from coatnet_jax.models.factory import create_model
  >>> model = create_model('coatnet_mini', num_classes=10)
  >>> variables = abstract_variables(model, (32, 32))
  >>> variables['params']['head_logits']['kernel'].shape
  (64, 10)

  Args:
    model: network to look at, from `create_model`.
    image_size: (height, width) in pixels.

  Raises:
    UserError: the image size does not fit the model.
  """
  create = functools.partial(
    create_variables, model, image_size, channels=model.variant.in_channels
  )
  return jax.eval_shape(create, jax.random.key(0))
