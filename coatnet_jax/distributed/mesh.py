"""The device mesh, and where the arrays of a run lie on it.

Two axes: the batch is divided over both, parameters (with optimizer state and
averages) over `fsdp` alone. Everything runs under `jit` with `NamedSharding`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from coatnet_jax.errors import UserError

# Smaller arrays are not worth a collective of their own.
MIN_SHARDED_SIZE = 2**14


def create_mesh(*, data: int, fsdp: int) -> Mesh:
  """Arranges all devices of all processes as a (data, fsdp) mesh.

  Args:
    data: devices along the axis that divides the batch only; -1 for what the
      other axis leaves.
    fsdp: devices along the axis that divides parameters too; or -1.

  Raises:
    UserError: the sizes don't fit the number of devices.
  """
  devices = jax.device_count()
  sizes = {'data': data, 'fsdp': fsdp}
  fixed = [size for size in sizes.values() if size != -1]
  if any(size < 1 for size in fixed) or not fixed:
    raise UserError(
      f'sharding sizes must be positive, and at most one -1: {sizes}.'
    )
  taken = int(np.prod(fixed))
  left, rest = divmod(devices, taken)
  if rest or (len(fixed) == 2 and left != 1):
    raise UserError(
      f'A mesh of {sizes} does not fit the {devices} devices there are.'
    )
  sizes = {axis: left if n == -1 else n for axis, n in sizes.items()}
  # Auto: the compiler propagates shardings from those of the arguments.
  return jax.make_mesh(
    tuple(sizes.values()),
    tuple(sizes),
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
  )


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of arrays with a leading batch axis."""
  return NamedSharding(mesh, PartitionSpec(('data', 'fsdp')))


def replicated_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def jit(
  function: Callable[..., Any], mesh: Mesh, **options: Any
) -> jax.stages.Wrapped:
  """Returns `jax.jit` of a function whose arrays lie on a mesh.

  The compiler divides XLA's operations over the mesh by itself; a kernel has to
  be told. So the mesh is the ambient one while the function is traced, as
  `jax.set_mesh` has it, and nowhere else: what is around a call, and where the
  arrays made there are placed, does not change.

  Args:
    function: to be compiled.
    mesh: from `create_mesh`.
    **options: of `jax.jit`.
  """

  def on_mesh(*args, **kwargs):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return function(*args, **kwargs)

  # What the compiled program is called, in a profile.
  on_mesh.__name__ = getattr(function, 'func', function).__name__
  return jax.jit(on_mesh, **options)


def compute_state_shardings(abstract_state: Any, mesh: Mesh) -> Any:
  """Returns the sharding of every array of a state.

  Divides the largest axis that `fsdp` divides, of arrays large enough;
  everything else is replicated.

  Args:
    abstract_state: a tree of arrays or `jax.ShapeDtypeStruct`.
    mesh: from `create_mesh`.

  Returns:
    The same tree, of `NamedSharding`.
  """
  fsdp = mesh.shape['fsdp']

  def sharding(leaf):
    axes = [i for i, n in enumerate(leaf.shape) if n % fsdp == 0]
    if fsdp == 1 or not axes or leaf.size < MIN_SHARDED_SIZE:
      return replicated_sharding(mesh)
    axis = max(axes, key=lambda i: leaf.shape[i])
    spec = [None] * axis + ['fsdp']
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree.map(sharding, abstract_state)


def put_batch(
  batch: Mapping[str, np.ndarray], mesh: Mesh, names: Sequence[str]
) -> dict[str, jax.Array]:
  """Makes global device arrays of every process's share of a batch.

  Args:
    batch: arrays [b, ...], this process's rows.
    mesh: from `create_mesh`.
    names: of the arrays to put; the rest stays on the host.

  Returns:
    Arrays [B, ...], divided over all devices.
  """
  sharding = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, batch[name])
    for name in names
  }


def check_batch_size(name: str, global_batch_size: int, parts: int = 1) -> None:
  """Raises UserError unless every part of a batch divides over the devices.

  Args:
    name: the config key, for the message.
    global_batch_size: in examples.
    parts: micro-batches the batch is computed in.
  """
  devices = jax.device_count()
  if (
    global_batch_size < 1 or parts < 1 or global_batch_size % (devices * parts)
  ):
    in_parts = f' in {parts} parts' if parts > 1 else ''
    raise UserError(
      f'{name} is {global_batch_size}; it must be a positive multiple of'
      f' {devices * parts}, to be divided over {devices} device(s){in_parts}.'
    )
