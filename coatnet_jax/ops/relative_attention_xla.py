"""Relative attention for platforms without a kernel of their own.

Plain products and a softmax that XLA compiles, with a backward pass that
computes the probabilities anew instead of keeping them. Not here: checking
arguments and choosing between implementations (`relative_attention.py`).
"""

import jax
import jax.numpy as jnp

from coatnet_jax.ops.relative_bias import expand_bias_table, fold_bias_gradient


def forward(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  bias_table: jax.Array | None,
  *,
  grid: tuple[int, int],
  scale: float,
) -> tuple[jax.Array, jax.Array]:
  """Computes the attention and what its backward pass needs.

  Args:
    q: [B, N, heads, head_dim], and so k and v.
    k: keys.
    v: values.
    bias_table: [heads, 2H-1, 2W-1] float32, or None.
    grid: (H, W), with N = H*W.
    scale: factor of q k^T.

  Returns:
    The output, [B, N, heads, head_dim] in q's dtype, and the natural logarithm
    of each softmax's denominator, [B, heads, N] float32.
  """
  q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))  # [B, heads, N, d]
  logits = _compute_logits(q, k, bias_table, grid, scale)
  maximum = logits.max(-1, keepdims=True)
  weights = jnp.exp(logits - maximum)
  denominator = weights.sum(-1, keepdims=True)
  out = _product('bhqk,bhkd->bhqd', weights.astype(v.dtype), v) / denominator
  logsumexp = (jnp.log(denominator) + maximum)[..., 0]
  return jnp.swapaxes(out.astype(q.dtype), 1, 2), logsumexp


def backward(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  bias_table: jax.Array | None,
  out: jax.Array,
  logsumexp: jax.Array,
  grad: jax.Array,
  *,
  grid: tuple[int, int],
  scale: float,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
  """Computes the gradients.

  Args:
    q: as in `forward`, and so k, v, bias_table, grid and scale.
    k: keys.
    v: values.
    bias_table: [heads, 2H-1, 2W-1] float32, or None.
    out: what `forward` returned.
    logsumexp: what `forward` returned.
    grad: of out, with its shape and dtype.
    grid: (H, W).
    scale: factor of q k^T.

  Returns:
    The gradients of q, k and v in their dtypes, and of the bias table in
    float32; None without a table.
  """
  dtype = q.dtype
  q, k, v, out, grad = (jnp.swapaxes(x, 1, 2) for x in (q, k, v, out, grad))
  logits = _compute_logits(q, k, bias_table, grid, scale)
  weights = jnp.exp(logits - logsumexp[..., None])
  grad_v = _product('bhqk,bhqd->bhkd', weights.astype(dtype), grad)
  # What the softmax subtracts: sum_k weights * grad_weights.
  delta = (out.astype(jnp.float32) * grad).sum(-1, keepdims=True)
  grad_weights = _product('bhqd,bhkd->bhqk', grad, v)
  grad_logits = weights * (grad_weights - delta)
  grad_table = None
  if bias_table is not None:
    grad_table = fold_bias_gradient(grad_logits.sum(0), grid)
  grad_logits = grad_logits.astype(dtype)
  grad_q = scale * _product('bhqk,bhkd->bhqd', grad_logits, k)
  grad_k = scale * _product('bhqk,bhqd->bhkd', grad_logits, q)
  gradients = (
    jnp.swapaxes(x.astype(dtype), 1, 2) for x in (grad_q, grad_k, grad_v)
  )
  return *gradients, grad_table


def _compute_logits(q, k, bias_table, grid, scale):
  """Returns [B, heads, N, N] float32 of transposed q and k."""
  logits = scale * _product('bhqd,bhkd->bhqk', q, k)
  if bias_table is not None:
    logits += expand_bias_table(bias_table, grid)
  return logits


def _product(subscripts, left, right):
  """Multiplies matrices, summing in float32."""
  return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)
