"""A table of biases by relative offset, expanded to pairs of tokens and back.

Both ways are products with one-hot matrices, the paper's TPU form (appendix
A.1): no gather forward, no scatter backward. Not here: what learns the table,
and resizing it to another grid.
"""

import jax
import jax.numpy as jnp
import numpy as np


def expand_bias_table(
  bias_table: jax.Array, grid: tuple[int, int]
) -> jax.Array:
  """Looks the bias of every pair of tokens up.

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


def fold_bias_gradient(
  bias_gradient: jax.Array, grid: tuple[int, int]
) -> jax.Array:
  """Sums over the pairs of tokens at each offset: the expansion's transpose.

  Args:
    bias_gradient: [heads, H*W, H*W], query by key, summed over the batch.
    grid: (H, W).

  Returns:
    [heads, 2H-1, 2W-1] float32.
  """
  height, width = grid
  return jnp.einsum(
    'hijkl,xik,yjl->hxy',
    bias_gradient.astype(jnp.float32).reshape(-1, height, width, height, width),
    _offset_one_hot(height),
    _offset_one_hot(width),
    precision=jax.lax.Precision.HIGHEST,
  )


def _offset_one_hot(length: int) -> np.ndarray:
  """Returns [2L-1, L, L]: 1 where query - key is the offset, else 0."""
  position = np.arange(length)
  offset = position[:, None] - position[None, :] + length - 1
  return (np.arange(2 * length - 1)[:, None, None] == offset).astype(np.float32)
