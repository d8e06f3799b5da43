"""The form for platforms without a kernel, against float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.ops.relative_attention import relative_attention
from coatnet_jax.ops.relative_attention.definition import Operands
from coatnet_jax.ops.relative_attention.xla import attend_with_xla
from tests.ops.relative_attention import numpy_reference as reference


def _create_inputs(grid, dtype='float32', head_dim=32):
  """Returns q, k, v, the table and the output's gradient."""
  return reference.create_inputs(
    grid, batch=3, heads=2, head_dim=head_dim, dtype=dtype
  )


# XLA:CPU leaves some of the rounding to bfloat16 out otherwise, and one form
# profits more than another.
@functools.partial(
  jax.jit,
  static_argnames=('grid', 'scale', 'implementation'),
  compiler_options={'xla_allow_excess_precision': False},
)
def _attend_and_differentiate(
  q, k, v, table, grad, *, grid, scale=None, implementation='xla'
):
  attend = functools.partial(
    relative_attention, grid=grid, scale=scale, implementation=implementation
  )
  out, pullback = jax.vjp(attend, q, k, v, table)
  return out, *pullback(grad)


@pytest.mark.parametrize(
  ('grid', 'head_dim', 'scale'),
  [
    ((14, 14), 32, None),
    ((7, 7), 64, None),
    ((5, 5), 128, None),
    ((3, 8), 8, 0.3),
    ((4, 1), 32, None),
  ],
)
def test_equals_float64(grid, head_dim, scale):
  inputs = _create_inputs(grid, head_dim=head_dim)
  actual = _attend_and_differentiate(
    *reference.convert(inputs, 'float32'), grid=grid, scale=scale
  )
  assert max(reference.relative_errors(actual, inputs, grid, scale)) < 2e-5


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_is_no_worse_than_the_definition(dtype):
  grid = (10, 10)
  inputs = _create_inputs(grid, dtype)
  arrays = reference.convert(inputs, dtype)
  xla, definition = (
    _attend_and_differentiate(*arrays, grid=grid, implementation=name)
    for name in ('xla', 'reference')
  )
  assert [x.dtype for x in xla] == [arrays[0].dtype] * 4 + [jnp.float32]
  for error, of_definition in zip(
    reference.relative_errors(xla, inputs, grid),
    reference.relative_errors(definition, inputs, grid),
    strict=True,
  ):
    assert error < 1.1 * of_definition


def test_no_bias():
  grid = (3, 5)
  inputs = _create_inputs(grid)
  inputs[3] *= 0
  q, k, v, _, grad = reference.convert(inputs, 'float32')
  actual = _attend_and_differentiate(q, k, v, None, grad, grid=grid)
  assert actual[-1] is None
  expected = (
    reference.attend(*inputs[:4], grid),
    *reference.gradients(*inputs, grid)[:3],
  )
  for x, y in zip(actual[:-1], expected, strict=True):
    assert reference.relative_error(x, y) < 2e-5


def test_the_logarithm_of_the_denominator():
  """It is of the natural base, with scale and bias: a kernel may read it."""
  grid = (2, 3)
  q, k, v, table, _ = _create_inputs(grid)
  operands = reference.convert((q, k, v, table, q), 'float32')[:4]
  _, logsumexp = attend_with_xla(Operands(*operands), grid=grid, scale=0.3)
  logits = 0.3 * np.einsum('bqhd,bkhd->bhqk', q, k)
  logits += reference.expand(table, grid)
  expected = np.log(np.exp(logits).sum(-1))
  assert reference.relative_error(logsumexp, expected) < 1e-6


@pytest.mark.parametrize(
  'change', reference.EXTREMES.values(), ids=reference.EXTREMES
)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_extreme_inputs_stay_finite(change, dtype):
  grid = (3, 4)
  arrays = reference.convert(change(*_create_inputs(grid)), dtype)
  inputs = [np.asarray(x, np.float64) for x in arrays]
  out, *gradients = _attend_and_differentiate(*arrays, grid=grid)
  assert all(np.isfinite(x).all() for x in gradients)
  # A logit of 1e4 is known to 1e-3 in float32.
  tolerance = 5e-3 if dtype == 'float32' else 2e-2
  expected = reference.attend(*inputs[:4], grid)
  assert reference.relative_error(out, expected) < tolerance
