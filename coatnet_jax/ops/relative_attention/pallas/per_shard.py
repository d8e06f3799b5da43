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
from coatnet_jax.ops.relative_attention.definition import Operands, Residuals
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
  operands: Operands,
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
    `out` and `logsumexp` of `Residuals`, [B, N, heads, head_dim] and
    [B, heads, N].
  """
  shards = _Shards(operands.q)
  attend_shard = shards.map(
    functools.partial(
      call_forward_kernel, grid=grid, scale=scale, interpret=interpret
    ),
    in_specs=(shards.operands,),
    out_specs=(shards.tokens, shards.statistics),
  )
  return attend_shard(_ensure_table(operands, grid))


def differentiate_with_kernel(
  residuals: Residuals,
  grad: jax.Array,
  *,
  grid: tuple[int, int],
  scale: float,
  interpret: bool = False,
) -> Operands:
  """Computes the gradients of the operands, in their dtypes.

  Arguments are those of `differentiate_with_xla`, and:

  Args:
    interpret: whether to run the kernel's program on any backend, slowly.
  """
  operands, out, logsumexp = residuals
  shards = _Shards(operands.q)

  def differentiate_shard(*arrays):
    gradients = call_backward_kernel(
      *arrays, grid=grid, scale=scale, interpret=interpret
    )
    # Each device has the whole table, or its heads', and some of the images.
    if shards.batch_axes:
      dtable = jax.lax.psum(gradients.bias_table, shards.batch_axes)
      gradients = gradients._replace(bias_table=dtable)
    return gradients

  specs = Residuals(shards.operands, shards.tokens, shards.statistics)
  gradients = shards.map(
    differentiate_shard,
    in_specs=(specs, shards.tokens),
    out_specs=shards.operands,
  )(Residuals(_ensure_table(operands, grid), out, logsumexp), grad)
  if operands.bias_table is None:
    return gradients._replace(bias_table=None)
  dtable = gradients.bias_table.astype(operands.bias_table.dtype)
  return gradients._replace(bias_table=dtable)


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
    tokens = PartitionSpec(over_batch, None, over_heads, None)
    table = PartitionSpec(over_heads, None, None)
    self.tokens = tokens
    self.operands = Operands(tokens, tokens, tokens, table)
    self.statistics = PartitionSpec(over_batch, over_heads, None)

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


def _ensure_table(operands, grid):
  """Returns them with a table; one kernel does without a bias, too."""
  if operands.bias_table is not None:
    return operands
  (height, width), heads = grid, operands.q.shape[2]
  table = jnp.zeros((heads, 2 * height - 1, 2 * width - 1), jnp.float32)
  return operands._replace(bias_table=table)
