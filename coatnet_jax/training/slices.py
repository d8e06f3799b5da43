"""One exchange of gradients between the slices of a pod.

Left to itself, a TPU's compiler adds up every gradient over all chips as soon
as it is computed: within a slice, then between slices. What is added up in this
way is no longer computed by the pass that makes its values, and the step of
CoAtNet-0 takes 1.6 times as long (docs/pods.md). Here each device computes the
gradients of its own images, and all gradients are exchanged together at the
end.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec

from coatnet_jax.models.image_model import ImageModel
from coatnet_jax.ops.batch_sharding import (
  BATCH_AXES,
  SLICES_AXIS,
  WITHIN_SLICE,
  average_over_devices,
)
from coatnet_jax.training.accumulation import merge_statistics

# (params, batch_stats, batch) -> (gradients, new batch_stats, measures)
BatchGradientFn = Callable[[Any, Any, Any], tuple[Any, Any, Any]]


def exchange_once(
  gradient_fn: BatchGradientFn, model: ImageModel, part_size: int
) -> BatchGradientFn:
  """Returns a function that computes the same, device by device.

  Its results are those of `gradient_fn`, but for rounding. It is `gradient_fn`
  itself on one slice, where parameters are sharded, where a group of BatchNorm
  lies on several devices, and where the model's devices cannot compute alone.

  Args:
    gradient_fn: function of parameters, running statistics and a batch of
      arrays [B, ...]. It returns gradients and measures, which are means over
      the batch, and new running statistics between them.
    model: network that the gradients are of.
    part_size: number of examples, on all devices, that are computed at a time.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if not _is_worth_it(mesh, model.images_per_group, part_size):
    return gradient_fn

  def compute(params, batch_stats, batch):
    # MixUp's images of another slice are there before a pass begins with them.
    batch = jax.lax.optimization_barrier(batch)
    grads, stats, measures = gradient_fn(params, batch_stats, batch)
    if model.images_per_group:  # Otherwise they are the same everywhere.
      for axes in (WITHIN_SLICE, SLICES_AXIS):
        every = jax.lax.all_gather(stats, axes)
        stats = merge_statistics(every, model.batch_norm_momentum)
    values, restore = ravel_pytree((grads, measures))
    grads, measures = restore(average_over_devices(values))
    return grads, stats, measures

  return jax.shard_map(
    compute,
    mesh=mesh,
    in_specs=(PartitionSpec(), PartitionSpec(), PartitionSpec(BATCH_AXES)),
    out_specs=PartitionSpec(),
    check_vma=False,
  )


def _is_worth_it(
  mesh: jax.sharding.AbstractMesh, group_size: int | None, part_size: int
) -> bool:
  if group_size is None or mesh.empty or mesh.shape[SLICES_AXIS] == 1:
    return False
  shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
  is_whole = mesh.shape['fsdp'] == mesh.shape['tensor'] == 1
  return is_whole and not (group_size and part_size // shards % group_size)
