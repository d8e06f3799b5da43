"""Expanding a model's relative-position tables once, for inference.

    variables = expand_bias_tables(model, variables)
    logits = model.apply(variables, images, train=False)

Tables are looked up, and the MLPs that make some of them run, in every call
otherwise. Not for training, which changes the tables.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.models.coatnet import CoAtNet
from coatnet_jax.models.transformer import EXPANDED_BIAS


def expand_bias_tables(
  model: nn.Module,
  variables: Any,
  image_size: tuple[int, int] | None = None,
) -> Any:
  """Adds the bias of every pair of tokens to a model's variables.

  Args:
    model: network to apply, from `create_model`.
    variables: variables of the model; biases are made of their 'params'.
    image_size: (height, width) in pixels of the images to come; what the
      variant is for, if None. Images of other sizes, which parameters of the
      kind 'mlp' take, are computed without what is added here.

  Returns:
    The variables, with the collection 'expanded_bias' if the model has relative
    positions: of each attention layer [heads, N, N] float32, under a name that
    has the grid. It is used where `train` is False, in place of the parameters
    it was made of: those must not change, and have no gradient.

  Raises:
    UserError: the image size does not fit the model or the parameters.
  """
  if not isinstance(model, CoAtNet):
    return variables
  # Nothing but the biases is computed. Which attention that leaves out does not
  # matter, but not all can be compiled everywhere.
  model = model.clone(
    compute=dataclasses.replace(model.compute, attention='reference')
  )
  height, width = image_size or model.variant.image_size

  @jax.jit
  def expand(variables):
    images = jnp.zeros((1, height, width, model.variant.in_channels))
    _, expanded = model.apply(
      variables, images, train=False, mutable=[EXPANDED_BIAS]
    )
    return expanded

  return {**variables, **expand(variables)}
