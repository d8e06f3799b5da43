import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.explanation.class_activation import (
  compute_grad_cam,
  weigh_channels,
)
from coatnet_jax.explanation.interception import watch_stages
from coatnet_jax.models.architecture import HeadOptions
from coatnet_jax.models.factory import create_model

pytestmark = pytest.mark.usefixtures('tiny_variant')


def _create(**options):
  """Returns a model, random variables and two pictures."""
  head = HeadOptions(norm='none', pre_logits=False)
  model = create_model(
    'tiny', num_classes=3, image_size=(16, 24), head=head, **options
  )
  images = jax.random.normal(jax.random.key(1), (2, 16, 24, 3))
  init = jax.jit(model.init, static_argnames='train')
  return model, init(jax.random.key(0), images, train=False), images


def test_the_last_stage_is_as_computed_by_hand():
  """With a mean and a product as the head, gradients are its weights / N."""
  model, variables, images = _create()
  classes = np.array([2, 0])
  maps = jax.jit(compute_grad_cam, static_argnums=0, static_argnames='stage')(
    model, variables, images, classes, stage='s2'
  )
  _, sown = model.apply(
    variables, images, train=False, mutable=['intermediates']
  )
  last = np.asarray(sown['intermediates']['s2'])  # [2, 4, 6, C]
  assert last.shape[:3] == maps.shape == (2, 4, 6)
  kernel = np.asarray(variables['params']['head_logits']['kernel'])
  for index, label in enumerate(classes):
    expected = np.maximum(last[index] @ kernel[:, label], 0) / 24
    np.testing.assert_allclose(maps[index], expected, rtol=1e-4, atol=1e-7)
  assert maps.any()


def test_an_earlier_stage_weighs_channels_by_the_logits_change():
  """Moving all values of a channel moves the logit by N times its weight."""
  model, variables, images = _create()
  images, label, step = images[:1], 1, 1e-2

  @jax.jit
  def compute(move):
    seen = []

    def observe(name, x):
      if name == 's1':
        seen.append(x)
        return move

    with watch_stages(observe):
      logits = model.apply(variables, images, train=False)
    return logits[0, label], seen[0]

  found = compute_grad_cam(
    model, variables, images, np.array([label]), stage='s1'
  )
  _, maps = compute(jnp.zeros(16))  # [1, 8, 12, C]
  weights = [
    (compute(move)[0] - compute(-move)[0]) / (2 * step * 8 * 12)
    for move in step * jnp.eye(16)
  ]
  expected = np.maximum(np.asarray(maps) @ np.asarray(weights), 0)
  np.testing.assert_allclose(
    found, expected, rtol=0.02, atol=0.02 * expected.max()
  )
  assert found.any()


@pytest.mark.slow
@pytest.mark.rotating
def test_how_a_model_is_computed_changes_no_map():
  model, variables, images = _create()
  classes = np.array([0, 1])
  plain = compute_grad_cam(model, variables, images, classes, stage='s1')
  other, *_ = _create(scan_blocks=True, remat='blocks')
  found = compute_grad_cam(other, variables, images, classes, stage='s1')
  np.testing.assert_array_equal(plain, found)


def test_what_speaks_against_a_class_is_0():
  maps = jnp.array([[[[1.0]], [[-2.0]]]])  # [1, 2, 1, 1]
  assert weigh_channels(maps, -jnp.ones_like(maps)).tolist() == [[[0.0], [2.0]]]
