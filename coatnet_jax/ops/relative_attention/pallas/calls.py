"""The Pallas calls of relative attention: grids, blocks and scratch memory.

All arrays are one device's: `per_shard.py` divides them over a mesh. The bodies
of the kernels are in `forward_kernel.py` and `backward_kernel.py`, the sizes of
their blocks in `blocks.py`, the arrays that they read in `layout.py`.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from coatnet_jax.ops.relative_attention.definition import Operands, Residuals
from coatnet_jax.ops.relative_attention.pallas.backward_kernel import (
  backward_kernel,
)
from coatnet_jax.ops.relative_attention.pallas.blocks import (
  LANES,
  Blocks,
  choose_blocks,
)
from coatnet_jax.ops.relative_attention.pallas.forward_kernel import (
  forward_kernel,
)
from coatnet_jax.ops.relative_attention.pallas.layout import (
  from_lanes,
  pack_bias,
  pack_statistics,
  to_lanes,
  unpack_statistics,
)
from coatnet_jax.ops.relative_attention.pallas.units import LOG2_E

# A larger bias block is fetched once per group of heads and not prefetched.
_MAX_PREFETCHED_BYTES = 2**20
# What the compiler may use of VMEM; it takes what the blocks need.
_VMEM_LIMIT_BYTES = 100 * 2**20


def call_forward_kernel(
  operands: Operands, *, grid: tuple[int, int], scale: float, interpret: bool
) -> tuple[jax.Array, jax.Array]:
  """Does on one device what `per_shard.attend_with_kernel` does on a mesh.

  Operands have the images and the heads of the device; there always is a table.
  The results are [B, N, heads, head_dim] and [B, heads, N].
  """
  q, k, v, table = operands
  blocks = choose_blocks(grid, q.shape[-1])
  specs = _Specs(q, blocks)
  q_lanes = to_lanes(q, blocks, blocks.num_queries)
  k_lanes, v_lanes = (to_lanes(x, blocks, blocks.num_tokens) for x in (k, v))
  bias = pack_bias(table, blocks)
  out, logsumexp = _call(
    forward_kernel,
    'relative_attention_forward',
    blocks=blocks,
    scale=scale,
    interpret=interpret,
    grid=specs.grid,
    in_specs=[specs.queries, specs.keys, specs.keys, specs.bias],
    out_specs=[specs.queries, specs.statistics],
    out_shape=[_in_hbm(q_lanes, interpret), specs.statistics_shape],
    scratch_shapes=[specs.tiles, specs.key_rows, specs.key_columns],
  )(*_pin(interpret, q_lanes, k_lanes, v_lanes), bias)
  return (
    from_lanes(out, blocks, q.shape),
    unpack_statistics(logsumexp, blocks, q.shape[2]),
  )


def call_backward_kernel(
  residuals: Residuals,
  grad: jax.Array,
  *,
  grid: tuple[int, int],
  scale: float,
  interpret: bool,
) -> Operands:
  """Does on one device what `per_shard.differentiate_with_kernel` does.

  The table's gradient, [heads, 2H-1, 2W-1] float32, is of the device's images.
  """
  (q, k, v, table), out, logsumexp = residuals
  blocks = choose_blocks(grid, q.shape[-1])
  specs = _Specs(q, blocks)
  q_lanes, out_lanes, grad_lanes = (
    to_lanes(x, blocks, blocks.num_queries) for x in (q, out, grad)
  )
  k_lanes, v_lanes = (to_lanes(x, blocks, blocks.num_tokens) for x in (k, v))
  # `pack_bias` is linear: folding needs none of its values.
  bias, fold = jax.vjp(functools.partial(pack_bias, blocks=blocks), table)
  dq, dk, dv, dbias = _call(
    backward_kernel,
    'relative_attention_backward',
    blocks=blocks,
    scale=scale,
    interpret=interpret,
    grid=specs.grid,
    in_specs=[
      *(specs.queries, specs.keys, specs.keys, specs.bias),
      *(specs.queries, specs.statistics, specs.queries),
    ],
    out_specs=[specs.queries, specs.keys, specs.keys, specs.bias],
    out_shape=[
      *(_in_hbm(x, interpret) for x in (q_lanes, k_lanes, v_lanes)),
      jax.ShapeDtypeStruct(bias.shape, jnp.float32),
    ],
    scratch_shapes=[
      *(specs.tiles, specs.tiles),
      *(specs.key_rows, specs.key_columns, specs.key_rows),
      *(specs.key_sums, specs.key_sums),
    ],
  )(
    *_pin(interpret, q_lanes, k_lanes, v_lanes),
    bias,
    *_pin(interpret, out_lanes),
    pack_statistics(logsumexp, blocks),
    *_pin(interpret, grad_lanes),
  )
  # The kernel's gradient is that of the bias before its factor.
  (dtable,) = fold(dbias / LOG2_E)
  dq, dk, dv = (from_lanes(x, blocks, q.shape) for x in (dq, dk, dv))
  return Operands(dq, dk, dv, dtable)


def _call(kernel, name, *, blocks, scale, interpret, **specs):
  return pl.pallas_call(
    functools.partial(kernel, blocks=blocks, scale=scale, interpret=interpret),
    compiler_params=pltpu.CompilerParams(
      # Groups of heads are independent; the bias' gradient is summed over the
      # rest. Chips with two cores divide the groups between them.
      dimension_semantics=('parallel', 'arbitrary', 'arbitrary'),
      vmem_limit_bytes=_VMEM_LIMIT_BYTES,
    ),
    interpret=interpret,
    name=name,
    **specs,
  )


class _Specs:
  """What the kernels have of each array in VMEM at one step of their grid.

  The grid's axes are groups of heads, images and tiles of queries. A block is
  fetched when its index changes: keys and values once per image, the bias once
  per group.
  """

  def __init__(self, q: jax.Array, blocks: Blocks):
    batch, _, heads, _ = q.shape
    per_group = blocks.heads_per_group
    groups = blocks.padded_heads(heads) // per_group
    images = blocks.images_per_step(batch)
    self.grid = (groups, batch // images, blocks.num_steps)

    self.queries = pl.BlockSpec(
      (images, blocks.queries_per_step, LANES), lambda g, b, t: (b, t, g)
    )
    self.keys = pl.BlockSpec(
      (images, blocks.num_tokens, LANES), lambda g, b, t: (b, 0, g)
    )
    self.statistics_shape = jax.ShapeDtypeStruct(
      (batch, groups, blocks.num_tiles, per_group, blocks.tile), jnp.float32
    )
    # None: the kernel does not see the axis, of which a step has one entry.
    self.statistics = pl.BlockSpec(
      (images, None, blocks.tiles_per_step, per_group, blocks.tile),
      lambda g, b, t: (b, g, t, 0, 0),
    )
    bias_block = (
      per_group,
      blocks.bias_depth,
      blocks.key_block,
      blocks.tile,
    )
    buffers = 1 if math.prod(bias_block) * 4 > _MAX_PREFETCHED_BYTES else 2
    self.bias = pl.BlockSpec(
      bias_block,
      lambda g, b, t: (g, 0, 0, 0),
      pipeline_mode=pl.Buffered(buffers),
    )

    tiles = (images, blocks.tiles_per_step, blocks.tile, LANES)
    self.tiles = pltpu.VMEM(tiles, q.dtype)
    self.key_rows = pltpu.VMEM((images, blocks.num_keys, LANES), q.dtype)
    self.key_columns = pltpu.VMEM((images, LANES, blocks.num_keys), q.dtype)
    # Added to in every tile of queries, so not rounded to q's dtype between.
    self.key_sums = pltpu.VMEM((images, LANES, blocks.num_keys), jnp.float32)


def _pin(interpret, *arrays):
  """Keeps operands in HBM, from where the kernel fetches its blocks.

  In a small program the compiler otherwise moves whole arrays to VMEM first,
  and the kernel copies them from there.
  """
  if interpret:
    return arrays
  return tuple(pltpu.with_memory_space_constraint(x, pltpu.HBM) for x in arrays)


def _in_hbm(like, interpret):
  """Returns what `_pin` does, for a result with the shape of an array."""
  if interpret:
    return jax.ShapeDtypeStruct(like.shape, like.dtype)
  return pltpu.HBM(like.shape, like.dtype)
