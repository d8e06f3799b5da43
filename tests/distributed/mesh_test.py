import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, Mesh

from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.errors import UserError

ONE = {'replica': -1, 'data': -1, 'fsdp': 1, 'tensor': 1}


class Device:
  """What a mesh asks of a device."""

  def __init__(self, index, num_processes=1, num_slices=1, num_devices=8):
    self.id = index
    self.platform = self.device_kind = 'cpu'
    self.process_index = index * num_processes // num_devices
    self.slice_index = index * num_slices // num_devices


def create_devices(num_devices=8, **options):
  return [
    Device(index, num_devices=num_devices, **options)
    for index in range(num_devices)
  ]


def test_one_device():
  mesh = mesh_lib.create_mesh(**ONE)
  assert dict(mesh.shape) == {'replica': 1, 'data': 1, 'fsdp': 1, 'tensor': 1}


def test_axes_of_eight_devices():
  mesh = mesh_lib.create_mesh(
    **ONE | {'fsdp': 2, 'tensor': 2}, devices=create_devices()
  )
  assert dict(mesh.shape) == {'replica': 1, 'data': 2, 'fsdp': 2, 'tensor': 2}
  assert mesh_lib.count_batch_shards(mesh) == 4


def test_slices_are_replicas():
  devices = create_devices(num_processes=4, num_slices=2)
  mesh = mesh_lib.create_mesh(**ONE | {'fsdp': 2}, devices=devices)
  assert dict(mesh.shape) == {'replica': 2, 'data': 2, 'fsdp': 2, 'tensor': 1}
  assert [{d.slice_index for d in part.flat} for part in mesh.devices] == [
    {0},
    {1},
  ]


@pytest.mark.parametrize(
  ('sizes', 'message'),
  [
    ({'data': 3}, "'data': 3, .*; the product must be .* 8, with"),
    ({'fsdp': 3}, "'fsdp': 3, .*; the product must be .* 8, with"),
    ({'data': 1, 'fsdp': 2}, 'must be the number of devices, 8'),
    ({'fsdp': -1}, 'or one of them -1'),
    ({'data': 0}, 'data is 0; .* at least 1 .*, or -1'),
    ({'replica': 1}, 'replica is 1; it must be a multiple of the 2 slices'),
  ],
  ids=str,
)
def test_meshes_that_do_not_fit(sizes, message):
  with pytest.raises(UserError, match=message):
    mesh_lib.create_mesh(**ONE | sizes, devices=create_devices(num_slices=2))


@pytest.mark.parametrize(
  ('sizes', 'shards'),
  [
    ({}, [(0, 1), (2, 3), (4, 5), (6, 7)]),
    ({'fsdp': 8}, [(0, 1), (2, 3), (4, 5), (6, 7)]),
    ({'tensor': 2}, [(0,), (1,), (2,), (3,)]),
    # Both processes of a group read the same.
    ({'tensor': 4}, [(0,), (0,), (1,), (1,)]),
  ],
  ids=str,
)
def test_which_shards_a_process_reads(sizes, shards):
  mesh = mesh_lib.create_mesh(
    **ONE | sizes, devices=create_devices(num_processes=4)
  )
  assert [mesh_lib.find_process_shards(mesh, p) for p in range(4)] == shards


def test_shards_of_a_process_need_not_follow_each_other():
  # As on a slice of 4x4 chips with 2x2 of them in a host.
  hosts = np.kron(np.arange(4).reshape(2, 2), np.ones((2, 2), int)).ravel()
  devices = create_devices(16)
  for device, host in zip(devices, hosts.tolist()):
    device.process_index = host
  mesh = Mesh(np.array(devices).reshape(1, 16, 1, 1), mesh_lib.AXES)
  assert mesh_lib.find_process_shards(mesh, 1) == (2, 3, 6, 7)


@pytest.mark.parametrize(
  ('size', 'parts', 'message'),
  [
    (12, 1, 'multiple of 8, to be sharded over 8 device'),
    (24, 2, 'multiple of 16, to be sharded over 8 device.* the 2 parts'),
    (0, 1, 'positive multiple of 8'),
    (-8, 1, 'positive multiple of 8'),
  ],
)
def test_batches_must_divide_over_devices(size, parts, message):
  mesh = AbstractMesh((1, 2, 4, 2), mesh_lib.AXES)
  with pytest.raises(UserError, match=f'train is {size}.*{message}'):
    mesh_lib.check_batch_size('train', size, mesh, parts)


def test_a_mesh_is_ambient_while_a_function_is_traced():
  mesh = mesh_lib.create_mesh(**ONE)
  seen = []

  def double(x, *, scale):
    seen.append(jax.sharding.get_abstract_mesh())
    return scale * x

  jitted = mesh_lib.jit(
    functools.partial(double, scale=2), mesh, donate_argnums=0
  )
  assert jitted(jnp.ones(3)).tolist() == [2, 2, 2]
  jitted(jnp.ones(3))
  assert seen == [mesh.abstract_mesh]
  assert jax.sharding.get_abstract_mesh().empty
  assert 'jit_double' in jitted.lower(jnp.ones(3)).as_text()
