"""Which axes of the ambient mesh shard a batch, and activations held to it.

A mesh is ambient where `jax.set_mesh` or `distributed.mesh.jit` say so.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

# The mesh axis of the slices of a pod. It is outermost, because its neighbours
# are the ones between which the network may be slow.
SLICES_AXIS = 'replica'
WITHIN_SLICE = ('data', 'fsdp')
# The axes that shard the batch, and the one that shards the heads.
BATCH_AXES = (SLICES_AXIS, *WITHIN_SLICE)
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


def has_own_images() -> bool:
  """Returns whether the caller is run by each device for its own images.

  That is inside of `training.slices.exchange_once`.
  """
  names = set(jax.sharding.get_abstract_mesh().axis_names)
  return names - set(list_free_axes()) >= set(BATCH_AXES)


def average_over_devices(x: jax.Array) -> jax.Array:
  """Returns the mean over all devices, where each has its own images.

  Each device sends to the other slices only its part of what its slice has
  added up. A TPU's compiler would split the array by itself, but then it no
  longer computes the array in the pass over the images that it comes from; nor
  does it without the barriers.

  Args:
    x: array of any shape.
  """
  chips = jax.lax.axis_size(WITHIN_SLICE)
  values = jnp.pad(x.reshape(-1), (0, -x.size % chips))
  part = jax.lax.psum_scatter(values, WITHIN_SLICE, tiled=True)
  part = jax.lax.optimization_barrier(part)
  part = jax.lax.psum(part, SLICES_AXIS)
  part = jax.lax.optimization_barrier(part)
  total = jax.lax.all_gather(part, WITHIN_SLICE, tiled=True)
  total = total[: x.size].reshape(x.shape)
  return total / jax.lax.axis_size(BATCH_AXES)


def draw_for_batch(
  draw: Callable[[int], jax.Array], batch_size: int
) -> jax.Array:
  """Returns what is drawn for the images at hand.

  It is the same however a batch is sharded.

  Args:
    draw: function of a number of images, B, to an array [B, ...].
    batch_size: number of images at hand.
  """
  if not has_own_images():
    return draw(batch_size)
  drawn = draw(batch_size * jax.lax.axis_size(BATCH_AXES))
  start = batch_size * jax.lax.axis_index(BATCH_AXES)
  return jax.lax.dynamic_slice_in_dim(drawn, start, batch_size)
