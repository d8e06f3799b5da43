import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from coatnet_jax.ops.relative_attention.bias_table import (
  expand_bias_table,
  expand_large_bias_table,
  fold_bias_gradient,
)
from tests.ops.relative_attention import numpy_reference as reference

GRIDS = [(7, 7), (3, 5), (5, 2), (1, 4), (1, 1)]


def _draw(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('expand', [expand_bias_table, expand_large_bias_table])
def test_every_pair_reads_the_entry_of_its_offset(expand, grid):
  table = _draw(2, 2 * grid[0] - 1, 2 * grid[1] - 1)
  np.testing.assert_array_equal(
    expand(table, grid), reference.expand(table, grid)
  )


@pytest.mark.parametrize('grid', GRIDS)
def test_folding_is_the_transpose_of_expanding(grid):
  tokens = grid[0] * grid[1]
  gradient = _draw(2, tokens, tokens)
  table = jnp.zeros((2, 2 * grid[0] - 1, 2 * grid[1] - 1))
  _, transpose = jax.vjp(lambda t: expand_bias_table(t, grid), table)
  folded = fold_bias_gradient(gradient, grid)
  np.testing.assert_allclose(folded, transpose(gradient)[0], atol=1e-5)
  # The offset (0, 0) is that of each token to itself.
  np.testing.assert_allclose(
    folded[:, grid[0] - 1, grid[1] - 1],
    np.trace(gradient, axis1=1, axis2=2),
    atol=1e-5,
  )


def test_no_gather_and_no_scatter():
  """They are slow on a TPU."""
  grid = (3, 4)

  def all_forms(table, gradient):
    expanded = [
      f(table, grid) for f in (expand_bias_table, expand_large_bias_table)
    ]
    return expanded, fold_bias_gradient(gradient, grid)

  inputs = _draw(2, 5, 7), _draw(2, 12, 12)
  names = set(_names(jax.make_jaxpr(all_forms)(*inputs).jaxpr))
  assert {'dot_general', 'pad'} <= names
  assert not names & {'gather', 'scatter', 'scatter-add'}


def _names(program):
  for equation in program.eqns:
    yield equation.primitive.name
    for leaf in jax.tree.leaves(list(equation.params.values())):
      if isinstance(leaf, core.ClosedJaxpr):
        yield from _names(leaf.jaxpr)
