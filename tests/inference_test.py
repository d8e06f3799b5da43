"""Classes and probabilities of images, by hand."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.inference import predict_top_classes
from coatnet_jax.training.losses import LossOptions
from tests.quick_configs import create_preprocessing


class _Pixels(nn.Module):
  """Logits that are the normalised colours of the first pixel."""

  @nn.compact
  def __call__(self, images, *, train):
    return images[:, 0, 0]


@pytest.mark.parametrize(
  ('kind', 'expected'),
  [
    ('softmax', np.exp([2, 1]) / np.exp([0, 2, 1]).sum()),
    ('sigmoid', 1 / (1 + np.exp([-2, -1]))),
  ],
)
def test_probabilities_are_those_of_the_loss(kind, expected):
  # Mean 0.2, deviation 0.4: 51 is 0, 255 is 2 and 153 is 1.
  images = jnp.array([51, 255, 153], jnp.uint8).reshape(1, 1, 1, 3)
  classes, probabilities = _predict(images, kind, top=2)
  assert classes.tolist() == [[1, 2]]
  np.testing.assert_allclose(probabilities, [expected], rtol=1e-6)


def test_classes_rank_by_logit_where_probabilities_round_to_one():
  images = jnp.array([[200, 255, 254]], jnp.uint8).reshape(1, 1, 1, 3)
  classes, probabilities = _predict(images, 'sigmoid', top=3, std=0.001)
  assert probabilities.tolist() == [[1, 1, 1]]
  assert classes.tolist() == [[1, 2, 0]]


def _predict(images, kind, top, std=0.4):
  preprocessing = create_preprocessing(
    image_size=(1, 1), mean=(0.2,) * 3, std=(std,) * 3
  )
  return predict_top_classes(
    {},
    images,
    model=_Pixels(),
    loss=LossOptions(kind=kind, label_smoothing=0.05),
    preprocessing=preprocessing,
    top=top,
  )
