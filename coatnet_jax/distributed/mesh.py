"""The device mesh, and where the batches of a run lie on it.

The mesh has four axes. The batch is sharded over `replica` (slices of a pod,
between which the network is slow), `data` and `fsdp`. Parameters, optimizer
state and averages are sharded over `fsdp`, those of wide layers over `tensor`
too: `state_sharding.py`. Everything runs under `jit` with `NamedSharding`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from coatnet_jax.errors import UserError
from coatnet_jax.ops.batch_sharding import BATCH_AXES, HEADS_AXIS
from coatnet_jax.values import Range, checked

AXES = (*BATCH_AXES, HEADS_AXIS)
_Devices = Annotated[int, Range(at_least=1, at_most=2**20, also=(-1,))]


@checked
def create_mesh(
  *,
  replica: _Devices,
  data: _Devices,
  fsdp: _Devices,
  tensor: _Devices,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """Arranges devices as a (replica, data, fsdp, tensor) mesh.

  >>> mesh = create_mesh(
  ...   replica=1, data=-1, fsdp=1, tensor=1, devices=jax.devices()[:1]
  ... )
  >>> dict(mesh.shape), count_batch_shards(mesh)
  ({'replica': 1, 'data': 1, 'fsdp': 1, 'tensor': 1}, 1)

  Args:
    replica: groups of devices between which only gradients are exchanged; a
      multiple of the number of slices. -1 for that number.
    data: devices along the axis that shards the batch only; -1 for what the
      others leave.
    fsdp: devices along the axis that shards parameters too; or -1.
    tensor: devices along the axis that shards heads and hidden layers; or -1.
    devices: devices of the mesh; all of all processes if None.

  Raises:
    UserError: the sizes don't fit the number of devices, or of slices.
  """
  devices = list(jax.devices() if devices is None else devices)
  slices = len({getattr(device, 'slice_index', 0) for device in devices})
  sizes = {
    'replica': slices if replica == -1 else replica,
    'data': data,
    'fsdp': fsdp,
    'tensor': tensor,
  }
  sizes = _resolve_sizes(sizes, len(devices))
  if sizes['replica'] % slices:
    raise UserError(
      f'config.sharding.replica is {sizes["replica"]}; it must be a multiple of'
      f' the {slices} slices, or -1.'
    )
  if slices > 1:
    # Only `replica` goes across slices: the network between them carries the
    # gradients and nothing else.
    within = (sizes['replica'] // slices, *list(sizes.values())[1:])
    array = mesh_utils.create_hybrid_device_mesh(
      within, (slices, 1, 1, 1), devices
    )
  else:
    # Split: an axis of the mesh may be a part of an axis of the torus, 2 x 8 on
    # 4 x 4 chips, say.
    array = mesh_utils.create_device_mesh(
      tuple(sizes.values()), devices, allow_split_physical_axes=True
    )
  # Auto: the compiler propagates shardings from those of the arguments.
  return Mesh(array, AXES, axis_types=(jax.sharding.AxisType.Auto,) * 4)


def _resolve_sizes(sizes, num_devices):
  """Returns the sizes of the axes with a number for -1."""
  fixed = [size for size in sizes.values() if size != -1]
  if any(size < 1 for size in fixed) or len(fixed) < len(sizes) - 1:
    raise UserError(
      f'config.sharding is {sizes}; each size must be at least 1, or one of'
      ' them -1.'
    )
  left, rest = divmod(num_devices, math.prod(fixed))
  if rest or (len(fixed) == len(sizes) and left != 1):
    raise UserError(
      f'config.sharding is {sizes}; the product must be the number of devices,'
      f' {num_devices}, with -1 for what is left.'
    )
  return {axis: left if n == -1 else n for axis, n in sizes.items()}


def count_batch_shards(mesh: Mesh) -> int:
  """Returns the number of shards that a mesh makes of a batch."""
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def find_process_shards(
  mesh: Mesh, process_index: int | None = None
) -> tuple[int, ...]:
  """Returns which shards of every batch a process has to read, in order.

  They need not follow each other: a host's chips are a square of a slice, and
  the mesh goes along its rows. Devices of the `tensor` axis have one shard;
  where they belong to several processes, each reads it.

  Args:
    mesh: devices of the run, from `create_mesh`.
    process_index: index of the process; this one if None.
  """
  if process_index is None:
    process_index = jax.process_index()
  shards = mesh.devices.reshape(count_batch_shards(mesh), -1)
  return tuple(
    index
    for index, devices in enumerate(shards)
    if any(device.process_index == process_index for device in devices)
  )


def create_batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of arrays with a leading batch axis."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def create_replicated_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def jit(
  function: Callable[..., Any], mesh: Mesh, **options: Any
) -> jax.stages.Wrapped:
  """Returns `jax.jit` of a function whose arrays lie on a mesh.

  The compiler shards XLA's operations by itself; a kernel has to be told. So
  the mesh is the ambient one, as by `jax.set_mesh`, while the function is
  traced. It is not the ambient one elsewhere: arrays that are made outside of
  the function lie where they would without it.

  Args:
    function: function to be compiled.
    mesh: devices of the run, from `create_mesh`.
    **options: further options, those of `jax.jit`.
  """

  def on_mesh(*args, **kwargs):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return function(*args, **kwargs)

  # What the compiled program is called, in a profile.
  on_mesh.__name__ = getattr(function, 'func', function).__name__
  return jax.jit(on_mesh, **options)


def put_batch(
  batch: Mapping[str, np.ndarray], mesh: Mesh, names: Sequence[str]
) -> dict[str, jax.Array]:
  """Makes global device arrays of every process's share of a batch.

  Args:
    batch: arrays [b, ...], the rows of `find_process_shards`.
    mesh: devices of the run, from `create_mesh`.
    names: names of the arrays to put; the rest stays on the host.

  Returns:
    Arrays [B, ...], sharded over every axis of the mesh but `tensor`.
  """
  sharding = create_batch_sharding(mesh)
  shards, count = len(find_process_shards(mesh)), count_batch_shards(mesh)
  return {
    name: jax.make_array_from_process_local_data(
      sharding,
      batch[name],
      (len(batch[name]) * count // shards, *batch[name].shape[1:]),
    )
    for name in names
  }


def check_batch_size(
  name: str, global_batch_size: int, mesh: Mesh, parts: int = 1
) -> None:
  """Raises UserError unless every part of a batch can be sharded over a mesh.

  Args:
    name: config key, for the message.
    global_batch_size: number of examples in a batch.
    mesh: devices of the run, from `create_mesh`.
    parts: number of micro-batches that a batch is computed in.
  """
  shards = count_batch_shards(mesh)
  if global_batch_size < 1 or parts < 1 or global_batch_size % (shards * parts):
    in_parts = (
      f', in the {parts} parts of config.training.gradient_accumulation_steps'
      if parts > 1
      else ''
    )
    raise UserError(
      f'config.{name} is {global_batch_size}; it must be a positive multiple of'
      f' {shards * parts}, to be sharded over {shards} device(s){in_parts}.'
    )
