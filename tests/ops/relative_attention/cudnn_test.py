"""cuDNN's attention, without one: padding, and what a GPU is given."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from coatnet_jax.ops.relative_attention import cudnn, relative_attention
from coatnet_jax.ops.relative_attention.definition import Operands
from tests.ops.relative_attention import numpy_reference as reference


@pytest.fixture
def tokens_seen(monkeypatch):
  """Has XLA compute what cuDNN would; returns the numbers of tokens seen."""
  attend = jax.nn.dot_product_attention
  seen = []

  def attend_with_xla(q, *operands, implementation, **options):
    assert implementation == 'cudnn'
    seen.append(q.shape[1])
    return attend(q, *operands, implementation='xla', **options)

  monkeypatch.setattr(jax.nn, 'dot_product_attention', attend_with_xla)
  return seen


@pytest.mark.parametrize(
  ('grid', 'shift', 'tokens'),
  [((3, 3), 0, 10), ((3, 3), -1e4, 10), ((2, 3), 0, 6), ((3, 3), None, 9)],
)
def test_padding_changes_nothing(grid, shift, tokens, tokens_seen):
  inputs = reference.create_inputs(grid, batch=2, heads=2, head_dim=8)
  inputs[3] = inputs[3] + shift if shift is not None else 0 * inputs[3]
  q, k, v, table, grad = reference.convert(inputs, 'float32')
  operands = Operands(q, k, v, None if shift is None else table)

  @jax.jit
  def differentiate(operands, grad):
    attend = functools.partial(
      cudnn.attend_with_cudnn, grid=grid, scale=8**-0.5
    )
    out, pullback = jax.vjp(attend, operands)
    return out, *pullback(grad)[0]

  found = differentiate(operands, grad)
  assert tokens_seen == [tokens]
  expected = (
    reference.attend(*inputs[:4], grid),
    *reference.gradients(*inputs, grid),
  )
  # Logits of -1e4 have three digits less.
  rtol = 5e-3 if shift else 1e-5
  for f, e in zip(found, expected):
    if f is not None:
      np.testing.assert_allclose(f, e, atol=rtol * np.abs(e).max())


@pytest.mark.parametrize(
  'grid', [(7, 7), (14, 14), (24, 24), (32, 32), (64, 64)]
)
def test_forward_and_backward_can_be_lowered_for_a_gpu(grid, monkeypatch):
  monkeypatch.setattr(
    fused_attention_stablehlo, 'check_cudnn_version', lambda: 91000
  )
  tokens = grid[0] * grid[1]
  qkv = jax.ShapeDtypeStruct((8, tokens, 4, 32), jnp.bfloat16)
  table = jax.ShapeDtypeStruct(
    (4, 2 * grid[0] - 1, 2 * grid[1] - 1), jnp.float32
  )

  def compute_loss(*operands):
    out = relative_attention(*operands, grid=grid, implementation='cudnn')
    assert out.shape == qkv.shape
    return out.astype(jnp.float32).sum()

  traced = jax.jit(jax.grad(compute_loss, (0, 1, 2, 3))).trace(
    *(qkv, qkv, qkv, table)
  )
  text = traced.lower(lowering_platforms=('cuda',)).as_text()
  assert re.findall(r'@__cudnn\$fmha(\w+)', text) == [
    'ScaleBiasSoftmax',
    'ScaleBiasSoftmaxBackward',
  ]
