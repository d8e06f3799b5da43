"""Relative attention as it is defined: Equation 3 of the paper, word for word.

Every other implementation is compared with this one. It is also one to choose:
JAX differentiates it, in forward mode too.
"""

import jax
import jax.numpy as jnp

from coatnet_jax.ops.relative_attention.bias_table import expand_bias_table


def attend_by_definition(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  bias_table: jax.Array | None,
  *,
  grid: tuple[int, int],
  scale: float,
) -> jax.Array:
  """Computes softmax(scale * q k^T + bias) v, for each head.

  Args:
    q: queries, [B, N, heads, head_dim].
    k: keys, [B, N, heads, head_dim].
    v: values, [B, N, heads, head_dim].
    bias_table: [heads, 2H-1, 2W-1] float32, or None.
    grid: (H, W), with N = H*W.
    scale: factor of q k^T.

  Returns:
    [B, N, heads, head_dim] in q's dtype; logits and softmax are float32.
  """
  q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))  # [B, heads, N, d]
  logits = jnp.einsum(
    'bhqd,bhkd->bhqk', q * scale, k, preferred_element_type=jnp.float32
  )
  if bias_table is not None:
    logits += expand_bias_table(bias_table, grid)  # [heads, N, N]
  weights = jax.nn.softmax(logits).astype(v.dtype)
  return jnp.swapaxes(weights @ v, 1, 2)
