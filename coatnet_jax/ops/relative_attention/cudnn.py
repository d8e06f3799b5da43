"""Relative attention by cuDNN's fused attention, on an NVIDIA GPU.

JAX binds it, and differentiates it. This project has run it forward, on an
H100; backward it has only been lowered for a GPU.
"""

import jax
import jax.numpy as jnp

from coatnet_jax.ops.relative_attention.bias_table import expand_bias_table
from coatnet_jax.ops.relative_attention.definition import Operands

# cuDNN's gradient of a bias is for numbers of tokens that this divides.
_TOKENS_MULTIPLE = 2


def attend_with_cudnn(
  operands: Operands, *, grid: tuple[int, int], scale: float
) -> jax.Array:
  """Computes attention, [B, N, heads, head_dim] in bfloat16 or float16.

  Arguments and result are those of `attend_by_definition`.

  Raises:
    ValueError: there is no cuDNN, or none that takes these arrays.
  """
  q, k, v, bias_table = operands
  tokens, padding, bias, mask = q.shape[1], 0, None, None
  if bias_table is not None:
    bias = expand_bias_table(bias_table, grid).astype(q.dtype)[None]
    padding = -tokens % _TOKENS_MULTIPLE
  if padding:
    q, k, v = (_pad(x, 0, padding, 0, 0) for x in (q, k, v))
    bias = _pad(bias, 0, 0, padding, padding)
    is_key = jnp.arange(tokens + padding) < tokens
    mask = jnp.broadcast_to(is_key, (1, 1, len(is_key), len(is_key)))
  try:
    out = jax.nn.dot_product_attention(
      q, k, v, bias, mask, scale=scale, implementation='cudnn'
    )
  except RuntimeError as error:
    raise ValueError(
      "implementation='cudnn' does not work here; use implementation='auto' or"
      f" 'xla'. The reason: {error}"
    ) from error
  return out[:, :tokens]


def _pad(x, *at_the_end):
  return jnp.pad(x, [(0, padding) for padding in at_the_end])
