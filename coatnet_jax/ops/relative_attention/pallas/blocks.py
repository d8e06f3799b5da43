"""How the relative-attention kernels divide a grid of tokens into blocks.

Plain integers, from the shapes alone. Two forms:

- Up to `_MAX_SINGLE_TILE` tokens all queries are one tile, and the bias block
  of a head is dense, [keys, queries].
- Larger grids are worked through in tiles of whole rows of queries. The bias
  of a tile and a row of keys depends only on how many rows lie between them:
  it is read from the half-expanded, Toeplitz form of the table, one block for
  each such distance.
"""

import dataclasses

LANES = 128
# Rows of a bfloat16 register; float32 has half as many.
_SUBLANES = 16
_MAX_SINGLE_TILE = 512
# Keys of one matrix product; more are worked through in chunks.
_MAX_CHUNK = 1024
# Logits of a head, one image and one step; bounds the size of the program.
_MAX_LOGITS_PER_STEP = 2**19
# Logits of a head in one step for which images are taken together.
_LOGITS_PER_STEP = 2**18
_MAX_IMAGES_PER_STEP = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks:
  """The blocks of one grid of tokens.

  Attributes:
    grid: (H, W) of the tokens.
    head_dim: channels of a head, a divisor of LANES.
    width: W, padded to whole registers where rows are worked on by themselves.
    tile_rows: rows of queries in a tile.
    num_tiles: number of tiles of queries.
    tiles_per_step: number of tiles in one step of the Pallas grid.
    single_tile: whether the bias is dense.
    tile: lanes of a tile: its queries, padded.
    chunk_blocks: key blocks in a chunk.
  """

  grid: tuple[int, int]
  head_dim: int
  width: int
  tile_rows: int
  num_tiles: int
  tiles_per_step: int
  single_tile: bool
  tile: int
  chunk_blocks: int

  @property
  def heads_per_group(self) -> int:
    """Heads side by side in the lanes."""
    return LANES // self.head_dim

  @property
  def num_tokens(self) -> int:
    """Rows of k and v: the tokens, with those that pad W."""
    return self.grid[0] * self.width

  @property
  def num_steps(self) -> int:
    """Steps of the Pallas grid over the tiles."""
    return self.num_tiles // self.tiles_per_step

  @property
  def num_key_blocks(self) -> int:
    """Bias blocks along the keys of a tile."""
    return 1 if self.single_tile else self.grid[0]

  @property
  def key_block(self) -> int:
    """Keys of one bias block."""
    if self.single_tile:
      return _round_up(self.num_tokens, _SUBLANES)
    return self.width

  @property
  def num_keys(self) -> int:
    """Keys of a tile, padded."""
    return self.num_key_blocks * self.key_block

  @property
  def num_chunks(self) -> int:
    """Chunks that the keys of a tile are worked through in."""
    return -(-self.num_key_blocks // self.chunk_blocks)

  @property
  def bias_depth(self) -> int:
    """Bias blocks of a head: distances of a tile and a row of keys."""
    if self.single_tile:
      return 1
    return (self.num_tiles - 1) * self.tile_rows + self.grid[0]

  @property
  def num_queries(self) -> int:
    """Rows of q: the tokens, padded to whole tiles where steps divide them."""
    if self.num_steps == 1:
      return self.num_tokens
    return self.num_tiles * self.tile_rows * self.width

  @property
  def queries_per_step(self) -> int:
    """Rows of q in one step of the Pallas grid."""
    return self.num_queries // self.num_steps

  def query_rows(self, tile: int) -> slice:
    """Returns the rows of a step's queries that are in its `tile`-th tile."""
    size = self.tile_rows * self.width
    return slice(tile * size, min((tile + 1) * size, self.queries_per_step))

  def chunk_rows(self, chunk: int) -> slice:
    """Returns the rows of the keys that are in a chunk."""
    size = self.chunk_blocks * self.key_block
    return slice(chunk * size, min((chunk + 1) * size, self.num_keys))

  def channels(self, head: int) -> slice:
    """Returns the lanes of a group's `head`-th head."""
    return slice(head * self.head_dim, (head + 1) * self.head_dim)

  def padded_heads(self, heads: int) -> int:
    """Returns the number of heads in whole groups."""
    return _round_up(heads, self.heads_per_group)

  def images_per_step(self, batch: int) -> int:
    """Returns how many images of a batch to take in one step."""
    most = _LOGITS_PER_STEP // (self.num_keys * self.num_tiles * self.tile)
    most = max(1, min(most, _MAX_IMAGES_PER_STEP))
    return max(n for n in range(1, most + 1) if batch % n == 0)


def choose_blocks(grid: tuple[int, int], head_dim: int) -> Blocks:
  """Returns the blocks for a grid (H, W) of tokens.

  >>> blocks = choose_blocks((14, 14), head_dim=32)  # 196 tokens: one tile.
  >>> blocks.heads_per_group, blocks.num_tiles, blocks.tile, blocks.num_keys
  (4, 1, 256, 208)
  >>> blocks = choose_blocks((24, 24), head_dim=32)  # Tiles of five rows.
  >>> blocks.num_tiles, blocks.tile_rows, blocks.tile, blocks.bias_depth
  (5, 5, 128, 44)

  Args:
    grid: (H, W), the numbers of rows and columns of tokens.
    head_dim: channels of a head: 32, 64 or 128.
  """
  height, width = grid
  if height * width <= _MAX_SINGLE_TILE:
    return Blocks(
      grid=grid,
      head_dim=head_dim,
      width=width,
      tile_rows=height,
      num_tiles=1,
      tiles_per_step=1,
      single_tile=True,
      tile=_round_up(height * width, LANES),
      chunk_blocks=1,
    )
  # Half a register of bfloat16 is a whole one of float32 logits.
  width = _round_up(width, _SUBLANES // 2)
  if height * width % _SUBLANES:
    width = _round_up(width, _SUBLANES)
  blocks = _choose_tiles(grid, head_dim, width)
  logits = blocks.num_keys * blocks.num_tiles * blocks.tile
  num_steps = -(-logits // _MAX_LOGITS_PER_STEP)
  if num_steps > 1:
    # What the Pallas grid cuts must be whole registers of bfloat16.
    blocks = _choose_tiles(grid, head_dim, _round_up(width, _SUBLANES))
  tiles_per_step = -(-blocks.num_tiles // num_steps)
  return dataclasses.replace(
    blocks,
    tiles_per_step=tiles_per_step,
    num_tiles=_round_up(blocks.num_tiles, tiles_per_step),
  )


def _choose_tiles(grid, head_dim, width):
  """Returns the blocks whose tiles leave the fewest lanes empty."""
  height, _ = grid
  chunk_blocks = max(1, min(height, _MAX_CHUNK // width))
  if chunk_blocks < height and chunk_blocks * width % _SUBLANES:
    chunk_blocks -= 1
  choices = []
  for lanes in (LANES, 2 * LANES):
    tile_rows = max(1, min(height, lanes // width))
    choices.append(
      Blocks(
        grid=grid,
        head_dim=head_dim,
        width=width,
        tile_rows=tile_rows,
        num_tiles=-(-height // tile_rows),
        tiles_per_step=1,
        single_tile=False,
        tile=_round_up(tile_rows * width, LANES),
        chunk_blocks=chunk_blocks,
      )
    )
  return min(choices, key=lambda blocks: blocks.num_tiles * blocks.tile)


def _round_up(number, multiple):
  return -(-number // multiple) * multiple
