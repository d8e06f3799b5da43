"""Relative attention as a Pallas TPU kernel, forward and backward.

Nothing of size B*heads*N*N is ever in HBM. The bias block of a group of heads
stays in VMEM while the grid runs over the batch, and its gradient is summed
there. Under a sharded `jit` the kernel runs per shard: see `_per_shard`.

The bodies of the kernels are in `relative_attention_kernels.py`, the sizes of
their blocks in `relative_attention_blocks.py`.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec

from coatnet_jax.ops.batch_sharding import (
  HEADS_AXIS,
  find_batch_axes,
  list_free_axes,
)
from coatnet_jax.ops.relative_attention_blocks import (
  LANES,
  Blocks,
  choose_blocks,
)
from coatnet_jax.ops.relative_attention_kernels import (
  LOG2_E,
  backward_kernel,
  forward_kernel,
)
from coatnet_jax.ops.relative_attention_layout import (
  from_lanes,
  pack_bias,
  pack_statistics,
  to_lanes,
  unpack_statistics,
)

HEAD_DIMS = (32, 64, 128)
DTYPES = ('float32', 'bfloat16')

# A larger bias block is fetched once per group of heads and not prefetched.
_MAX_PREFETCHED_BYTES = 2**20
# What the compiler may use of VMEM; it takes what the blocks need.
_VMEM_LIMIT_BYTES = 100 * 2**20


def supports(q: jax.Array) -> bool:
  """Returns whether the kernel takes q: [B, N, heads, head_dim]."""
  return q.shape[-1] in HEAD_DIMS and q.dtype.name in DTYPES


def forward(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  bias_table: jax.Array | None,
  *,
  grid: tuple[int, int],
  scale: float,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Computes the attention and the statistics that `backward` needs.

  Args:
    q: [B, N, heads, head_dim], float32 or bfloat16.
    k: [B, N, heads, head_dim].
    v: [B, N, heads, head_dim].
    bias_table: [heads, 2H-1, 2W-1], or None for no bias.
    grid: (H, W), the numbers of rows and columns of tokens.
    scale: factor of q k^T.
    interpret: whether to run the kernel's program on any backend, slowly.

  Returns:
    The attention [B, N, heads, head_dim] in q's dtype, and the logarithm of
    the sum of the exponentials of each row of logits, [B, heads, N] float32.
  """
  local = functools.partial(
    _forward, grid=grid, scale=scale, interpret=interpret
  )
  bias_table = _table_or_zeros(bias_table, q, grid)
  shards = _Shards(q)
  return shards.map(
    local,
    in_specs=(shards.tokens, shards.tokens, shards.tokens, shards.table),
    out_specs=(shards.tokens, shards.statistics),
  )(q, k, v, bias_table)


def backward(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  bias_table: jax.Array | None,
  out: jax.Array,
  logsumexp: jax.Array,
  grad: jax.Array,
  *,
  grid: tuple[int, int],
  scale: float,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
  """Computes the gradients of q, k, v and the table.

  Args:
    q: [B, N, heads, head_dim], and the next as in `forward`.
    k: [B, N, heads, head_dim].
    v: [B, N, heads, head_dim].
    bias_table: [heads, 2H-1, 2W-1] or None.
    out: [B, N, heads, head_dim], what `forward` returned.
    logsumexp: [B, heads, N] float32, likewise.
    grad: [B, N, heads, head_dim], of the output.
    grid: (H, W), the numbers of rows and columns of tokens.
    scale: factor of q k^T.
    interpret: whether to run the kernel's program on any backend, slowly.

  Returns:
    Gradients with the shapes and dtypes of q, k, v and the table.
  """
  shards = _Shards(q)

  def local(q, k, v, table, out, logsumexp, grad):
    *gradients, dtable = _backward(
      q,
      k,
      v,
      table,
      out,
      logsumexp,
      grad,
      grid=grid,
      scale=scale,
      interpret=interpret,
    )
    if shards.batch_axes:
      dtable = jax.lax.psum(dtable, shards.batch_axes)
    return *gradients, dtable

  dq, dk, dv, dtable = shards.map(
    local,
    in_specs=(
      *[shards.tokens] * 3,
      shards.table,
      shards.tokens,
      shards.statistics,
      shards.tokens,
    ),
    out_specs=(*[shards.tokens] * 3, shards.table),
  )(q, k, v, _table_or_zeros(bias_table, q, grid), out, logsumexp, grad)
  if bias_table is None:
    return dq, dk, dv, None
  return dq, dk, dv, dtable.astype(bias_table.dtype)


class _Shards:
  """How the arrays of an attention are divided over the ambient mesh.

  The compiler cannot divide a kernel: it would gather the batch. So the kernel
  is mapped over the mesh of `jax.set_mesh`, the heads over its axis
  `HEADS_AXIS` and the batch over all others. An axis that does not divide them
  computes the same on all its devices. Axes that are manual already, because
  the caller is inside a `shard_map`, are left alone.
  """

  def __init__(self, q: jax.Array):
    batch, _, heads, _ = q.shape
    mesh = jax.sharding.get_abstract_mesh()
    self.axes = list_free_axes()
    self.batch_axes = find_batch_axes(batch)
    over_heads = (
      HEADS_AXIS
      if HEADS_AXIS in self.axes and heads % mesh.shape[HEADS_AXIS] == 0
      else None
    )
    over_batch = self.batch_axes or None
    self.tokens = PartitionSpec(over_batch, None, over_heads, None)
    self.statistics = PartitionSpec(over_batch, over_heads, None)
    self.table = PartitionSpec(over_heads, None, None)

  def map(self, function, *, in_specs, out_specs):
    if not self.axes:
      return function
    return jax.shard_map(
      function,
      in_specs=in_specs,
      out_specs=out_specs,
      axis_names=set(self.axes),
      check_vma=False,
    )


def _forward(q, k, v, table, *, grid, scale, interpret):
  """`forward` of one shard."""
  blocks = choose_blocks(grid, q.shape[-1])
  specs = _Specs(q, blocks)
  q_lanes = to_lanes(q, blocks, blocks.num_queries)
  k_lanes, v_lanes = (to_lanes(x, blocks, blocks.num_tokens) for x in (k, v))
  bias = pack_bias(table, blocks)
  out, logsumexp = pl.pallas_call(
    functools.partial(
      forward_kernel, blocks=blocks, scale=scale, interpret=interpret
    ),
    grid=specs.grid,
    in_specs=[specs.queries, specs.keys, specs.keys, specs.bias],
    out_specs=[specs.queries, specs.statistics],
    out_shape=[_in_hbm(q_lanes, interpret), specs.statistics_shape],
    scratch_shapes=[specs.tiles, specs.key_rows, specs.key_columns],
    compiler_params=_compiler_params(),
    interpret=interpret,
    name='relative_attention_forward',
  )(*_pin(interpret, q_lanes, k_lanes, v_lanes), bias)
  return (
    from_lanes(out, blocks, q.shape),
    unpack_statistics(logsumexp, blocks, q.shape[2]),
  )


def _backward(q, k, v, table, out, logsumexp, grad, *, grid, scale, interpret):
  """`backward` of one shard."""
  blocks = choose_blocks(grid, q.shape[-1])
  specs = _Specs(q, blocks)
  q_lanes, out_lanes, grad_lanes = (
    to_lanes(x, blocks, blocks.num_queries) for x in (q, out, grad)
  )
  k_lanes, v_lanes = (to_lanes(x, blocks, blocks.num_tokens) for x in (k, v))
  bias, fold = jax.vjp(functools.partial(pack_bias, blocks=blocks), table)
  dq, dk, dv, dbias = pl.pallas_call(
    functools.partial(
      backward_kernel, blocks=blocks, scale=scale, interpret=interpret
    ),
    grid=specs.grid,
    in_specs=[
      specs.queries,
      specs.keys,
      specs.keys,
      specs.bias,
      specs.queries,
      specs.statistics,
      specs.queries,
    ],
    out_specs=[specs.queries, specs.keys, specs.keys, specs.bias],
    out_shape=[
      _in_hbm(q_lanes, interpret),
      _in_hbm(k_lanes, interpret),
      _in_hbm(v_lanes, interpret),
      jax.ShapeDtypeStruct(bias.shape, jnp.float32),
    ],
    scratch_shapes=[
      specs.tiles,
      specs.tiles,
      specs.key_rows,
      specs.key_columns,
      specs.key_rows,
      specs.key_sums,
      specs.key_sums,
    ],
    compiler_params=_compiler_params(),
    interpret=interpret,
    name='relative_attention_backward',
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
  return dq, dk, dv, dtable


class _Specs:
  """What the kernels have of each array in VMEM at one step of their grid."""

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
    self.key_sums = pltpu.VMEM((images, LANES, blocks.num_keys), jnp.float32)


def _table_or_zeros(table, q, grid):
  if table is not None:
    return table
  height, width = grid
  return jnp.zeros((q.shape[2], 2 * height - 1, 2 * width - 1), jnp.float32)


def _compiler_params():
  return pltpu.CompilerParams(
    # Groups of heads are independent; the bias' gradient is summed over the
    # rest. Chips with two cores divide the groups between them.
    dimension_semantics=('parallel', 'arbitrary', 'arbitrary'),
    vmem_limit_bytes=_VMEM_LIMIT_BYTES,
  )


def _pin(interpret, *arrays):
  """Keeps operands in HBM, from where the kernel fetches its blocks.

  In a small program the compiler otherwise moves whole arrays to VMEM first,
  and the kernel copies them from there.
  """
  if interpret:
    return arrays
  return tuple(pltpu.with_memory_space_constraint(x, pltpu.HBM) for x in arrays)


def _in_hbm(like, interpret):
  if interpret:
    return jax.ShapeDtypeStruct(like.shape, like.dtype)
  return pltpu.HBM(like.shape, like.dtype)
