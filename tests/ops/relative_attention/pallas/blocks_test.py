import pytest

from coatnet_jax.ops.relative_attention.pallas.blocks import (
  LANES,
  choose_blocks,
)

GRIDS = [
  *[(n, n) for n in (1, 5, 7, 10, 12, 14, 16, 20, 22, 23, 24, 28, 32)],
  *[(n, n) for n in (37, 40, 48, 64, 96)],
  *[(3, 5), (1, 4), (16, 40), (40, 16), (25, 28), (7, 200), (200, 7)],
]


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('head_dim', [32, 64, 128])
def test_blocks_cover_the_tokens_once(grid, head_dim):
  blocks = choose_blocks(grid, head_dim)
  _, width = grid
  assert blocks.heads_per_group * head_dim == LANES
  assert blocks.width >= width
  # Every key is in one chunk.
  chunks = [blocks.chunk_rows(i) for i in range(blocks.num_chunks)]
  keys = [key for chunk in chunks for key in range(chunk.start, chunk.stop)]
  assert keys == list(range(blocks.num_keys))
  assert blocks.num_keys >= blocks.num_tokens
  # Every query is in one tile of one step.
  tiles = [blocks.query_rows(i) for i in range(blocks.tiles_per_step)]
  queries = [query for tile in tiles for query in range(tile.start, tile.stop)]
  assert queries == list(range(blocks.queries_per_step))
  assert blocks.num_queries >= blocks.num_tokens
  assert all(tile.stop - tile.start <= blocks.tile for tile in tiles)
  assert blocks.num_steps * blocks.tiles_per_step == blocks.num_tiles


@pytest.mark.parametrize('grid', GRIDS)
def test_blocks_are_of_whole_registers(grid):
  blocks = choose_blocks(grid, 32)
  assert blocks.tile % LANES == 0
  # Of float32 logits, and of bfloat16 keys.
  assert blocks.key_block % 8 == 0
  assert blocks.num_keys % 16 == 0
  assert all(
    blocks.chunk_rows(i).start % 16 == 0 for i in range(blocks.num_chunks)
  )
  if blocks.num_steps > 1:  # what the Pallas grid may cut
    assert blocks.queries_per_step % 16 == 0


def test_known_sizes():
  small = choose_blocks((14, 14), 32)
  assert (small.num_keys, small.tile, small.num_tiles) == (208, 256, 1)
  assert small.bias_depth == 1
  # 5 rows of 24 queries in a tile of 128 lanes.
  rows = choose_blocks((24, 24), 32)
  assert (rows.num_keys, rows.tile, rows.num_tiles) == (576, 128, 5)
  assert rows.bias_depth == 4 * 5 + 24
  # Too much for one step: one tile each, keys in four chunks.
  large = choose_blocks((64, 64), 32)
  assert (large.num_steps, large.tiles_per_step) == (32, 1)
  assert (large.num_chunks, large.tile_rows) == (4, 2)
  # Linear in N*W: a dense bias is 4096 * 4096.
  assert large.bias_depth * large.key_block * large.tile == 126 * 64 * 128


@pytest.mark.parametrize(
  ('batch', 'images'), [(128, 4), (6, 3), (7, 1), (1, 1), (2, 2)]
)
def test_images_of_a_step_divide_the_batch(batch, images):
  assert choose_blocks((14, 14), 32).images_per_step(batch) == images
