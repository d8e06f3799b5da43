"""Relative attention as a Pallas TPU kernel, on each device's part of a mesh.

Nothing of size B*heads*N*N is ever in HBM. The bias block of a group of heads
stays in VMEM while the grid runs over the batch, and its gradient is summed
there. What is called on one device: `calls.py`.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from coatnet_jax.ops.batch_sharding import (
  HEADS_AXIS,
  find_batch_axes,
  list_free_axes,
)
from coatnet_jax.ops.relative_attention.pallas.calls import (
  call_backward_kernel,
  call_forward_kernel,
)

HEAD_DIMS = (32, 64, 128)
DTYPES = ('float32', 'bfloat16')


def kernel_takes(q: jax.Array) -> bool:
  """Returns whether there is a kernel for q: [B, N, heads, head_dim].

  >>> kernel_takes(jnp.zeros((1, 49, 2, 64), jnp.bfloat16))
  True
  >>> kernel_takes(jnp.zeros((1, 49, 2, 48), jnp.bfloat16))
  False
  """
  return q.shape[-1] in HEAD_DIMS and q.dtype.name in DTYPES


def attend_with_kernel(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  bias_table: jax.Array | None,
  *,
  grid: tuple[int, int],
  scale: float,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Computes attention, and what `differentiate_with_kernel` needs of it.

  Arguments are those of `attend_by_definition`, and:

  Args:
    interpret: whether to run the kernel's program on any backend, slowly.

  Returns:
    The attention [B, N, heads, head_dim] in q's dtype, and the natural
    logarithm of each softmax's denominator, [B, heads, N] float32.
  """
  shards = _Shards(q)
  attend_shard = shards.map(
    functools.partial(
      call_forward_kernel, grid=grid, scale=scale, interpret=interpret
    ),
    in_specs=(shards.tokens, shards.tokens, shards.tokens, shards.table),
    out_specs=(shards.tokens, shards.statistics),
  )
  return attend_shard(q, k, v, _table_or_zeros(bias_table, q, grid))


def differentiate_with_kernel(
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

  Arguments are those of `attend_by_definition`, and:

  Args:
    out: output of `attend_with_kernel`, [B, N, heads, head_dim].
    logsumexp: logarithms from `attend_with_kernel`, [B, heads, N] float32.
    grad: gradient of the output, [B, N, heads, head_dim] in q's dtype.
    interpret: whether to run the kernel's program on any backend, slowly.

  Returns:
    Gradients with the shapes and dtypes of q, k, v and the table.
  """
  shards = _Shards(q)

  def differentiate_shard(*arrays):
    *gradients, dtable = call_backward_kernel(
      *arrays, grid=grid, scale=scale, interpret=interpret
    )
    # Each device has the whole table, or its heads', and some of the images.
    if shards.batch_axes:
      dtable = jax.lax.psum(dtable, shards.batch_axes)
    return *gradients, dtable

  tokens, table = shards.tokens, shards.table
  dq, dk, dv, dtable = shards.map(
    differentiate_shard,
    in_specs=(
      *(tokens, tokens, tokens, table),
      *(tokens, shards.statistics, tokens),
    ),
    out_specs=(tokens, tokens, tokens, table),
  )(q, k, v, _table_or_zeros(bias_table, q, grid), out, logsumexp, grad)
  if bias_table is None:
    return dq, dk, dv, None
  return dq, dk, dv, dtable.astype(bias_table.dtype)


class _Shards:
  """How the arrays of an attention are sharded over the ambient mesh.

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
      # JAX does not know over which axes the results of a kernel vary.
      check_vma=False,
    )


def _table_or_zeros(table, q, grid):
  """Returns the table; one kernel does for attention without a bias, too."""
  if table is not None:
    return table
  height, width = grid
  return jnp.zeros((q.shape[2], 2 * height - 1, 2 * width - 1), jnp.float32)
