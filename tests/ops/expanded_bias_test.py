"""Attention with a table that was expanded before."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.ops.relative_attention import relative_attention
from coatnet_jax.ops.relative_bias import (
  ExpandedBias,
  collapse_bias,
  expand_bias_table,
)


def _draw(seed, shape):
  return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize('grid', [(3, 4), (1, 5), (4, 1)])
def test_the_table_comes_back(grid):
  table = _draw(0, (2, 2 * grid[0] - 1, 2 * grid[1] - 1))
  expanded = ExpandedBias(expand_bias_table(table, grid))
  np.testing.assert_array_equal(collapse_bias(expanded, grid), table)


@pytest.mark.parametrize(
  'options',
  [
    {'implementation': 'reference'},
    {'implementation': 'xla'},
    {'implementation': 'auto'},
    {'implementation': 'pallas', 'interpret': True},
  ],
  ids=lambda options: options['implementation'],
)
def test_it_is_the_same_attention(options):
  grid = (3, 4)
  q, k, v = (_draw(seed, (2, 12, 2, 32)) for seed in range(3))
  table = _draw(3, (2, 5, 7))
  attend = functools.partial(relative_attention, grid=grid, **options)
  expanded = ExpandedBias(expand_bias_table(table, grid))

  @jax.jit
  def compute(q, k, v, table, expanded):
    def loss(bias, q):
      out = attend(q, k, v, bias)
      return (out**2).sum(), out

    return [
      jax.value_and_grad(loss, (0, 1), has_aux=True)(bias, q)
      for bias in (table, expanded)
    ]

  plain, other = compute(q, k, v, table, expanded)
  np.testing.assert_allclose(other[0][1], plain[0][1], rtol=1e-5, atol=1e-6)
  (plain_table, plain_q), (other_bias, other_q) = plain[1], other[1]
  np.testing.assert_allclose(other_q, plain_q, rtol=1e-4, atol=1e-5)
  # Summed over the pairs of each offset.
  fold = jax.vjp(lambda table: expand_bias_table(table, grid), table)[1]
  (folded,) = fold(other_bias.values)
  np.testing.assert_allclose(folded, plain_table, rtol=1e-4, atol=1e-5)


def test_one_of_another_grid_is_refused():
  q = jnp.zeros((1, 12, 2, 32))
  with pytest.raises(ValueError, match=r'3x4 need \(2, 12, 12\)'):
    relative_attention(
      *[q] * 3, ExpandedBias(jnp.zeros((2, 9, 9))), grid=(3, 4)
    )
