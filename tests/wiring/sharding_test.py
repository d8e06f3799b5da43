"""`config.sharding`: how devices are arranged, and what lies on each."""

import jax
import pytest

from coatnet_jax.distributed.state_sharding import compute_state_shardings
from coatnet_jax.errors import UserError
from tests.wiring import runs
from tests.wiring.registry import proves


class Device:
  """What a mesh asks of a device."""

  def __init__(self, index, num_slices=1):
    self.id = index
    self.platform = self.device_kind = 'cpu'
    self.process_index = 0
    self.slice_index = index * num_slices // 8


def _run(num_slices=1, **sharding):
  changes = {f'sharding.{axis}': size for axis, size in sharding.items()}
  devices = [Device(index, num_slices) for index in range(8)]
  return runs.create_run(
    {
      'model.name': runs.ATTENTION,
      'model.attention': 'reference',
      **changes,
    },
    devices=devices,
  )


def _rows(a_run):
  """Returns on how many of a batch's eight pictures each device works."""
  image = a_run.abstract_batch['image']
  return image.sharding.shard_shape(image.shape)[0]


def _part_of(a_run, name, shape):
  """Returns which part of a parameter lies on each device."""
  leaf = jax.ShapeDtypeStruct(shape, 'float32')
  (sharding,) = jax.tree.leaves(
    compute_state_shardings(
      {'params': {'s3_block_0': {name: leaf}}}, a_run.mesh
    )
  )
  return sharding.shard_shape(shape)


HIDDEN = ('ffn_expand/kernel', (128, 512))


@proves('sharding.data')
def test_data_divides_the_batch_alone():
  for data, replica in ((8, 1), (2, 4), (-1, 1)):
    a_run = _run(data=data, replica=replica)
    assert a_run.mesh.shape['data'] == (8 if data == -1 else data)
    assert _rows(a_run) == 1
    assert _part_of(a_run, *HIDDEN) == (128, 512)


@proves('sharding.fsdp')
def test_fsdp_divides_the_batch_and_parameters():
  for fsdp in (1, 2, 8):
    a_run = _run(fsdp=fsdp)
    assert a_run.mesh.shape['fsdp'] == fsdp
    assert _rows(a_run) == 1
    assert _part_of(a_run, *HIDDEN) == (128 // fsdp, 512)


@proves('sharding.tensor')
def test_tensor_divides_the_hidden_layer_and_not_the_batch():
  for tensor in (1, 2, 4):
    a_run = _run(tensor=tensor)
    assert a_run.mesh.shape['tensor'] == tensor
    assert _rows(a_run) == tensor
    assert _part_of(a_run, *HIDDEN) == (128, 512 // tensor)


@proves('sharding.replica')
def test_replicas_are_slices_or_parts_of_them():
  for replica, expected in ((-1, 2), (2, 2), (4, 4)):
    a_run = _run(num_slices=2, replica=replica)
    assert a_run.mesh.shape['replica'] == expected
    assert _rows(a_run) == 1
    for group in a_run.mesh.devices:
      assert len({device.slice_index for device in group.flat}) == 1
  with pytest.raises(UserError, match='multiple of the 2 slices'):
    _run(num_slices=2, replica=1)
