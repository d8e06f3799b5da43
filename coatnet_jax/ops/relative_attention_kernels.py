"""The two Pallas TPU kernels of relative attention: their bodies.

How they are cut into blocks and called: `relative_attention_pallas.py`.

One step of the Pallas grid works on a group of heads that fills the 128 lanes,
on one or several images, and on one or several tiles of queries. What is done
for one image, one tile, one head and one chunk of keys is a unit; `_pipeline`
interleaves the stages of consecutive units, so that the matrix units of the
one run beside the vector units of the other.

Logits are kept transposed, keys on sublanes and queries on lanes. So the
softmax reduces over sublanes, which is plain vector arithmetic, the statistics
of a row are one row of lanes, and both products with a head of 32 channels
have the probabilities as their stationary operand. The softmax is computed in
powers of 2: log2(e) is folded into the scale and into the bias.

Not here: anything of size N x N outside VMEM, or a mask for padding. Queries
and keys are padded with zeros; the bias of padded keys is -1e30.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from coatnet_jax.ops.relative_attention_blocks import LANES, Blocks

LOG2_E = math.log2(math.e)

_NT = (((1,), (1,)), ((), ()))  # a b^T
_NN = (((1,), (0,)), ((), ()))  # a b


def forward_kernel(
  q_ref,
  k_ref,
  v_ref,
  bias_ref,
  out_ref,
  logsumexp_ref,
  q_tiles,
  k_rows,
  v_columns,
  *,
  blocks: Blocks,
  scale: float,
  interpret: bool,
):
  """Computes the attention of one step of the grid.

  Args:
    q_ref: [images, queries, LANES], the heads of a group side by side.
    k_ref: keys, [images, tokens, LANES].
    v_ref: values, [images, tokens, LANES].
    bias_ref: [heads, depth, key_block, tile] float32, times log2(e).
    out_ref: [images, queries, LANES], written.
    logsumexp_ref: [images, tiles, heads, tile] float32, written; of the
      natural logarithm.
    q_tiles: [images, tiles, tile, LANES], scratch.
    k_rows: [images, keys, LANES], scratch.
    v_columns: [images, LANES, keys], scratch: v transposed.
    blocks: how the arrays are divided.
    scale: factor of q k^T.
    interpret: whether XLA runs this, and not the kernel's compiler.
  """
  images = range(q_ref.shape[0])
  dot = functools.partial(_dot, interpret=interpret)

  @_once_per_image(blocks)
  def _():
    for i in images:
      k_rows[i] = _pad_rows(k_ref[i], blocks.num_keys)
      v_columns[i] = _pad_rows(v_ref[i], blocks.num_keys).T

  _load_tiles(q_ref, q_tiles, blocks)
  masks = _head_masks(blocks, q_ref.dtype)
  logits, weights, statistics, outputs = {}, {}, {}, {}

  def multiply_q_k(i, tile, head, chunk):
    q = masks[head](q_tiles[i, tile])
    s = dot(k_rows[i, blocks.chunk_rows(chunk)], q, _NT)
    bias = bias_ref[head, _bias_rows(blocks, tile, chunk)]
    # Scaling q instead rounds it once more, in bfloat16.
    s = s * (scale * LOG2_E) + bias.reshape(s.shape)
    logits[i, tile, head, chunk] = s

  def normalise(i, tile, head, chunk):
    s = logits.pop((i, tile, head, chunk))  # [chunk, tile]
    largest = jnp.max(s, 0, keepdims=True)
    decay = None
    if chunk:
      previous, total = statistics[i, tile, head]
      largest = jnp.maximum(largest, previous)
      decay = jnp.exp2(previous - largest)
    p = jnp.exp2(s - largest)
    new_total = jnp.sum(p, 0, keepdims=True)
    if chunk:
      new_total += decay * total
    statistics[i, tile, head] = largest, new_total
    weights[i, tile, head, chunk] = p.astype(q_ref.dtype), decay

  def multiply_p_v(i, tile, head, chunk):
    p, decay = weights.pop((i, tile, head, chunk))
    channels = blocks.channels(head)
    o = dot(v_columns[i, channels, blocks.chunk_rows(chunk)], p, _NN)
    if chunk:
      o += decay * outputs[tile, head]
    outputs[tile, head] = o  # [head_dim, tile]
    if chunk < blocks.num_chunks - 1:
      return
    largest, total = statistics.pop((i, tile, head))
    logsumexp_ref[i, tile, head : head + 1] = (
      largest + jnp.log2(total)
    ) / LOG2_E
    outputs[tile, head] = o * (1 / total)
    if head == blocks.heads_per_group - 1:
      rows = blocks.query_rows(tile)
      out_ref[i, rows] = _join_heads(outputs, tile, blocks)[
        : rows.stop - rows.start
      ].astype(out_ref.dtype)

  _pipeline(
    _units(images, blocks), (multiply_q_k, normalise, multiply_p_v), (2, 1)
  )


def backward_kernel(
  q_ref,
  k_ref,
  v_ref,
  bias_ref,
  out_ref,
  logsumexp_ref,
  grad_ref,
  dq_ref,
  dk_ref,
  dv_ref,
  dbias_ref,
  q_tiles,
  grad_tiles,
  k_rows,
  k_columns,
  v_rows,
  dk_columns,
  dv_columns,
  *,
  blocks: Blocks,
  scale: float,
  interpret: bool,
):
  """Computes the gradients of one step of the grid.

  Probabilities are computed again from the saved statistics of their rows.

  Args:
    q_ref: [images, queries, LANES], and the next as in `forward_kernel`.
    k_ref: keys, [images, tokens, LANES].
    v_ref: values, [images, tokens, LANES].
    bias_ref: [heads, depth, key_block, tile] float32, times log2(e).
    out_ref: result of the forward pass, [images, queries, LANES].
    logsumexp_ref: [images, tiles, heads, tile] float32.
    grad_ref: [images, queries, LANES], of the output.
    dq_ref: [images, queries, LANES], written.
    dk_ref: [images, tokens, LANES], written after the last tile.
    dv_ref: [images, tokens, LANES], likewise.
    dbias_ref: [heads, depth, key_block, tile] float32: the gradient of the
      bias, not times log2(e); summed over all images and tiles.
    q_tiles: [images, tiles, tile, LANES], scratch.
    grad_tiles: [images, tiles, tile, LANES], scratch.
    k_rows: [images, keys, LANES], scratch.
    k_columns: [images, LANES, keys], scratch: k transposed.
    v_rows: [images, keys, LANES], scratch.
    dk_columns: [images, LANES, keys] float32, scratch.
    dv_columns: [images, LANES, keys] float32, scratch.
    blocks: how the arrays are divided.
    scale: factor of q k^T.
    interpret: whether XLA runs this, and not the kernel's compiler.
  """
  images = range(q_ref.shape[0])
  dot = functools.partial(_dot, interpret=interpret)
  dtype = q_ref.dtype

  @pl.when((pl.program_id(1) == 0) & (pl.program_id(2) == 0))
  def _():
    dbias_ref[...] = jnp.zeros_like(dbias_ref)

  @_once_per_image(blocks)
  def _():
    for i in images:
      k_rows[i] = _pad_rows(k_ref[i], blocks.num_keys)
      k_columns[i] = k_rows[i].T
      v_rows[i] = _pad_rows(v_ref[i], blocks.num_keys)
    if blocks.num_tiles > 1:
      dk_columns[...] = jnp.zeros_like(dk_columns)
      dv_columns[...] = jnp.zeros_like(dv_columns)

  _load_tiles(q_ref, q_tiles, blocks)
  _load_tiles(grad_ref, grad_tiles, blocks)
  masks = _head_masks(blocks, dtype)
  products, weights = {}, {}
  q_columns, grad_columns, deltas = {}, {}, {}
  dq_columns = {}

  def transpose(i, tile):
    q_columns[i, tile] = q_tiles[i, tile].T  # [LANES, tile]
    grad_columns[i, tile] = grad_tiles[i, tile].T
    rows = blocks.query_rows(tile)
    out = out_ref[i, rows].astype(jnp.float32)
    delta = out * grad_ref[i, rows].astype(jnp.float32)
    delta = _pad_rows(delta, blocks.tile).T  # [LANES, tile]
    deltas[i, tile] = [
      jnp.sum(delta[blocks.channels(head)], 0, keepdims=True)
      for head in range(blocks.heads_per_group)
    ]

  def multiply(i, tile, head, chunk):
    rows = blocks.chunk_rows(chunk)
    q = masks[head](q_tiles[i, tile])
    grad = masks[head](grad_tiles[i, tile])
    products[i, tile, head, chunk] = (
      dot(k_rows[i, rows], q, _NT),
      dot(v_rows[i, rows], grad, _NT),
    )
    if (i, tile) not in q_columns:
      transpose(i, tile)

  def differentiate(i, tile, head, chunk):
    s, dp = products.pop((i, tile, head, chunk))  # [chunk, tile]
    logsumexp = logsumexp_ref[i, tile, head : head + 1] * LOG2_E
    rows = _bias_rows(blocks, tile, chunk)
    s = s * (scale * LOG2_E) + bias_ref[head, rows].reshape(s.shape)
    p = jnp.exp2(s - logsumexp)
    ds = p * (dp - deltas[i, tile][head])
    dbias_ref[head, rows] += ds.reshape(-1, blocks.key_block, blocks.tile)
    weights[i, tile, head, chunk] = p.astype(dtype), ds.astype(dtype)

  def multiply_back(i, tile, head, chunk):
    p, ds = weights.pop((i, tile, head, chunk))
    channels, rows = blocks.channels(head), blocks.chunk_rows(chunk)
    dq = dot(k_columns[i, channels, rows], ds, _NN)  # [head_dim, tile]
    if chunk:
      dq += dq_columns[tile, head]
    dq_columns[tile, head] = dq
    dk = dot(q_columns[i, tile][channels], ds, _NT)  # [head_dim, chunk]
    dv = dot(grad_columns[i, tile][channels], p, _NT)
    if blocks.num_tiles > 1:
      dk_columns[i, channels, rows] += dk
      dv_columns[i, channels, rows] += dv
    else:
      dk_columns[i, channels, rows] = dk
      dv_columns[i, channels, rows] = dv
    last_chunk = chunk == blocks.num_chunks - 1
    if not (last_chunk and head == blocks.heads_per_group - 1):
      return
    rows = blocks.query_rows(tile)
    dq_ref[i, rows] = (_join_heads(dq_columns, tile, blocks) * scale)[
      : rows.stop - rows.start
    ].astype(dtype)
    if tile == blocks.tiles_per_step - 1:

      @_after_last_tile(blocks)
      def _():
        tokens = dk_ref.shape[1]
        dk_ref[i] = (dk_columns[i] * scale).T[:tokens].astype(dtype)
        dv_ref[i] = dv_columns[i].T[:tokens].astype(dtype)

  _pipeline(
    _units(images, blocks), (multiply, differentiate, multiply_back), (1, 1)
  )


def _units(images, blocks: Blocks) -> list[tuple[int, int, int, int]]:
  """Returns every (image, tile, head, chunk) of a step."""
  return [
    (i, tile, head, chunk)
    for i in images
    for tile in range(blocks.tiles_per_step)
    for head in range(blocks.heads_per_group)
    for chunk in range(blocks.num_chunks)
  ]


def _pipeline(
  units: Sequence[tuple], stages: Sequence[Callable], lags: Sequence[int]
):
  """Runs every unit through all stages, each stage some units behind.

  Program order is what the compiler's scheduler starts from: units written
  one after the other would leave the matrix units idle during each softmax.

  Args:
    units: the arguments of the stages.
    stages: what to do with a unit, in order.
    lags: by how many units each stage but the first is behind the one before.
  """
  starts = [sum(lags[:i]) for i in range(len(stages))]
  for time in range(len(units) + starts[-1]):
    for stage, start in zip(stages, starts, strict=True):
      if 0 <= time - start < len(units):
        stage(*units[time - start])


def _once_per_image(blocks: Blocks):
  """Runs a function in the first of the steps that share images."""
  if blocks.num_steps == 1:
    return lambda function: function()
  return pl.when(pl.program_id(2) == 0)


def _after_last_tile(blocks: Blocks):
  if blocks.num_steps == 1:
    return lambda function: function()
  return pl.when(pl.program_id(2) == blocks.num_steps - 1)


def _load_tiles(ref, tiles, blocks):
  """Cuts [images, queries, LANES] into padded tiles."""
  for i in range(ref.shape[0]):
    for tile in range(blocks.tiles_per_step):
      rows = ref[i, blocks.query_rows(tile)]
      tiles[i, tile] = _pad_rows(rows, blocks.tile)


def _bias_rows(blocks, tile, chunk):
  """Returns which blocks of the bias a unit's rows of keys have."""
  first = chunk * blocks.chunk_blocks
  size = min(blocks.chunk_blocks, blocks.num_key_blocks - first)
  # Block 0 is of the last tile and the first row of keys.
  start = (blocks.num_tiles - 1 - tile) * blocks.tile_rows + first
  if blocks.num_steps > 1:
    start -= pl.program_id(2) * (blocks.tiles_per_step * blocks.tile_rows)
  return pl.ds(start, size)


def _join_heads(columns, tile, blocks):
  """Returns [tile, LANES] of each head's [head_dim, tile]."""
  heads = range(blocks.heads_per_group)
  return jnp.concatenate([columns[tile, head] for head in heads]).T


def _pad_rows(x, rows):
  """Returns [n, LANES] with zeros up to `rows`."""
  if x.shape[0] == rows:
    return x
  return jnp.pad(x, ((0, rows - x.shape[0]), (0, 0)))


def _head_masks(blocks: Blocks, dtype) -> list[Callable]:
  """Returns for each head what zeroes the other heads' lanes of [tile, LANES].

  A product over all 128 lanes with the others zero costs the matrix unit what
  one over 32 does.
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


def _dot(a, b, dimension_numbers, *, interpret):
  """Multiplies, with float32 products of float32 operands, and sums."""
  if interpret:
    # XLA:CPU does not multiply bfloat16 in every program. The products of two
    # bfloat16 numbers are float32 numbers.
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
  return jax.lax.dot_general(
    a,
    b,
    dimension_numbers,
    precision=(jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None),
    preferred_element_type=jnp.float32,
  )
