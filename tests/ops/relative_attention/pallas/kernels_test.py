"""The TPU kernel: interpreted, against float64; and lowered for a TPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from coatnet_jax.ops.relative_attention import relative_attention, xla
from coatnet_jax.ops.relative_attention.pallas import blocks
from tests.ops.relative_attention import numpy_reference as reference

# Grid, images, heads, head size and dtype. A step of 4 heads of 32 is 4 times
# the program of one of 128, so the larger grids have 128.
CASES = {
  '14x14': ((14, 14), 1, 4, 32, 'float32'),
  '14x14 bfloat16': ((14, 14), 1, 4, 32, 'bfloat16'),
  '7x7, 5 of 8 heads': ((7, 7), 1, 5, 32, 'bfloat16'),
  '10x10': ((10, 10), 3, 1, 64, 'float32'),
  '5x5': ((5, 5), 2, 1, 128, 'float32'),
  '12x12': ((12, 12), 1, 2, 64, 'bfloat16'),
  '16x16': ((16, 16), 1, 1, 128, 'float32'),
  '24x24': ((24, 24), 2, 1, 128, 'float32'),
  '24x24 bfloat16': ((24, 24), 1, 2, 64, 'bfloat16'),
  '32x32': ((32, 32), 1, 1, 128, 'float32'),
  '32x32 bfloat16': ((32, 32), 1, 1, 128, 'bfloat16'),
  '4x9': ((4, 9), 1, 4, 32, 'float32'),
  '19x28': ((19, 28), 1, 1, 128, 'float32'),
}


@pytest.fixture(autouse=True)
def _xla_as_on_a_tpu(monkeypatch):
  """Lets 'xla' compute what it does on a TPU, whatever a CPU prefers."""
  monkeypatch.setattr(xla, '_MIN_TOKENS', 0)
  monkeypatch.setattr(xla, '_MAX_HEAD_DIM', 128)


def _attend_and_differentiate(grid, implementation, scale=None):
  """Returns the jitted function of inputs to the output and 4 gradients."""
  attend = functools.partial(
    relative_attention,
    grid=grid,
    scale=scale,
    implementation=implementation,
    interpret=implementation == 'pallas',
  )

  @jax.jit
  def function(q, k, v, table, grad):
    out, pullback = jax.vjp(attend, q, k, v, table)
    return out, *pullback(grad)

  return function


def _check(case, scale=None):
  grid, batch, heads, head_dim, dtype = case
  inputs = reference.create_inputs(
    grid, batch=batch, heads=heads, head_dim=head_dim, dtype=dtype
  )
  arrays = reference.convert(inputs, dtype)
  actual = _attend_and_differentiate(grid, 'pallas', scale)(*arrays)
  assert [x.dtype for x in actual] == [
    x.dtype for x in (arrays[0], *arrays[:4])
  ]
  errors = reference.relative_errors(actual, inputs, grid, scale)
  if dtype == 'float32':
    assert max(errors) < 2e-5
    return
  # As good as XLA's form in the same dtype, within 10 %.
  program = _attend_and_differentiate(grid, 'xla', scale).lower(*arrays)
  # Or XLA:CPU leaves some of the rounding to bfloat16 out; no TPU does.
  compiled = program.compile({'xla_allow_excess_precision': False})
  for error, of_xla in zip(
    errors,
    reference.relative_errors(compiled(*arrays), inputs, grid, scale),
    strict=True,
  ):
    assert error < 1.1 * of_xla


@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_equals_float64(case):
  _check(case)


@pytest.fixture
def small_steps(monkeypatch):
  """Divides a small grid as one of 64x64 is divided; returns the grid."""
  monkeypatch.setattr(blocks, '_MAX_SINGLE_TILE', 32)
  monkeypatch.setattr(blocks, '_MAX_LOGITS_PER_STEP', 1)
  monkeypatch.setattr(blocks, '_MAX_CHUNK', 64)
  grid = (17, 11)
  divided = blocks.choose_blocks(grid, 128)
  assert (divided.num_steps, divided.num_chunks) == (3, 5)
  # The last tile has rows that the grid has not.
  assert divided.num_tiles * divided.tile_rows > grid[0]
  return grid


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_keys_and_queries_in_several_steps(small_steps, dtype):
  _check((small_steps, 2, 1, 128, dtype), scale=0.3)


def test_large_biases_in_several_steps(small_steps):
  inputs = reference.create_inputs(small_steps, batch=1, heads=1, head_dim=128)
  inputs[3] += 1e4
  arrays = reference.convert(inputs, 'float32')
  actual = _attend_and_differentiate(small_steps, 'pallas')(*arrays)
  # A logit of 1e4 is known to 1e-3 in float32.
  inputs = [np.asarray(x, np.float64) for x in arrays]
  assert max(reference.relative_errors(actual, inputs, small_steps)) < 5e-3


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_64x64(dtype):
  _check(((64, 64), 1, 1, 128, dtype))


def _inputs_7x7():
  return reference.create_inputs((7, 7), batch=1, heads=1, head_dim=128)


@pytest.mark.parametrize(
  'change', reference.EXTREMES.values(), ids=reference.EXTREMES
)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_extreme_inputs_stay_finite(change, dtype):
  arrays = reference.convert(change(*_inputs_7x7()), dtype)
  inputs = [np.asarray(x, np.float64) for x in arrays]
  out, *gradients = _attend_and_differentiate((7, 7), 'pallas')(*arrays)
  assert all(np.isfinite(x).all() for x in gradients)
  # A logit of 1e4 is known to 1e-3 in float32.
  tolerance = 5e-3 if dtype == 'float32' else 2e-2
  expected = reference.attend(*inputs[:4], (7, 7))
  assert reference.relative_error(out, expected) < tolerance


def test_gradient_of_the_table_by_finite_differences():
  grid = (3, 4)
  inputs = reference.create_inputs(grid, batch=2, heads=1, head_dim=128)
  q, k, v, table, grad = inputs
  actual = _attend_and_differentiate(grid, 'pallas')(
    *reference.convert(inputs, 'float32')
  )[4]
  step = 1e-5
  for index in np.ndindex(table.shape):
    moved = np.zeros_like(table)
    moved[index] = step
    above, below = (
      (grad * reference.attend(q, k, v, table + sign * moved, grid)).sum()
      for sign in (1, -1)
    )
    expected = (above - below) / (2 * step)
    assert float(actual[index]) == pytest.approx(expected, abs=2e-5)


def test_no_bias():
  grid = (5, 5)
  inputs = reference.create_inputs(grid, batch=2, heads=1, head_dim=128)
  inputs[3] *= 0
  q, k, v, _, grad = reference.convert(inputs, 'float32')
  attend = functools.partial(
    relative_attention, grid=grid, implementation='pallas', interpret=True
  )
  out, pullback = jax.vjp(lambda *x: attend(*x, None), q, k, v)
  actual = out, *pullback(grad)
  expected = (
    reference.attend(*inputs[:4], grid),
    *reference.gradients(*inputs, grid)[:3],
  )
  for x, y in zip(actual, expected, strict=True):
    assert reference.relative_error(x, y) < 2e-5


@pytest.mark.parametrize('grid', [(14, 14), (9, 16), (24, 24), (64, 64)])
def test_nothing_of_pairs_of_tokens_is_outside_the_kernel(grid):
  """In the traced program; of the compiled one: tests/tpu_compiler."""
  batch, heads = 64, 4
  tokens = grid[0] * grid[1]
  x = jax.ShapeDtypeStruct((batch, tokens, heads, 32), jnp.bfloat16)
  table = jax.ShapeDtypeStruct(
    (heads, 2 * grid[0] - 1, 2 * grid[1] - 1), jnp.float32
  )
  program = jax.make_jaxpr(_attend_and_differentiate(grid, 'pallas'))(
    x, x, x, table, x
  )
  sizes = list(_sizes_outside_kernels(program.jaxpr))
  assert max(sizes) >= batch * tokens * heads * 32  # q is among them
  assert max(sizes) < batch * heads * tokens * tokens / 4


def _sizes_outside_kernels(program):
  for equation in program.eqns:
    yield from (v.aval.size for v in equation.outvars)
    if equation.primitive.name == 'pallas_call':
      continue
    for leaf in jax.tree.leaves(list(equation.params.values())):
      if isinstance(leaf, core.ClosedJaxpr):
        yield from _sizes_outside_kernels(leaf.jaxpr)
      elif isinstance(leaf, core.Jaxpr):
        yield from _sizes_outside_kernels(leaf)


@pytest.mark.parametrize('head_dim', [32, 64, 128])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('grid', [(14, 14), (7, 9), (24, 24), (64, 64)])
def test_lowers_for_a_tpu(grid, dtype, head_dim):
  x = jax.ShapeDtypeStruct((2, grid[0] * grid[1], 6, head_dim), dtype)
  table = jax.ShapeDtypeStruct(
    (6, 2 * grid[0] - 1, 2 * grid[1] - 1), jnp.float32
  )

  def loss(*inputs):
    return relative_attention(*inputs, grid=grid).astype(jnp.float32).sum()

  exported = jax.export.export(
    jax.jit(jax.grad(loss, (0, 1, 2, 3))), platforms=['tpu']
  )(x, x, x, table)
  program = exported.mlir_module()
  for name in ('forward', 'backward'):
    assert f'relative_attention_{name}' in program
  assert [x.shape for x in exported.out_avals] == [x.shape] * 3 + [table.shape]
