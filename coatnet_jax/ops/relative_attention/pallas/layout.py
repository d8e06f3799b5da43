"""From relative attention's arrays to those its kernels read, and back.

Heads lie side by side in the lanes, [B, N, heads * head_dim], as a projection
makes them; what does not fill a block is padded with zeros. Not here: how large
the blocks are (`blocks.py`).
"""

import jax
import jax.numpy as jnp

from coatnet_jax.ops.relative_attention.bias_table import offset_one_hot
from coatnet_jax.ops.relative_attention.pallas.blocks import Blocks
from coatnet_jax.ops.relative_attention.pallas.units import LOG2_E

# The bias of padded keys. Finite, so that no row of padding becomes NaN.
_MASKED = -1e30
# The statistic of padded queries: whatever their bias, their weights are 0.
_NO_WEIGHT = 1e30


def to_lanes(x: jax.Array, blocks: Blocks, rows: int) -> jax.Array:
  """Lays the heads of q, k, v or an output side by side.

  >>> from coatnet_jax.ops.relative_attention.pallas.blocks import choose_blocks
  >>> blocks = choose_blocks((2, 3), head_dim=64)  # Two heads to a group.
  >>> to_lanes(jnp.ones((1, 6, 3, 64)), blocks, blocks.num_queries).shape
  (1, 6, 256)

  Args:
    x: [B, N, heads, head_dim].
    blocks: blocks of the grid, from `choose_blocks`.
    rows: `blocks.num_queries`, or `blocks.num_tokens` for keys and values.

  Returns:
    [B, rows, padded heads * head_dim].
  """
  batch, _, heads, head_dim = x.shape
  height, width = blocks.grid
  x = x.reshape(batch, height * width, heads * head_dim)
  if blocks.width != width:
    x = x.reshape(batch, height, width, -1)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, blocks.width - width), (0, 0)))
    x = x.reshape(batch, height * blocks.width, -1)
  channels = blocks.padded_heads(heads) * head_dim
  return jnp.pad(
    x, ((0, 0), (0, rows - x.shape[1]), (0, channels - x.shape[2]))
  )


def from_lanes(
  x: jax.Array, blocks: Blocks, shape: tuple[int, ...]
) -> jax.Array:
  """Returns what `to_lanes` was given: [B, N, heads, head_dim], `shape`."""
  batch, _, heads, head_dim = shape
  height, width = blocks.grid
  x = x[:, : blocks.num_tokens, : heads * head_dim]
  x = x.reshape(batch, height, blocks.width, -1)[:, :, :width]
  return x.reshape(shape)


def pack_statistics(x: jax.Array, blocks: Blocks) -> jax.Array:
  """Cuts the logarithm of each query's sum into tiles.

  Args:
    x: a number for each query, [B, heads, N].
    blocks: blocks of the grid, from `choose_blocks`.

  Returns:
    [B, groups, tiles, heads_per_group, tile].
  """
  batch, heads, _ = x.shape
  height, width = blocks.grid
  x = jnp.pad(
    x.reshape(batch, heads, height, width),
    (
      (0, 0),
      (0, blocks.padded_heads(heads) - heads),
      (0, blocks.num_tiles * blocks.tile_rows - height),
      (0, blocks.width - width),
    ),
    constant_values=_NO_WEIGHT,
  )
  x = x.reshape(
    batch,
    -1,
    blocks.heads_per_group,
    blocks.num_tiles,
    blocks.tile_rows * blocks.width,
  )
  x = x.transpose(0, 1, 3, 2, 4)
  return jnp.pad(
    x,
    (*[(0, 0)] * 4, (0, blocks.tile - x.shape[-1])),
    constant_values=_NO_WEIGHT,
  )


def unpack_statistics(x: jax.Array, blocks: Blocks, heads: int) -> jax.Array:
  """Returns what `pack_statistics` was given, [B, heads, N]."""
  height, width = blocks.grid
  x = x[..., : blocks.tile_rows * blocks.width]
  x = x.transpose(0, 1, 3, 2, 4)
  # [B, heads, H, W], all padded
  x = x.reshape(x.shape[0], blocks.padded_heads(heads), -1, blocks.width)
  x = x[:, :heads, :height, :width]
  return x.reshape(*x.shape[:2], height * width)


def pack_bias(table: jax.Array, blocks: Blocks) -> jax.Array:
  """Expands a table to the bias blocks that the kernels read.

  By a product with a one-hot array and slices: no gather, nor a scatter in the
  gradient.

  >>> from coatnet_jax.ops.relative_attention.pallas.blocks import choose_blocks
  >>> small = choose_blocks((14, 14), head_dim=32)  # Dense, keys by queries.
  >>> pack_bias(jnp.zeros((3, 27, 27)), small).shape
  (4, 1, 208, 256)
  >>> large = choose_blocks((24, 24), head_dim=32)  # By distance of rows.
  >>> pack_bias(jnp.zeros((3, 47, 47)), large).shape
  (4, 44, 24, 128)

  Args:
    table: relative position table, [heads, 2H-1, 2W-1].
    blocks: blocks of the grid, from `choose_blocks`.

  Returns:
    [padded heads, bias_depth, key_block, tile] float32, times log2(e): keys by
    queries. Padded keys have a large negative bias.
  """
  height, width = blocks.grid
  heads = blocks.padded_heads(table.shape[0])
  table = table.astype(jnp.float32) * LOG2_E
  table = jnp.pad(table, ((0, heads - table.shape[0]), (0, 0), (0, 0)))
  tiles = _join_rows_of_queries(_expand_columns(table, blocks), blocks)
  # The distance falls as the row of the keys rises.
  tiles = tiles[:, ::-1]
  if blocks.single_tile:
    tiles = tiles.reshape(heads, 1, height * width, -1)
    padding = blocks.key_block - height * width
    tiles = jnp.pad(
      tiles, ((0, 0), (0, 0), (0, padding), (0, 0)), constant_values=_MASKED
    )
  padding = blocks.tile - tiles.shape[-1]
  return jnp.pad(tiles, ((0, 0), (0, 0), (0, 0), (0, padding)))


def _expand_columns(table, blocks):
  """Returns the half-expanded form of a table, [heads, 2H-1, W, W].

  One block [keys, queries] of a row of either for each distance between the
  rows; W is padded.
  """
  _, width = blocks.grid
  rows = jnp.einsum(
    'hxy,yqk->hxkq',
    table,
    offset_one_hot(width),
    precision=jax.lax.Precision.HIGHEST,
  )  # [heads, 2H-1, W, W]
  padding = blocks.width - width
  rows = jnp.pad(rows, ((0, 0), (0, 0), (0, 0), (0, padding)))
  return jnp.pad(
    rows, ((0, 0), (0, 0), (0, padding), (0, 0)), constant_values=_MASKED
  )


def _join_rows_of_queries(rows, blocks):
  """Returns [heads, distances, W, tile_rows * W] of [heads, 2H-1, W, W].

  A tile has several rows of queries side by side, so those of the distances
  that follow on each other. Those of a last tile beyond the grid are 0.
  """
  num_distances = (blocks.num_tiles - 1) * blocks.tile_rows + blocks.grid[0]
  missing = num_distances + blocks.tile_rows - 1 - rows.shape[1]
  rows = jnp.pad(rows, ((0, 0), (0, missing), (0, 0), (0, 0)))
  return jnp.concatenate(
    [rows[:, i : i + num_distances] for i in range(blocks.tile_rows)], axis=-1
  )
