import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.models.norms import (
  BatchNorm,
  LayerNorm,
  compute_moments,
)

VARIABLES = {
  'params': {
    'scale': np.array([0.5, 1.0, 2.0], np.float32),
    'bias': np.array([0.1, 0.2, 0.3], np.float32),
  },
  'batch_stats': {
    'mean': np.array([1.0, 2.0, 3.0], np.float32),
    'var': np.array([1.0, 0.5, 2.0], np.float32),
  },
}


def normalise(x, group_size, dtype=jnp.float32):
  norm = BatchNorm(
    use_running_average=False,
    group_size=group_size,
    momentum=0.75,
    epsilon=1e-3,
    dtype=dtype,
  )
  y, updates = norm.apply(VARIABLES, x, mutable=['batch_stats'])
  return y, updates['batch_stats']


def create_images(batch=6):
  rng = np.random.default_rng(0)
  # Groups that differ.
  means = 3 * rng.normal(size=(batch, 1, 1, 3))
  return (means + rng.normal(size=(batch, 4, 5, 3))).astype(np.float32)


def test_each_group_has_statistics_of_its_own():
  x = create_images()
  y, _ = normalise(x, 2)
  for group, expected_of in zip(np.split(x, 3), np.split(np.asarray(y), 3)):
    mean, var = group.mean((0, 1, 2)), group.var((0, 1, 2))
    expected = (group - mean) / np.sqrt(var + 1e-3)
    expected = expected * VARIABLES['params']['scale']
    np.testing.assert_allclose(
      expected_of, expected + VARIABLES['params']['bias'], atol=1e-4
    )


def test_one_group_is_flax_batch_norm():
  x = create_images()
  flax = nn.BatchNorm(use_running_average=False, momentum=0.75, epsilon=1e-3)
  expected, updates = flax.apply(VARIABLES, x, mutable=['batch_stats'])
  y, stats = normalise(x, len(x))
  np.testing.assert_allclose(y, expected, atol=1e-5)
  for name in ('mean', 'var'):
    np.testing.assert_allclose(
      stats[name], updates['batch_stats'][name], rtol=1e-5
    )


def test_running_statistics_are_of_the_whole_batch():
  x = create_images()
  _, whole = normalise(x, 6)
  for group_size in (1, 2, 3):
    _, stats = normalise(x, group_size)
    for name in ('mean', 'var'):
      np.testing.assert_allclose(stats[name], whole[name], rtol=1e-4)


# Mean and deviation, of which the squares leave no digit of the difference.
LARGE_MEANS = [(100, 0.1), (-300, 0.05), (1e4, 1.0), (3e-3, 1e-7)]


@pytest.mark.parametrize(('mean', 'deviation'), LARGE_MEANS)
@pytest.mark.parametrize(
  ('shape', 'group_size'),
  [((8, 6, 7, 5), 0), ((8, 6, 7, 5), 2), ((400, 5), 0), ((400, 5), 50)],
)
def test_statistics_survive_a_large_mean(mean, deviation, group_size, shape):
  rng = np.random.default_rng(0)
  # Examples differ too, not only positions.
  each = rng.normal(size=(shape[0], *(1,) * (len(shape) - 2), shape[-1]))
  x = mean + deviation * (each + rng.normal(size=shape))
  x = x.astype(np.float32)
  # To one in the smallest of them.
  epsilon = 1e-16
  norm = BatchNorm(
    use_running_average=False,
    group_size=group_size,
    momentum=0.0,
    epsilon=epsilon,
    dtype=jnp.float32,
  )
  variables = norm.init(jax.random.key(0), x[:1])
  y, updates = jax.jit(
    lambda x: norm.apply(variables, x, mutable=['batch_stats'])
  )(x)
  size = group_size or shape[0]
  axes = tuple(range(1, len(shape)))
  groups = x.astype(np.float64).reshape(-1, size, *shape[1:])
  expected = groups - groups.mean(axes, keepdims=True)
  expected /= np.sqrt(groups.var(axes, keepdims=True) + epsilon)
  np.testing.assert_allclose(y, expected.reshape(shape), atol=0.01, rtol=0.01)
  whole = tuple(range(len(shape) - 1))
  stats = updates['batch_stats']
  np.testing.assert_allclose(
    stats['mean'], x.mean(whole, np.float64), rtol=1e-5
  )
  np.testing.assert_allclose(stats['var'], x.var(whole, np.float64), rtol=0.01)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(('mean', 'deviation'), LARGE_MEANS)
def test_layer_norm_survives_a_large_mean(mean, deviation, dtype):
  """Of float32, also where the result is bfloat16, as in a model's head."""
  x = mean + deviation * np.random.default_rng(0).normal(size=(3, 4, 64))
  x = x.astype(np.float32)
  epsilon = 1e-16
  norm = LayerNorm(epsilon=epsilon, dtype=dtype)
  y, _ = norm.init_with_output(jax.random.key(0), x)
  expected = x - x.mean(-1, np.float64, keepdims=True)
  expected /= np.sqrt(x.var(-1, np.float64, keepdims=True) + epsilon)
  assert y.dtype == dtype
  np.testing.assert_allclose(np.float32(y), expected, atol=0.01, rtol=0.01)


@pytest.mark.parametrize('shape', [(4, 112, 112, 5), (64, 7, 7, 5), (2000, 5)])
def test_moments_lose_less_than_rounding_to_bfloat16(shape):
  values = np.random.default_rng(0).normal(size=shape)
  axes = tuple(range(len(shape) - 1))
  for mean in (0, 10, -100, 300, 1000, 3000):
    x = jnp.asarray(mean + values, jnp.bfloat16)
    found_mean, found_var = map(np.ravel, jax.jit(compute_moments)(x))
    rounded = np.asarray(x, np.float64)
    var = rounded.var(axes)
    lost = np.abs(var - values.var(axes))
    assert (np.abs(found_var - var) < 0.2 * lost.max() + 1e-5).all(), mean
    np.testing.assert_allclose(
      found_mean, rounded.mean(axes), rtol=1e-6, atol=1e-6
    )


def test_gradients_are_those_of_flax():
  """Also those that go through the statistics."""
  x = create_images()
  weights = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
  flax = nn.BatchNorm(
    use_running_average=False,
    momentum=0.75,
    epsilon=1e-3,
    use_fast_variance=False,
  )

  def loss(norm, variables, x):
    y, updates = norm.apply(variables, x, mutable=['batch_stats'])
    squares = jax.tree.map(lambda s: (s**2).sum(), updates)
    return (weights * y).sum() + sum(jax.tree.leaves(squares))

  ours = BatchNorm(
    use_running_average=False, momentum=0.75, epsilon=1e-3, dtype=jnp.float32
  )
  found, expected = (
    jax.jit(jax.grad(functools.partial(loss, norm), argnums=(0, 1)))(
      VARIABLES, x
    )
    for norm in (ours, flax)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
    found,
    expected,
  )


def test_running_statistics_normalise_in_evaluation():
  x = create_images()
  settings = {'use_running_average': True, 'momentum': 0.75, 'epsilon': 1e-3}
  norm = BatchNorm(**settings, dtype=jnp.float32, group_size=4)
  y, updates = norm.apply(VARIABLES, x, mutable=['batch_stats'])
  expected = nn.BatchNorm(**settings).apply(VARIABLES, x)
  np.testing.assert_allclose(y, expected, atol=1e-6)
  jax.tree.map(
    np.testing.assert_array_equal,
    updates['batch_stats'],
    VARIABLES['batch_stats'],
  )


def test_vectors_and_half_precision():
  x = create_images()[:, 0, 0].astype(jnp.bfloat16)
  y, stats = normalise(x, 3, jnp.bfloat16)
  assert (y.dtype, y.shape) == (jnp.bfloat16, (6, 3))
  assert stats['mean'].dtype == jnp.float32


def test_variables_are_those_of_flax():
  norm = BatchNorm(
    use_running_average=False,
    group_size=4,
    momentum=0.9,
    epsilon=1e-3,
    dtype=jnp.float32,
  )
  # Of one example, with which models are initialised.
  variables = norm.init(jax.random.key(0), jnp.ones((1, 2, 2, 3)))
  expected = nn.BatchNorm(use_running_average=False).init(
    jax.random.key(0), jnp.ones((1, 2, 2, 3))
  )
  jax.tree.map(np.testing.assert_array_equal, variables, expected)


def test_layer_norms_variables_are_those_of_flax():
  x = jnp.asarray(create_images())
  ours = LayerNorm(epsilon=1e-5, dtype=jnp.float32)
  y, variables = ours.init_with_output(jax.random.key(0), x)
  flax = nn.LayerNorm(epsilon=1e-5)
  expected_y, expected = flax.init_with_output(jax.random.key(0), x)
  jax.tree.map(np.testing.assert_array_equal, variables, expected)
  np.testing.assert_allclose(y, expected_y, atol=1e-4)


def test_groups_must_divide_the_batch():
  with pytest.raises(UserError, match='is 4; it must divide a batch of 6'):
    normalise(create_images(), 4)
