"""A table of biases by relative offset, expanded to pairs of tokens and back.

Both ways are products with one-hot matrices, the paper's TPU form (appendix
A.1): no gather forward, no scatter backward. Not here: what learns the table,
and resizing it to another grid.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExpandedBias:
  """A table that was expanded once, to be used many times.

  Attributes:
    values: [heads, H*W, H*W] float32, query by key: `expand_bias_table`.
  """

  values: jax.Array


def expand_bias_table(
  bias_table: jax.Array | ExpandedBias, grid: tuple[int, int]
) -> jax.Array:
  """Looks the bias of every pair of tokens up, if that was not done before.

  Args:
    bias_table: [heads, 2H-1, 2W-1], or expanded already.
    grid: (H, W).

  Returns:
    [heads, H*W, H*W] float32, query by key.
  """
  if isinstance(bias_table, ExpandedBias):
    return bias_table.values
  height, width = grid
  bias = jnp.einsum(
    'hxy,xik,yjl->hijkl',
    bias_table.astype(jnp.float32),
    offset_one_hot(height),
    offset_one_hot(width),
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
    offset_one_hot(height),
    offset_one_hot(width),
    precision=jax.lax.Precision.HIGHEST,
  )


def collapse_bias(bias: ExpandedBias, grid: tuple[int, int]) -> jax.Array:
  """Returns the table that was expanded, [heads, 2H-1, 2W-1], by slices.

  Args:
    bias: of a grid.
    grid: (H, W).
  """
  height, width = grid
  values = bias.values.reshape(-1, height, width, height, width)
  # The first row of queries has the offsets up to 0, the last those from 0 on.
  rows = jnp.concatenate(
    [values[:, 0, :, ::-1], values[:, -1, :, -2::-1]], axis=2
  )  # [heads, W, 2H-1, W]
  columns = jnp.concatenate(
    [rows[:, 0, :, ::-1], rows[:, -1, :, -2::-1]], axis=-1
  )
  return columns  # [heads, 2H-1, 2W-1]


def offset_one_hot(length: int) -> np.ndarray:
  """Returns [2L-1, L, L]: 1 where query - key is the offset, else 0."""
  position = np.arange(length)
  offset = position[:, None] - position[None, :] + length - 1
  return (np.arange(2 * length - 1)[:, None, None] == offset).astype(np.float32)
