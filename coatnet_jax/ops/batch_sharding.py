"""Which axes of the ambient mesh shard a batch, and activations held to it.

A mesh is ambient where `jax.set_mesh` or `distributed.mesh.jit` say so.
"""

import jax
from jax.sharding import AxisType, PartitionSpec

# The mesh axis that shards the heads; every other one shards the batch.
HEADS_AXIS = 'tensor'


def list_free_axes() -> list[str]:
  """Returns the axes of the ambient mesh that the compiler is to shard over.

  Those that are manual already, because the caller is inside a `shard_map`, are
  not among them; without a mesh there are none.
  """
  mesh = jax.sharding.get_abstract_mesh()
  return [
    name
    for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
    if kind != AxisType.Manual
  ]


def find_batch_axes(batch_size: int) -> tuple[str, ...]:
  """Returns the axes of the ambient mesh that shard a batch.

  Args:
    batch_size: number of examples on all devices; an axis that does not divide
      it is left out.
  """
  mesh = jax.sharding.get_abstract_mesh()
  axes, shards = [], 1
  for name in list_free_axes():
    if name != HEADS_AXIS and batch_size % (shards * mesh.shape[name]) == 0:
      axes.append(name)
      shards *= mesh.shape[name]
  return tuple(axes)


def shard_batch(x: jax.Array) -> jax.Array:
  """Returns activations that are sharded by images, and by nothing else.

  Left to itself the compiler may shard a layer's channels over `fsdp`, as its
  parameters are, and exchange activations instead of gathering the parameters.
  The same holds for the gradients that come back through it.

  Args:
    x: activations, [B, ...], which are returned as they are without a mesh.
  """
  axes = find_batch_axes(x.shape[0])
  if not axes:  # No mesh, or one that does not divide the batch.
    return x
  return jax.lax.with_sharding_constraint(x, PartitionSpec(axes))
