import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.explanation.integrated_gradients import (
  compute_integrated_gradients,
)
from coatnet_jax.models.factory import create_model

pytestmark = pytest.mark.usefixtures('tiny_variant')


def test_parts_add_up_to_the_difference_of_the_logits():
  model = create_model('tiny', num_classes=3, image_size=(16, 16))
  images = jax.random.normal(jax.random.key(1), (3, 16, 16, 3))
  init = jax.jit(model.init, static_argnames='train')
  variables = init(jax.random.key(0), images, train=False)
  compute = jax.jit(
    functools.partial(compute_integrated_gradients, model, num_steps=256)
  )
  apply = jax.jit(functools.partial(model.apply, train=False))
  baseline = jnp.full((16, 16, 3), -2.0)
  for image in images:
    picture, black = apply(variables, jnp.stack([image, baseline]))
    # The class of which the picture says the most.
    index = abs(picture - black).argmax()
    expected = (picture - black)[index]
    parts, difference = compute(variables, image, baseline, index)
    assert parts.shape == (16, 16, 3)
    np.testing.assert_allclose(difference, expected, rtol=1e-3)
    np.testing.assert_allclose(parts.sum(), expected, rtol=0.02)
  # One gradient, in the middle, is not enough.
  compute = functools.partial(compute_integrated_gradients, model, num_steps=1)
  parts, difference = jax.jit(compute)(variables, image, baseline, index)
  assert abs(parts.sum() - difference) > 0.02 * abs(difference)
