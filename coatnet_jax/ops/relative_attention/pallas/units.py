"""What both relative-attention kernels are made of: units, and their parts.

One step of the Pallas grid works on a group of heads that fills the 128 lanes,
on one or several images, and on one or several tiles of queries. What is done
for one image, one tile, one head and one chunk of keys is a unit, and is done
in stages. `run_pipeline` interleaves the stages of consecutive units, so that
the matrix units of the one run beside the vector units of the other.

Logits are kept transposed, keys on sublanes and queries on lanes. So the
softmax reduces over sublanes, which is plain vector arithmetic, the statistics
of a row are one row of lanes, and both products with a head of 32 channels
have the probabilities as their stationary operand. The softmax is computed in
powers of 2: log2(e) is folded into the scale and into the bias.

Not here: anything of size N x N outside VMEM, or a mask for padding. Queries
and keys are padded with zeros; the bias of padded keys is -1e30.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from coatnet_jax.ops.relative_attention.pallas.blocks import LANES, Blocks

# exp(x) is exp2(x * LOG2_E), and exp2 is what the hardware has.
LOG2_E = math.log2(math.e)

# Dimension numbers of the two kinds of matrix products.
A_BT = (((1,), (1,)), ((), ()))
A_B = (((1,), (0,)), ((), ()))

# Image, tile of queries, head and chunk of keys, counted within the step.
Unit = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class KernelArrays:
  """What both kernels have in VMEM at one step, first of all they have.

  In the order of `pallas_call`, as are the fields that each kernel adds.

  Attributes:
    q: queries, [images, queries, LANES], the heads of a group side by side.
    k: keys, [images, tokens, LANES].
    v: values, [images, tokens, LANES].
    bias: [heads, depth, key_block, tile] float32, times log2(e).
    out: attention, [images, queries, LANES]; the forward kernel writes it.
    logsumexp: natural logarithm of each softmax's denominator, [images, tiles,
      heads, tile] float32; the forward kernel writes it.
  """

  q: Any
  k: Any
  v: Any
  bias: Any
  out: Any
  logsumexp: Any


class Stages:
  """The stages of a unit: methods of (image, tile, head, chunk).

  Attributes:
    arrays: references of the step's arrays, by name.
    blocks: division of the arrays.
    scale: factor of q k^T.
    dot: `multiply_matrices`, for the compiler or for the interpreter.
    masks: a function for each head, which zeroes the other heads' lanes.
  """

  def __init__(
    self, arrays: KernelArrays, blocks: Blocks, scale: float, interpret: bool
  ):
    self.arrays, self.blocks, self.scale = arrays, blocks, scale
    self.dot = functools.partial(multiply_matrices, interpret=interpret)
    self.masks = create_head_masks(blocks, arrays.q.dtype)


def list_units(num_images: int, blocks: Blocks) -> list[Unit]:
  """Returns every unit of a step, in the order that they are worked on.

  Chunks follow each other, as the softmax over them is summed up; then heads,
  whose results are joined to whole lanes before they are written.

  >>> from coatnet_jax.ops.relative_attention.pallas.blocks import choose_blocks
  >>> list_units(1, choose_blocks((14, 14), head_dim=64))
  [(0, 0, 0, 0), (0, 0, 1, 0)]
  """
  return [
    (i, tile, head, chunk)
    for i in range(num_images)
    for tile in range(blocks.tiles_per_step)
    for head in range(blocks.heads_per_group)
    for chunk in range(blocks.num_chunks)
  ]


def run_pipeline(
  units: Sequence[tuple], stages: Sequence[Callable], lags: Sequence[int]
) -> None:
  """Runs every unit through all stages, each stage some units behind.

  Program order is what the compiler's scheduler starts from: units written
  one after the other would leave the matrix units idle during each softmax.

  >>> run_pipeline(
  ...   [('a',), ('b',)],
  ...   [lambda unit: print('load', unit), lambda unit: print('use', unit)],
  ...   lags=[1],
  ... )
  load a
  load b
  use a
  use b

  Args:
    units: arguments of the stages.
    stages: functions of a unit, in the order that it passes through them.
    lags: number of units that each stage but the first is behind the one
      before it.
  """
  starts = [sum(lags[:i]) for i in range(len(stages))]
  for time in range(len(units) + starts[-1]):
    for stage, start in zip(stages, starts, strict=True):
      if 0 <= time - start < len(units):
        stage(*units[time - start])


def run_in_first_step(blocks: Blocks, function: Callable[[], None]) -> None:
  """Calls a function in the first of the steps that share images."""
  _run_in_step(0, blocks, function)


def run_in_last_step(blocks: Blocks, function: Callable[[], None]) -> None:
  """Calls a function in the last of the steps that share images."""
  _run_in_step(blocks.num_steps - 1, blocks, function)


def _run_in_step(step, blocks, function):
  if blocks.num_steps == 1:  # The condition always holds.
    function()
  else:
    pl.when(pl.program_id(2) == step)(function)


def load_tiles(ref, tiles, blocks: Blocks) -> None:
  """Cuts queries, or what has their shape, into padded tiles.

  Args:
    ref: array to read, [images, queries, LANES].
    tiles: array to write, [images, tiles, tile, LANES].
    blocks: division of the arrays.
  """
  for i in range(ref.shape[0]):
    for tile in range(blocks.tiles_per_step):
      rows = ref[i, blocks.query_rows(tile)]
      tiles[i, tile] = pad_rows(rows, blocks.tile)


def pad_rows(x: jax.Array, rows: int) -> jax.Array:
  """Returns [n, LANES] with zeros up to [rows, LANES]."""
  if x.shape[0] == rows:
    return x
  return jnp.pad(x, ((0, rows - x.shape[0]), (0, 0)))


def join_heads(
  columns: dict[tuple[int, int], jax.Array], tile: int, blocks: Blocks
) -> jax.Array:
  """Returns [tile, LANES] of each head's [head_dim, tile]."""
  heads = range(blocks.heads_per_group)
  return jnp.concatenate([columns[tile, head] for head in heads]).T


def find_bias(blocks: Blocks, tile: int, chunk: int):
  """Returns which blocks of a head's bias a unit reads, a slice of `depth`.

  The bias of a tile of queries and a row of keys depends on how many rows lie
  between them alone, so that tiles read overlapping slices of one array.
  """
  first = chunk * blocks.chunk_blocks
  size = min(blocks.chunk_blocks, blocks.num_key_blocks - first)
  # Block 0 is of the last tile and the first row of keys.
  start: int | jax.Array = (
    blocks.num_tiles - 1 - tile
  ) * blocks.tile_rows + first
  if blocks.num_steps > 1:
    start -= pl.program_id(2) * (blocks.tiles_per_step * blocks.tile_rows)
  return pl.ds(start, size)


def create_head_masks(blocks: Blocks, dtype: jnp.dtype) -> list[Callable]:
  """Returns for each head what zeroes the other heads' lanes of [tile, LANES].

  A product over all 128 lanes with the others zero costs the matrix unit what
  one over 32 does, and taking 32 lanes out of 128 would shift them first.
  """
  if blocks.heads_per_group == 1:
    return [lambda x: x]
  # Two bfloat16 rows are one row of int32, and AND is one instruction, where
  # a bfloat16 select is several.
  packed = dtype == jnp.bfloat16
  rows = blocks.tile // 2 if packed else blocks.tile
  lane = jax.lax.broadcasted_iota(jnp.int32, (rows, LANES), 1)
  # A shift: an integer division asks Pallas for the kind of chip.
  head_of_lane = lane >> int(math.log2(blocks.head_dim))

  def mask_of(head):
    ones = jnp.where(head_of_lane == head, jnp.int32(-1), jnp.int32(0))

    def mask(x):
      return pltpu.bitcast(pltpu.bitcast(x, jnp.int32) & ones, dtype)

    return mask

  return [mask_of(head) for head in range(blocks.heads_per_group)]


def multiply_matrices(
  a: jax.Array, b: jax.Array, dimension_numbers, *, interpret: bool
) -> jax.Array:
  """Multiplies matrices, with sums in float32.

  Args:
    a: left matrix, [i, j].
    b: right matrix, [j, k], or [k, j] where it is transposed.
    dimension_numbers: `A_B` or `A_BT`.
    interpret: whether XLA runs this, and not the kernel's compiler.

  Returns:
    [i, k] float32.
  """
  if interpret:
    # XLA:CPU does not multiply bfloat16 in every program. The products of two
    # bfloat16 numbers are float32 numbers.
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
  return jax.lax.dot_general(
    a,
    b,
    dimension_numbers,
    # Or float32 would be rounded to bfloat16 on its way into the matrix unit.
    precision=(jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None),
    preferred_element_type=jnp.float32,
  )
