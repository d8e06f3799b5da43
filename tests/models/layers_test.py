"""Layers by themselves: GELU, epsilons, and what is drawn for each branch."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.models.layers import (
  KERNEL_INITS,
  LayerMaker,
  StochasticDepth,
  drop_branch,
  gelu,
)
from coatnet_jax.models.transformer import RelativePositionMLP


def _create_maker(**options):
  inits = KERNEL_INITS['normal_0.02']
  return LayerMaker(
    **{
      'dtype': jnp.float32,
      'attention': 'auto',
      'kernel_init': inits.convolution,
      'depthwise_init': inits.depthwise,
      'batch_norm_momentum': 0.9,
      **options,
    }
  )


@pytest.mark.parametrize(
  ('dtype', 'rtol', 'atol'),
  [(jnp.float32, 1e-6, 1e-6), (jnp.bfloat16, 2**-8, 1e-5)],
)
def test_gelu_is_exact(dtype, rtol, atol):
  x = jnp.linspace(-12, 12, 4001, dtype=dtype)
  # What bfloat16 has made of them.
  wide = np.asarray(x, np.float64)
  cdf = 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
  density = np.exp(-(wide**2) / 2) / math.sqrt(2 * math.pi)
  value, pullback = jax.vjp(gelu, x)
  (gradient,) = pullback(jnp.ones_like(x))
  assert value.dtype == gradient.dtype == dtype
  for found, expected in (
    (value, wide * cdf),
    (gradient, cdf + wide * density),
  ):
    found = np.asarray(found, np.float64)
    np.testing.assert_allclose(found, expected, rtol, atol)


@pytest.mark.parametrize('epsilon', [1e-6, 1e-5, 1e-3])
@pytest.mark.parametrize(
  ('kind', 'group_size'), [('layer', 0), ('batch', 0), ('batch', 4)]
)
def test_a_norm_adds_its_own_epsilon(kind, group_size, epsilon):
  maker = _create_maker(batch_norm_group_size=group_size)
  norm = maker.norm(kind, epsilon, train=True, name=None)
  # With a variance as small as the epsilon.
  x = 1e-3 * jax.random.normal(jax.random.key(0), (4, 8))
  y, _ = norm.init_with_output(jax.random.key(0), x)
  axis = -1 if kind == 'layer' else 0
  x = np.asarray(x, np.float64)
  expected = (x - x.mean(axis, keepdims=True)) / np.sqrt(
    x.var(axis, keepdims=True) + epsilon
  )
  np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('shape', [(4096, 3), (4096, 2, 5), (4096, 2, 2, 1)])
@pytest.mark.parametrize('rate', [0.25, 0.6])
def test_whole_branches_are_dropped_and_the_rest_is_scaled_up(shape, rate):
  drop = StochasticDepth(jax.random.key(3), rate)
  kept = np.asarray(drop_branch(jnp.ones(shape), drop)).reshape(shape[0], -1)
  assert np.all(kept == kept[:, :1])
  np.testing.assert_allclose(np.unique(kept), [0, 1 / (1 - rate)], rtol=1e-6)
  deviation = (rate * (1 - rate) / shape[0]) ** 0.5
  assert abs((kept[:, 0] == 0).mean() - rate) < 5 * deviation


def test_branches_of_a_block_are_dropped_independently():
  drop = StochasticDepth(jax.random.key(4), 0.5)
  first, second = (
    np.asarray(drop_branch(jnp.ones((4096, 1)), drop, branch))[:, 0] == 0
    for branch in (0, 1)
  )
  # Each of the four combinations is as likely.
  for a in (first, ~first):
    for b in (second, ~second):
      assert abs((a & b).mean() - 0.25) < 5 * (3 / 16 / 4096) ** 0.5


def test_the_mlp_of_relative_positions_drops_in_training_alone():
  module = RelativePositionMLP(
    num_heads=2,
    hidden_width=64,
    dropout_rate=0.5,
    kernel_init=jax.nn.initializers.normal(1.0),
  )
  variables = module.init(jax.random.key(0), (3, 4), False, None)
  plain = module.apply(variables, (3, 4), False, None)
  drawn = [
    module.apply(variables, (3, 4), True, jax.random.key(seed))
    for seed in range(3)
  ]
  assert plain.shape == (2, 5, 7)
  for one, other in [(0, 1), (1, 2), (0, 2)]:
    assert not np.allclose(drawn[one], drawn[other])
  for one in drawn:
    assert not np.allclose(one, plain)
  # What is to the left differs from what is to the right.
  assert not np.allclose(plain, plain[:, :, ::-1])
  assert not np.allclose(plain, plain[:, ::-1])
