"""Weights that are made up, for tests of reading and of importing them."""

import jax
import numpy as np

import coatnet_jax
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.weights import timm

# What timm's `test_coatnet` expects of pictures, as `config.preprocessing`.
TEST_COATNET_PREPROCESSING = {
  'image_size': (160, 160),
  'mean': (0.5, 0.5, 0.5),
  'std': (0.5, 0.5, 0.5),
  'eval_crop_fraction': 0.95,
  'eval_resize': 'timm',
  'interpolation': 'bicubic',
}


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
