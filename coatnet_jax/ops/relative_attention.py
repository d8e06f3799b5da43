"""Self-attention over a 2-D grid with a learned bias per relative offset.

Equation 3 of the paper, pre-normalisation form. This plain form is the
definition that every other implementation is compared with.
"""

import jax
import jax.numpy as jnp
import numpy as np


def relative_attention(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  bias_table: jax.Array | None,
  *,
  grid: tuple[int, int],
  scale: float | None = None,
) -> jax.Array:
  """Computes softmax(scale * q k^T + bias) v, for each head.

  Args:
    q: [B, N, heads, head_dim], N = H*W tokens in row-major order.
    k: [B, N, heads, head_dim].
    v: [B, N, heads, head_dim].
    bias_table: [heads, 2H-1, 2W-1], one scalar per head and relative offset:
      entry (i - i' + H-1, j - j' + W-1) is added to the logit of query (i, j)
      and key (i', j'). It is not scaled. None for no bias.
    grid: (H, W).
    scale: factor of q k^T; 1 / sqrt(head_dim) if None.

  Returns:
    [B, N, heads, head_dim] in q's dtype. Logits and softmax are float32.

  Raises:
    ValueError: shapes that disagree with each other or with the grid.
  """
  _check_shapes(q, k, v, bias_table, grid)
  if scale is None:
    scale = q.shape[-1] ** -0.5
  q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))  # [B, heads, N, d]
  logits = jnp.einsum(
    'bhqd,bhkd->bhqk', q * scale, k, preferred_element_type=jnp.float32
  )
  if bias_table is not None:
    logits += expand_bias_table(bias_table, grid)
  weights = jax.nn.softmax(logits).astype(v.dtype)
  return jnp.swapaxes(weights @ v, 1, 2)


def expand_bias_table(
  bias_table: jax.Array, grid: tuple[int, int]
) -> jax.Array:
  """Looks the bias of every pair of tokens up, by two one-hot products.

  The paper's TPU form (appendix A.1): no gather forward, no scatter backward.

  Args:
    bias_table: [heads, 2H-1, 2W-1].
    grid: (H, W).

  Returns:
    [heads, H*W, H*W] float32, query by key.
  """
  height, width = grid
  bias = jnp.einsum(
    'hxy,xik,yjl->hijkl',
    bias_table.astype(jnp.float32),
    _offset_one_hot(height),
    _offset_one_hot(width),
    precision=jax.lax.Precision.HIGHEST,
  )  # [heads, H, W, H, W]
  return bias.reshape(-1, height * width, height * width)


def _offset_one_hot(length: int) -> np.ndarray:
  """Returns [2L-1, L, L]: 1 where query - key is the offset, else 0."""
  position = np.arange(length)
  offset = position[:, None] - position[None, :] + length - 1
  return (np.arange(2 * length - 1)[:, None, None] == offset).astype(np.float32)


def _check_shapes(q, k, v, bias_table, grid):
  height, width = grid
  if q.ndim != 4 or q.shape[1] != height * width:
    raise ValueError(
      f'q has shape {q.shape}; a grid of {height}x{width} needs'
      f' [B, {height * width}, heads, head_dim].'
    )
  if k.shape != q.shape or v.shape != q.shape:
    raise ValueError(
      f'q, k and v must have one shape, not {q.shape}, {k.shape}, {v.shape}.'
    )
  if bias_table is None:
    return
  expected = (q.shape[2], 2 * height - 1, 2 * width - 1)
  if bias_table.shape != expected:
    raise ValueError(
      f'The bias table has shape {bias_table.shape}; {q.shape[2]} heads on a'
      f' grid of {height}x{width} need {expected}.'
    )
