"""A table of biases by relative offset, expanded to pairs of tokens and back.

The definition is products with one-hot matrices, the paper's TPU form
(appendix A.1): no gather forward, no scatter backward. Beside it are forms that
move numbers instead of multiplying them, of rows at least. Not here: what
learns the table, and resizing it to another grid.
"""

import jax
import jax.numpy as jnp
import numpy as np


def expand_bias_table(
  bias_table: jax.Array, grid: tuple[int, int]
) -> jax.Array:
  """Looks the bias of every pair of tokens up.

  >>> table = jnp.array([[[10.0, 20.0, 30.0]]])  # Offsets -1, 0 and 1.
  >>> expand_bias_table(table, grid=(1, 2)).tolist()
  [[[20.0, 10.0], [30.0, 20.0]]]

  Args:
    bias_table: [heads, 2H-1, 2W-1], by query - key.
    grid: (H, W), the numbers of rows and columns of tokens.

  Returns:
    [heads, H*W, H*W] float32, query by key.
  """
  height, width = grid
  # Each sum has one term that is not 0, and is exact: with float32 products. A
  # TPU's default would round the table to bfloat16.
  bias = jnp.einsum(
    'hxy,xik,yjl->hijkl',
    bias_table.astype(jnp.float32),
    offset_one_hot(height),
    offset_one_hot(width),
    precision=jax.lax.Precision.HIGHEST,
  )  # [heads, H, W, H, W]
  return bias.reshape(-1, height * width, height * width)


def expand_large_bias_table(
  bias_table: jax.Array, grid: tuple[int, int]
) -> jax.Array:
  """Does what `expand_bias_table` does, with products for the columns only.

  On a CPU it takes a quarter to a half of the time from 10x10 on, and longer
  on smaller grids. Arguments and result, [heads, H*W, H*W], are those of
  `expand_bias_table`.
  """
  height, width = grid
  by_row = jnp.einsum(
    'hxy,yjl->hjxl',
    bias_table.astype(jnp.float32)[:, ::-1],
    offset_one_hot(width),
    precision=jax.lax.Precision.HIGHEST,
  )  # [heads, W, 2H-1, W], by key row - query row
  # Query row i reads the H rows from H-1-i on. Rows of 2H, written one after
  # the other and read as rows of 2H-1, are shifted by one more each.
  padded = jnp.pad(by_row, ((0, 0), (0, 0), (0, 1), (0, 0)))
  tiled = jnp.broadcast_to(
    padded[:, :, None], (len(padded), width, height, 2 * height, width)
  ).reshape(-1, width, height * 2 * height, width)
  shifted = tiled[:, :, : height * (2 * height - 1)].reshape(
    -1, width, height, 2 * height - 1, width
  )
  bias = shifted[:, :, :, height - 1 :]  # [heads, W, H, H, W]
  return jnp.swapaxes(bias, 1, 2).reshape(-1, height * width, height * width)


def fold_bias_gradient(
  bias_gradient: jax.Array, grid: tuple[int, int]
) -> jax.Array:
  """Sums over the pairs of tokens at each offset: the expansion's transpose.

  >>> fold_bias_gradient(jnp.ones((1, 2, 2)), grid=(1, 2)).tolist()
  [[[1.0, 2.0, 1.0]]]

  Args:
    bias_gradient: [heads, H*W, H*W], query by key, summed over the batch.
    grid: (H, W), the numbers of rows and columns of tokens.

  Returns:
    [heads, 2H-1, 2W-1] float32.
  """
  height, width = grid
  gradient = bias_gradient.astype(jnp.float32)
  gradient = gradient.reshape(-1, height, width, height, width)
  # Query row i goes to the H rows from i on. XLA adds all of them in one loop.
  by_row = sum(
    jnp.pad(
      gradient[:, i, :, ::-1], ((0, 0), (0, 0), (i, height - 1 - i), (0, 0))
    )
    for i in range(height)
  )  # [heads, W, 2H-1, W]
  return jnp.einsum(
    'hjxl,yjl->hxy',
    by_row,
    offset_one_hot(width),
    precision=jax.lax.Precision.HIGHEST,
  )


def offset_one_hot(length: int) -> np.ndarray:
  """Returns [2L-1, L, L]: 1 where query - key is the offset, else 0.

  >>> offset_one_hot(2).shape
  (3, 2, 2)
  >>> offset_one_hot(2).argmax(axis=0).tolist()  # query - key + 1
  [[1, 0], [2, 1]]
  """
  position = np.arange(length)
  offset = position[:, None] - position[None, :] + length - 1
  return (np.arange(2 * length - 1)[:, None, None] == offset).astype(np.float32)
