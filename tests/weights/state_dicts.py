"""Weights that are made up, for tests of reading and of importing them."""

import jax
import numpy as np

import coatnet_jax
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.weights import timm


def create_timm_state_dict(
  name: str, *, num_classes: int
) -> dict[str, np.ndarray]:
  """Returns random weights of a variant by timm's names."""
  model = coatnet_jax.create_model(name, num_classes=num_classes)
  rng = np.random.default_rng(0)
  # Variances must not be negative, and activations must not grow.
  variables = jax.tree.map(
    lambda leaf: np.abs(rng.normal(size=leaf.shape)).astype(np.float32) / 9,
    abstract_variables(model, model.variant.image_size),
  )
  return timm.to_state_dict(variables, model.variant)
