"""The forward kernel of relative attention: its body.

What a unit is, and why logits are transposed and in powers of 2: `units.py`.
How the kernel is called: `calls.py`.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from coatnet_jax.ops.relative_attention.pallas import units
from coatnet_jax.ops.relative_attention.pallas.blocks import Blocks


@dataclasses.dataclass(frozen=True)
class ForwardArrays(units.KernelArrays):
  """What the forward kernel has in VMEM at one step.

  Attributes:
    q_tiles: scratch for padded queries, [images, tiles, tile, LANES].
    k_rows: scratch for padded keys, [images, keys, LANES].
    v_columns: scratch for transposed values, [images, LANES, keys].
  """

  q_tiles: Any
  k_rows: Any
  v_columns: Any


def forward_kernel(
  *refs: Any, blocks: Blocks, scale: float, interpret: bool
) -> None:
  """Computes the attention of one step of the grid.

  Args:
    *refs: references to the fields of a `ForwardArrays`, in their order.
    blocks: division of the arrays.
    scale: factor of q k^T.
    interpret: whether XLA runs this, and not the kernel's compiler.
  """
  arrays = ForwardArrays(*refs)
  num_images = arrays.q.shape[0]

  def load_images():
    for i in range(num_images):
      arrays.k_rows[i] = units.pad_rows(arrays.k[i], blocks.num_keys)
      arrays.v_columns[i] = units.pad_rows(arrays.v[i], blocks.num_keys).T

  units.run_in_first_step(blocks, load_images)
  units.load_tiles(arrays.q, arrays.q_tiles, blocks)
  stages = _ForwardStages(arrays, blocks, scale, interpret)
  units.run_pipeline(
    units.list_units(num_images, blocks),
    (stages.multiply_q_k, stages.normalise, stages.multiply_p_v),
    # Compiler estimate, v5e, at 14x14 tokens and at 24x24 (the sizes of
    # docs/attention.md): 0.29 and 1.08 million cycles; 0.53 and 1.60 without
    # lags, 0.32 and 1.20 with (1, 1).
    lags=(2, 1),
  )


class _ForwardStages(units.Stages):
  """The stages of a unit, and what each leaves for the next."""

  def __init__(self, *args):
    super().__init__(*args)
    self.logits, self.weights = {}, {}  # by unit
    # The largest logit and the sum of the weights so far, by image, tile and
    # head: an online softmax over the chunks.
    self.statistics = {}
    self.outputs = {}  # [head_dim, tile] by tile and head, of one image

  def multiply_q_k(self, i, tile, head, chunk):
    """Makes the logits of a unit, [chunk, tile]."""
    arrays, blocks = self.arrays, self.blocks
    q = self.masks[head](arrays.q_tiles[i, tile])
    s = self.dot(arrays.k_rows[i, blocks.chunk_rows(chunk)], q, units.A_BT)
    bias = arrays.bias[head, units.find_bias(blocks, tile, chunk)]
    # Scaling q instead rounds it once more, in bfloat16.
    s = s * (self.scale * units.LOG2_E) + bias.reshape(s.shape)
    self.logits[i, tile, head, chunk] = s

  def normalise(self, i, tile, head, chunk):
    """Makes the weights of a unit, relative to the largest logit so far."""
    s = self.logits.pop((i, tile, head, chunk))  # [chunk, tile]
    largest = jnp.max(s, 0, keepdims=True)
    decay = None
    if chunk:
      previous, total = self.statistics[i, tile, head]
      largest = jnp.maximum(largest, previous)
      # What was summed relative to the previous maximum is too large by this.
      decay = jnp.exp2(previous - largest)
    p = jnp.exp2(s - largest)
    new_total = jnp.sum(p, 0, keepdims=True)
    if chunk:
      new_total += decay * total
    self.statistics[i, tile, head] = largest, new_total
    self.weights[i, tile, head, chunk] = (
      p.astype(self.arrays.q.dtype),
      decay,
    )

  def multiply_p_v(self, i, tile, head, chunk):
    """Adds a unit to its output; writes what is complete with it."""
    blocks = self.blocks
    p, decay = self.weights.pop((i, tile, head, chunk))
    v = self.arrays.v_columns[
      i, blocks.channels(head), blocks.chunk_rows(chunk)
    ]
    o = self.dot(v, p, units.A_B)
    if chunk:
      o += decay * self.outputs[tile, head]
    self.outputs[tile, head] = o  # [head_dim, tile]
    if chunk == blocks.num_chunks - 1:
      self._finish_head(i, tile, head)
      if head == blocks.heads_per_group - 1:
        self._write_tile(i, tile)

  def _finish_head(self, i, tile, head):
    largest, total = self.statistics.pop((i, tile, head))
    self.arrays.logsumexp[i, tile, head : head + 1] = (
      largest + jnp.log2(total)
    ) / units.LOG2_E
    # Divided here, not the weights: head_dim rows instead of as many as keys.
    self.outputs[tile, head] *= 1 / total

  def _write_tile(self, i, tile):
    rows = self.blocks.query_rows(tile)
    out = units.join_heads(self.outputs, tile, self.blocks)
    self.arrays.out[i, rows] = out[: rows.stop - rows.start].astype(
      self.arrays.out.dtype
    )
