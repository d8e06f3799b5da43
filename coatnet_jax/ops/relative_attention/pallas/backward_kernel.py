"""The backward kernel of relative attention: its body.

With p the probabilities and dx the gradient of x, for each head:

    dv = p^T do
    dp = do v^T
    ds = p * (dp - delta), delta the sum over the channels of do * o
    dq = scale * ds k
    dk = scale * ds^T q
    dbias = ds, summed over the images

p is computed again, of q, k, the bias and the saved logarithm of each softmax's
denominator. What a unit is, and why all of it is transposed and in powers of 2:
`units.py`. How the kernel is called: `calls.py`.
"""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
from jax.experimental import pallas as pl

from coatnet_jax.ops.relative_attention.pallas import units
from coatnet_jax.ops.relative_attention.pallas.blocks import Blocks


@dataclasses.dataclass(frozen=True)
class BackwardArrays(units.KernelArrays):
  """What the backward kernel has in VMEM at one step.

  Attributes:
    grad: gradient of the result, [images, queries, LANES].
    dq: gradient of q, [images, queries, LANES], written.
    dk: gradient of k, [images, tokens, LANES], written after the last tile.
    dv: gradient of v, [images, tokens, LANES], written after the last tile.
    dbias: gradient of the bias before its factor log2(e), [heads, depth,
      key_block, tile] float32, summed over all images and tiles.
    q_tiles: scratch for padded queries, [images, tiles, tile, LANES].
    grad_tiles: scratch for padded gradients, [images, tiles, tile, LANES].
    k_rows: scratch for padded keys, [images, keys, LANES].
    k_columns: scratch for transposed keys, [images, LANES, keys].
    v_rows: scratch for padded values, [images, keys, LANES].
    dk_columns: scratch for the sum of dk, [images, LANES, keys] float32.
    dv_columns: scratch for the sum of dv, [images, LANES, keys] float32.
  """

  grad: Any
  dq: Any
  dk: Any
  dv: Any
  dbias: Any
  q_tiles: Any
  grad_tiles: Any
  k_rows: Any
  k_columns: Any
  v_rows: Any
  dk_columns: Any
  dv_columns: Any


def backward_kernel(
  *refs: Any, blocks: Blocks, scale: float, interpret: bool
) -> None:
  """Computes the gradients of one step of the grid.

  Arguments are those of `forward_kernel`, and:

  Args:
    *refs: references to the fields of a `BackwardArrays`, in their order.
  """
  arrays = BackwardArrays(*refs)

  # The block of a group of heads stays in VMEM until the group is done.
  @pl.when((pl.program_id(1) == 0) & (pl.program_id(2) == 0))
  def _():
    arrays.dbias[...] = jnp.zeros_like(arrays.dbias)

  units.run_in_first_step(
    blocks, functools.partial(_load_images, arrays, blocks)
  )
  units.load_tiles(arrays.q, arrays.q_tiles, blocks)
  units.load_tiles(arrays.grad, arrays.grad_tiles, blocks)
  stages = _BackwardStages(arrays, blocks, scale, interpret)
  units.run_pipeline(
    units.list_units(arrays.q.shape[0], blocks),
    (stages.multiply, stages.differentiate, stages.multiply_back),
    # Compiler estimate, v5e, both passes at 14x14 tokens and at 24x24 (sizes of
    # docs/attention.md): 0.86 and 3.06 million cycles; 1.02 and 4.09 without
    # lags, 0.88 and 3.03 with (2, 1).
    lags=(1, 1),
  )


def _load_images(arrays: BackwardArrays, blocks: Blocks) -> None:
  for i in range(arrays.q.shape[0]):
    arrays.k_rows[i] = units.pad_rows(arrays.k[i], blocks.num_keys)
    arrays.k_columns[i] = arrays.k_rows[i].T
    arrays.v_rows[i] = units.pad_rows(arrays.v[i], blocks.num_keys)
  # With one tile nothing is added to them: it is written.
  if blocks.num_tiles > 1:
    arrays.dk_columns[...] = jnp.zeros_like(arrays.dk_columns)
    arrays.dv_columns[...] = jnp.zeros_like(arrays.dv_columns)


class _BackwardStages(units.Stages):
  """The stages of a unit, and what each leaves for the next."""

  def __init__(self, *args):
    super().__init__(*args)
    self.products, self.weights = {}, {}  # by unit
    # By image and tile, for all of its units.
    self.q_columns, self.grad_columns, self.deltas = {}, {}, {}
    self.dq_columns = {}  # [head_dim, tile] by tile and head, of one image

  def multiply(self, i, tile, head, chunk):
    """Makes q k^T and dp of a unit, both [chunk, tile]."""
    arrays = self.arrays
    rows = self.blocks.chunk_rows(chunk)
    q = self.masks[head](arrays.q_tiles[i, tile])
    grad = self.masks[head](arrays.grad_tiles[i, tile])
    self.products[i, tile, head, chunk] = (
      self.dot(arrays.k_rows[i, rows], q, units.A_BT),
      self.dot(arrays.v_rows[i, rows], grad, units.A_BT),
    )
    # Once for all heads and chunks of the tile.
    if (i, tile) not in self.q_columns:
      self._transpose_tile(i, tile)

  def _transpose_tile(self, i, tile):
    """Makes what all units of a tile read: columns, and delta."""
    arrays, blocks = self.arrays, self.blocks
    self.q_columns[i, tile] = arrays.q_tiles[i, tile].T  # [LANES, tile]
    self.grad_columns[i, tile] = arrays.grad_tiles[i, tile].T
    rows = blocks.query_rows(tile)
    out = arrays.out[i, rows].astype(jnp.float32)
    delta = out * arrays.grad[i, rows].astype(jnp.float32)
    # Transposed first: a head's channels are sublanes then, cheap to sum over.
    delta = units.pad_rows(delta, blocks.tile).T  # [LANES, tile]
    self.deltas[i, tile] = [
      jnp.sum(delta[blocks.channels(head)], 0, keepdims=True)
      for head in range(blocks.heads_per_group)
    ]

  def differentiate(self, i, tile, head, chunk):
    """Makes p and ds of a unit; adds ds to the bias' gradient."""
    arrays, blocks = self.arrays, self.blocks
    s, dp = self.products.pop((i, tile, head, chunk))  # [chunk, tile]
    logsumexp = arrays.logsumexp[i, tile, head : head + 1] * units.LOG2_E
    rows = units.find_bias(blocks, tile, chunk)
    bias = arrays.bias[head, rows].reshape(s.shape)
    s = s * (self.scale * units.LOG2_E) + bias
    # At most 1 up to rounding, with no maximum to subtract.
    p = jnp.exp2(s - logsumexp)
    ds = p * (dp - self.deltas[i, tile][head])
    arrays.dbias[head, rows] += ds.reshape(-1, blocks.key_block, blocks.tile)
    dtype = arrays.q.dtype
    self.weights[i, tile, head, chunk] = p.astype(dtype), ds.astype(dtype)

  def multiply_back(self, i, tile, head, chunk):
    """Adds a unit to dq, dk and dv; writes what is complete with it."""
    blocks = self.blocks
    p, ds = self.weights.pop((i, tile, head, chunk))
    channels, rows = blocks.channels(head), blocks.chunk_rows(chunk)
    k = self.arrays.k_columns[i, channels, rows]
    dq = self.dot(k, ds, units.A_B)  # [head_dim, tile]
    if chunk:
      dq += self.dq_columns[tile, head]
    self.dq_columns[tile, head] = dq
    dk = self.dot(self.q_columns[i, tile][channels], ds, units.A_BT)
    dv = self.dot(self.grad_columns[i, tile][channels], p, units.A_BT)
    self._add_to_keys(i, (channels, rows), dk, dv)  # both [head_dim, chunk]
    last_chunk = chunk == blocks.num_chunks - 1
    if last_chunk and head == blocks.heads_per_group - 1:
      self._write_queries(i, tile)
      if tile == blocks.tiles_per_step - 1:
        units.run_in_last_step(blocks, functools.partial(self._write_keys, i))

  def _add_to_keys(self, i, place, dk, dv):
    arrays = self.arrays
    if self.blocks.num_tiles > 1:
      arrays.dk_columns[i, *place] += dk
      arrays.dv_columns[i, *place] += dv
    else:
      arrays.dk_columns[i, *place] = dk
      arrays.dv_columns[i, *place] = dv

  def _write_queries(self, i, tile):
    rows = self.blocks.query_rows(tile)
    # Scaled here, once, and not ds for every key.
    dq = units.join_heads(self.dq_columns, tile, self.blocks) * self.scale
    self.arrays.dq[i, rows] = dq[: rows.stop - rows.start].astype(
      self.arrays.dq.dtype
    )

  def _write_keys(self, i):
    arrays = self.arrays
    tokens, dtype = arrays.dk.shape[1], arrays.dk.dtype
    dk = arrays.dk_columns[i] * self.scale
    arrays.dk[i] = dk.T[:tokens].astype(dtype)
    arrays.dv[i] = arrays.dv_columns[i].T[:tokens].astype(dtype)
