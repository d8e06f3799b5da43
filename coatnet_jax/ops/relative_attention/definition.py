"""Relative attention as it is defined: Equation 3 of the paper, word for word.

Every other implementation is compared with this one. It is also one to choose:
JAX differentiates it, in forward mode too.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from coatnet_jax.ops.relative_attention.bias_table import expand_bias_table


class Operands(NamedTuple):
  """What attention is computed of: arrays, their gradients or their specs.

  Attributes:
    q: queries, [B, N, heads, head_dim].
    k: keys, [B, N, heads, head_dim] in q's dtype.
    v: values, [B, N, heads, head_dim] in q's dtype.
    bias_table: biases by offset, [heads, 2H-1, 2W-1] float32, or None.
  """

  q: Any
  k: Any
  v: Any
  bias_table: Any


class Residuals(NamedTuple):
  """What the backward pass needs of the forward one: arrays or their specs.

  Attributes:
    operands: queries, keys, values and biases.
    out: attention, [B, N, heads, head_dim] in q's dtype.
    logsumexp: natural logarithm of each softmax's denominator, [B, heads, N]
      float32.
  """

  operands: Operands
  out: Any
  logsumexp: Any


def attend_by_definition(
  operands: Operands, *, grid: tuple[int, int], scale: float
) -> jax.Array:
  """Computes softmax(scale * q k^T + bias) v, for each head.

  Args:
    operands: queries, keys, values and biases.
    grid: (H, W), with N = H*W.
    scale: factor of q k^T.

  Returns:
    [B, N, heads, head_dim] in q's dtype; logits and softmax are float32.
  """
  v = jnp.swapaxes(operands.v, 1, 2)  # [B, heads, N, d]
  weights = compute_attention_weights(operands, grid=grid, scale=scale)
  return jnp.swapaxes(weights.astype(v.dtype) @ v, 1, 2)


def compute_attention_weights(
  operands: Operands, *, grid: tuple[int, int], scale: float
) -> jax.Array:
  """Computes softmax(scale * q k^T + bias), for each head.

  Args:
    operands: queries, keys and biases; values are not read.
    grid: (H, W), with N = H*W.
    scale: factor of q k^T.

  Returns:
    [B, heads, N, N] float32, query by key; each row adds up to 1.
  """
  q, k = (jnp.swapaxes(x, 1, 2) for x in operands[:2])  # [B, heads, N, d]
  logits = jnp.einsum(
    'bhqd,bhkd->bhqk', q * scale, k, preferred_element_type=jnp.float32
  )
  if operands.bias_table is not None:
    bias = expand_bias_table(operands.bias_table, grid)  # [heads, N, N]
    logits += bias
  return jax.nn.softmax(logits)
