import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.models.batch_norm import GroupedBatchNorm

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
  norm = GroupedBatchNorm(
    group_size=group_size, momentum=0.75, epsilon=1e-3, dtype=dtype
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


def test_vectors_and_half_precision():
  x = create_images()[:, 0, 0].astype(jnp.bfloat16)
  y, stats = normalise(x, 3, jnp.bfloat16)
  assert (y.dtype, y.shape) == (jnp.bfloat16, (6, 3))
  assert stats['mean'].dtype == jnp.float32


def test_variables_are_those_of_flax():
  norm = GroupedBatchNorm(
    group_size=4, momentum=0.9, epsilon=1e-3, dtype=jnp.float32
  )
  # Of one example, with which models are initialised.
  variables = norm.init(jax.random.key(0), jnp.ones((1, 2, 2, 3)))
  expected = nn.BatchNorm(use_running_average=False).init(
    jax.random.key(0), jnp.ones((1, 2, 2, 3))
  )
  jax.tree.map(np.testing.assert_array_equal, variables, expected)


def test_groups_must_divide_the_batch():
  with pytest.raises(
    UserError, match='is 4, which does not divide a batch of 6'
  ):
    normalise(create_images(), 4)
