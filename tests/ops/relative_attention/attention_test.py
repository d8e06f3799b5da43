"""The definition, the choice between implementations, and bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import coatnet_jax
from coatnet_jax.ops.relative_attention import IMPLEMENTATIONS
from coatnet_jax.ops.relative_attention.pallas import per_shard
from tests.ops.relative_attention import numpy_reference as reference


def _create_inputs(grid, head_dim=4):
  """Returns q, k, v and the table in float64."""
  return reference.create_inputs(grid, batch=2, heads=2, head_dim=head_dim)[:4]


def _float32(arrays):
  return [jnp.asarray(a, jnp.float32) for a in arrays]


@pytest.mark.parametrize('grid', [(7, 7), (3, 5), (5, 2), (1, 4)])
@pytest.mark.parametrize('scale', [None, 0.3])
@pytest.mark.parametrize('implementation', ['auto', 'reference', 'xla'])
def test_is_equation_3(grid, scale, implementation):
  inputs = _create_inputs(grid)
  actual = coatnet_jax.relative_attention(
    *_float32(inputs), grid=grid, scale=scale, implementation=implementation
  )
  expected = reference.attend(*inputs, grid, scale)
  np.testing.assert_allclose(actual, expected, atol=2e-6)


@pytest.mark.parametrize('implementation', ['reference', 'xla'])
def test_gradient_of_the_table_by_finite_differences(implementation):
  grid = (2, 3)
  inputs = _create_inputs(grid)
  weight = np.random.default_rng(1).normal(size=inputs[0].shape)
  q, k, v, table = _float32(inputs)
  attend = functools.partial(
    coatnet_jax.relative_attention, grid=grid, implementation=implementation
  )
  grad = jax.grad(lambda t: (weight * attend(q, k, v, t)).sum())(table)
  step = 1e-5
  for index in np.ndindex(table.shape):
    shifted = []
    for sign in (1, -1):
      moved = inputs[3].copy()
      moved[index] += sign * step
      shifted.append(
        (weight * reference.attend(*inputs[:3], moved, grid)).sum()
      )
    expected = (shifted[0] - shifted[1]) / (2 * step)
    assert float(grad[index]) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize('implementation', ['reference', 'xla'])
def test_softmax_is_float32_in_bfloat16(implementation):
  grid = (4, 4)
  inputs = _create_inputs(grid)
  expected = reference.attend(*inputs, grid)
  q, k, v = (jnp.asarray(a, jnp.bfloat16) for a in inputs[:3])
  table = jnp.asarray(inputs[3], jnp.float32)
  attend = functools.partial(
    coatnet_jax.relative_attention, grid=grid, implementation=implementation
  )
  actual = attend(q, k, v, table)
  assert actual.dtype == jnp.bfloat16
  np.testing.assert_allclose(actual.astype(np.float32), expected, atol=0.03)
  # A bias of 1e4 must neither overflow nor lose the other entries.
  huge = attend(q, k, v, table + 1e4)
  np.testing.assert_allclose(huge.astype(np.float32), expected, atol=0.03)


def test_the_gradient_of_a_table_has_its_dtype():
  grid = (2, 2)
  q, k, v, table = _float32(_create_inputs(grid))
  attend = functools.partial(coatnet_jax.relative_attention, q, k, v, grid=grid)
  grad = jax.grad(lambda t: attend(t).sum())(table.astype(jnp.bfloat16))
  assert grad.dtype == jnp.bfloat16


def test_forward_mode_of_the_definition():
  grid = (2, 2)
  inputs = _float32(_create_inputs(grid))
  attend = functools.partial(
    coatnet_jax.relative_attention, grid=grid, implementation='reference'
  )

  @jax.jit
  def slopes(weight):
    """Along the inputs themselves, by forward and by reverse mode."""
    _, tangent = jax.jvp(attend, inputs, inputs)
    _, pullback = jax.vjp(attend, *inputs)
    products = (jnp.vdot(x, y) for x, y in zip(inputs, pullback(weight)))
    return jnp.vdot(weight, tangent), sum(products)

  forward, reverse = slopes(jnp.cos(inputs[0]))
  assert abs(float(forward)) > 0.1
  assert float(forward) == pytest.approx(float(reverse), rel=1e-4)


def test_vmap():
  """Over all arguments, and over all but the table; gradients, too."""
  grid = (2, 3)
  arrays = _float32(_create_inputs(grid, head_dim=32))
  stacks = [jnp.stack([x, x[::-1] + 1]) for x in arrays]

  def differentiate(implementation, *inputs):
    attend = functools.partial(
      coatnet_jax.relative_attention, grid=grid, implementation=implementation
    )
    out, pullback = jax.vjp(attend, *inputs)
    return out, *pullback(out)

  for inputs, axes in (
    (stacks, (0, 0, 0, 0)),
    ((*stacks[:3], arrays[3]), (0, 0, 0, None)),
  ):
    found, expected = (
      jax.jit(jax.vmap(functools.partial(differentiate, name), axes))(*inputs)
      for name in ('auto', 'reference')
    )
    for x, y in zip(found, expected, strict=True):
      np.testing.assert_allclose(x, y, atol=2e-5 * float(jnp.abs(y).max()))


def _attend_and_differentiate(implementation, grid):
  attend = functools.partial(
    coatnet_jax.relative_attention, grid=grid, implementation=implementation
  )

  def function(*inputs):
    out, pullback = jax.vjp(attend, *inputs)
    return out, *pullback(out)

  return jax.jit(function)


def test_the_platform_decides_when_lowering():
  """One exported program is a kernel on a TPU and products on a CPU."""
  grid = (3, 5)
  inputs = _float32(_create_inputs(grid, head_dim=32))
  export = functools.partial(
    jax.export.export, _attend_and_differentiate('auto', grid)
  )
  assert (
    'tpu_custom_call' not in export(platforms=['cpu'])(*inputs).mlir_module()
  )
  both = export(platforms=['tpu', 'cpu'])(*inputs)
  # Forward and backward.
  assert both.mlir_module().count('@tpu_custom_call(') == 2
  expected = _attend_and_differentiate('reference', grid)(*inputs)
  for x, y in zip(both.call(*inputs), expected, strict=True):
    np.testing.assert_allclose(x, y, atol=2e-5 * float(jnp.abs(y).max()))


@pytest.mark.parametrize(
  ('head_dim', 'dtype'), [(48, 'float32'), (32, 'float16')]
)
def test_auto_on_a_tpu_without_a_kernel_for_it(head_dim, dtype):
  grid = (2, 3)
  *qkv, table = _float32(_create_inputs(grid, head_dim=head_dim))
  qkv = [x.astype(dtype) for x in qkv]
  exported = jax.export.export(
    _attend_and_differentiate('auto', grid), platforms=['tpu']
  )(*qkv, table)
  assert 'tpu_custom_call' not in exported.mlir_module()
  with pytest.raises(ValueError, match=f'{head_dim} channels in {dtype}; it'):
    coatnet_jax.relative_attention(
      *qkv, table, grid=grid, implementation='pallas'
    )


def _create_call(implementation):
  """Returns the function of arrays, and float32 arrays that a kernel takes."""
  grid = (2, 3)
  attend = functools.partial(
    coatnet_jax.relative_attention, grid=grid, implementation=implementation
  )
  return attend, _float32(_create_inputs(grid, head_dim=32))


@pytest.mark.parametrize('transform', [lambda f: f, jax.jit])
def test_pallas_elsewhere_says_what_to_do(transform):
  attend, inputs = _create_call('pallas')
  with pytest.raises(
    ValueError, match="use implementation='auto' or 'xla', or"
  ):
    transform(attend)(*inputs)
  for platforms in (['cuda'], ['tpu', 'cpu']):
    with pytest.raises(ValueError, match='this program is for another'):
      jax.export.export(jax.jit(attend), platforms=platforms)(*inputs)


def test_cudnn_without_one_says_what_to_do():
  attend, inputs = _create_call('cudnn')
  with pytest.raises(
    ValueError, match='q is float32; it takes bfloat16 and float16'
  ):
    attend(*inputs)
  with pytest.raises(ValueError, match="use implementation='auto' or 'xla'"):
    attend(*(x.astype(jnp.bfloat16) for x in inputs))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'grid': (4, 3)}, r'a grid of 4x3 needs \[B, 12, heads, head_dim\]'),
    ({'k': np.zeros((2, 15, 2, 4))}, 'they must have one'),
    ({'v': np.zeros((2, 16, 2, 5))}, 'they must have one'),
    ({'table': np.zeros((2, 7, 8))}, r'need \(2, 7, 7\)'),
    ({'table': np.zeros((1, 7, 7))}, r'need \(2, 7, 7\)'),
  ],
)
@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
def test_shapes_that_disagree(change, message, implementation):
  arguments = dict(
    zip(('q', 'k', 'v', 'table'), _create_inputs((4, 4)), strict=True)
  )
  arguments = {**arguments, 'grid': (4, 4), **change}
  grid = arguments.pop('grid')
  with pytest.raises(ValueError, match=message):
    coatnet_jax.relative_attention(
      *_float32(arguments.values()), grid=grid, implementation=implementation
    )


@pytest.mark.parametrize(
  ('dtypes', 'message'),
  [
    (('int32', 'int32', 'int32', 'float32'), 'q is int32; it must be float32'),
    (
      ('float32', 'bfloat16', 'float32', 'float32'),
      'they must be of one dtype',
    ),
    (('float32', 'float32', 'float16', 'float32'), 'they must be of one dtype'),
    (
      ('float32', 'float32', 'float32', 'int32'),
      'bias is int32; it must be of a float dtype',
    ),
  ],
)
def test_dtypes(dtypes, message):
  arrays = [
    jnp.asarray(a, dtype)
    for a, dtype in zip(_create_inputs((2, 2)), dtypes, strict=True)
  ]
  with pytest.raises(ValueError, match=message):
    coatnet_jax.relative_attention(*arrays, grid=(2, 2))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'implementation': 'triton'}, 'one of auto, reference, xla, pallas'),
    (
      {'implementation': 'xla', 'interpret': True},
      "is 'xla'; with interpret=True",
    ),
    ({'interpret': True}, "'auto'; with interpret=True it must be 'pallas'"),
  ],
)
def test_implementations(options, message):
  arrays = _float32(_create_inputs((2, 2)))
  with pytest.raises(ValueError, match=message):
    coatnet_jax.relative_attention(*arrays, grid=(2, 2), **options)


def test_a_kernel_is_traced_once_for_equal_blocks(monkeypatch):
  traced = []
  attend = per_shard.attend_with_kernel

  def record(*operands, **options):
    traced.append(options['grid'])
    return attend(*operands, **options)

  monkeypatch.setattr(per_shard, 'attend_with_kernel', record)

  def three_blocks(q, k, v, table):
    for _ in range(3):
      q = coatnet_jax.relative_attention(q, k, v, table, grid=(3, 5))
    return q

  jax.make_jaxpr(three_blocks)(*_float32(_create_inputs((3, 5), head_dim=32)))
  assert traced == [(3, 5)]
