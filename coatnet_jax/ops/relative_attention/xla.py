"""Relative attention for platforms without a kernel of their own.

Plain products and a softmax that XLA compiles, with a backward pass that
computes the probabilities anew instead of keeping them. The products are in
the forms that are fast on a CPU; there, wide heads and few tokens take the
definition's own derivative, which is faster for them. Not here: checking
arguments and choosing between implementations (`attention.py`).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from coatnet_jax.ops.relative_attention.bias_table import (
  expand_bias_table,
  expand_large_bias_table,
  fold_bias_gradient,
)
from coatnet_jax.ops.relative_attention.definition import Operands, Residuals

# Number of tokens from which on the other way to expand the table is faster.
_LARGE = 100

# On a CPU the definition is faster for fewer tokens, and for wider heads:
# docs/attention.md has the times.
_MIN_TOKENS = 36
_MAX_HEAD_DIM = 32


def attend_with_xla(
  operands: Operands, *, grid: tuple[int, int], scale: float
) -> tuple[jax.Array, jax.Array]:
  """Computes attention, and what its backward pass needs of it.

  Arguments are those of `attend_by_definition`.

  Returns:
    `out` and `logsumexp` of `Residuals`, [B, N, heads, head_dim] and
    [B, heads, N].
  """
  attend = _choose(operands.q, _attend_plainly, _attend_fast)
  return attend(operands, grid=grid, scale=scale)


# As the definition does, so that its derivative can be the definition's own.
def _attend_plainly(operands, *, grid, scale):
  *qkv, bias_table = operands
  q, k, v = (jnp.swapaxes(x, 1, 2) for x in qkv)  # [B, heads, N, d]
  logits = _compute_logits(scale * q, k, bias_table, grid, 1.0)
  out = jax.nn.softmax(logits).astype(v.dtype) @ v
  return jnp.swapaxes(out, 1, 2), jax.nn.logsumexp(logits, axis=-1)


def _attend_fast(operands, *, grid, scale):
  *qkv, bias_table = operands
  q, k, v = (jnp.swapaxes(x, 1, 2) for x in qkv)  # [B, heads, N, d]
  logits = _compute_logits(q, k, bias_table, grid, scale)
  # A softmax in steps: its denominator is what the backward pass needs, and
  # dividing the output by it is N / head_dim times cheaper than the weights.
  maximum = logits.max(-1, keepdims=True)
  weights = jnp.exp(logits - maximum)
  denominator = weights.sum(-1, keepdims=True)
  out = _multiply(weights.astype(v.dtype), v) / denominator
  logsumexp = (jnp.log(denominator) + maximum)[..., 0]
  return jnp.swapaxes(out.astype(q.dtype), 1, 2), logsumexp


def differentiate_with_xla(
  residuals: Residuals, grad: jax.Array, *, grid: tuple[int, int], scale: float
) -> Operands:
  """Computes the gradients of the operands, in their dtypes.

  Args:
    residuals: what the forward pass kept.
    grad: gradient of the output, [B, N, heads, head_dim] in q's dtype.
    grid: (H, W), with N = H*W.
    scale: factor of q k^T.
  """
  differentiate = _choose(
    residuals.out, _differentiate_plainly, _differentiate_fast
  )
  return differentiate(residuals, grad, grid=grid, scale=scale)


def _differentiate_plainly(residuals, grad, *, grid, scale):
  def attend(operands):
    return _attend_plainly(operands, grid=grid, scale=scale)[0]

  # The compiler finds what the forward pass computed, and keeps it.
  (gradients,) = jax.vjp(attend, residuals.operands)[1](grad)
  return gradients


def _differentiate_fast(residuals, grad, *, grid, scale):
  (q, k, v, bias_table), out, logsumexp = residuals
  dtype = q.dtype
  q, k, bias_table, grad = lax.platform_dependent(
    *(q, k, bias_table, grad),
    # XLA:CPU keeps the logits all the same, and is faster without.
    cpu=lambda *arrays: arrays,
    # Or the logits of the forward pass were found equal, and kept.
    default=lambda *arrays: lax.optimization_barrier(arrays),
  )
  # On a CPU, a product with the first matrix transposed takes up to four times
  # as long. So the transposed gradients of k and v are computed.
  q_transposed, grad_transposed = (
    lax.optimization_barrier(x.transpose(0, 2, 3, 1)) for x in (q, grad)
  )  # [B, heads, d, N]
  q, k, v, out, grad = (jnp.swapaxes(x, 1, 2) for x in (q, k, v, out, grad))
  logits = _compute_logits(q, k, bias_table, grid, scale)
  weights = jnp.exp(logits - logsumexp[..., None])
  grad_v = _multiply(grad_transposed, weights.astype(dtype))  # [B, heads, d, N]
  # What the softmax subtracts: the sum of weights * grad_weights over the keys.
  delta = (out.astype(jnp.float32) * grad).sum(-1, keepdims=True)
  grad_weights = _multiply_transposed(grad, v)
  grad_logits = weights * (grad_weights - delta)
  grad_table = None
  if bias_table is not None:
    grad_table = fold_bias_gradient(_sum_over_batch(grad_logits), grid)
  grad_logits = grad_logits.astype(dtype)
  grad_q = scale * _multiply(grad_logits, k)
  grad_k = scale * _multiply(q_transposed, grad_logits)  # [B, heads, d, N]
  return Operands(
    grad_q.astype(dtype).transpose(0, 2, 1, 3),
    grad_k.astype(dtype).transpose(0, 3, 1, 2),
    grad_v.astype(dtype).transpose(0, 3, 1, 2),
    grad_table,
  )


def _choose(q, plain, fast):
  """Returns the function to compute q's attention with, by platform."""
  if q.shape[1] >= _MIN_TOKENS and q.shape[-1] <= _MAX_HEAD_DIM:
    return fast

  def compute(*operands, **options):
    return lax.platform_dependent(
      *operands,
      cpu=functools.partial(plain, **options),
      default=functools.partial(fast, **options),
    )

  return compute


def _compute_logits(q, k, bias_table, grid, scale):
  """Returns [B, heads, N, N] float32, for q and k: [B, heads, N, d]."""
  logits = scale * _multiply_transposed(q, k)
  if bias_table is None:
    return logits
  is_large = q.shape[2] >= _LARGE
  expand = expand_large_bias_table if is_large else expand_bias_table
  return logits + expand(bias_table, grid)


def _sum_over_batch(x):
  """Sums [B, heads, N, N] to [heads, N, N], as a product with ones.

  XLA:CPU's sum over the first axis takes 20 to 60 times as long.
  """
  if len(x) == 1:
    return x[0]
  return jnp.einsum(
    'b,bhqk->hqk', jnp.ones(len(x)), x, precision=lax.Precision.HIGHEST
  )


def _multiply(left, right):
  """Multiplies matrices [B, heads, i, j] and [.., j, k]; float32."""
  return jnp.einsum(
    'bhij,bhjk->bhik', left, right, preferred_element_type=jnp.float32
  )


def _multiply_transposed(left, right):
  """Multiplies matrices [B, heads, i, j] and [.., k, j]; float32."""
  return jnp.einsum(
    'bhij,bhkj->bhik', left, right, preferred_element_type=jnp.float32
  )
