import functools
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.errors import UserError


def test_one_device():
  mesh = mesh_lib.create_mesh(data=-1, fsdp=1)
  assert dict(mesh.shape) == {'data': 1, 'fsdp': 1}


@pytest.mark.parametrize(
  ('data', 'fsdp', 'message'),
  [
    (3, 1, "'data': 3, 'fsdp': 1} does not fit the 1 device"),
    (-1, 2, "'fsdp': 2} does not fit the 1 device"),
    (-1, -1, 'at most one -1'),
    (0, 1, 'must be positive'),
  ],
)
def test_meshes_that_do_not_fit(data, fsdp, message):
  with pytest.raises(UserError, match=message):
    mesh_lib.create_mesh(data=data, fsdp=fsdp)


def test_fsdp_divides_the_largest_axis_of_large_arrays():
  mesh = AbstractMesh((2, 4), ('data', 'fsdp'))
  shapes = {
    'wide': (256, 1024),
    'tall': (1024, 256),
    'odd': (1023, 256),
    'indivisible': (1023, 257),
    'small': (64, 64),
    'scalar': (),
  }
  tree = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}
  shardings = mesh_lib.compute_state_shardings(tree, mesh)
  assert {name: s.spec for name, s in shardings.items()} == {
    'wide': PartitionSpec(None, 'fsdp'),
    'tall': PartitionSpec('fsdp'),
    'odd': PartitionSpec(None, 'fsdp'),
    'indivisible': PartitionSpec(),
    'small': PartitionSpec(),
    'scalar': PartitionSpec(),
  }


def test_without_fsdp_everything_is_replicated():
  mesh = AbstractMesh((8, 1), ('data', 'fsdp'))
  tree = [jax.ShapeDtypeStruct((1024, 1024), jnp.float32)]
  (sharding,) = mesh_lib.compute_state_shardings(tree, mesh)
  assert sharding.spec == PartitionSpec()


@pytest.mark.parametrize(
  ('size', 'parts', 'message'),
  [
    (12, 1, 'multiple of 8, to be divided over 8 device'),
    (24, 2, 'multiple of 16, to be divided over 8 device.* in 2 parts'),
    (0, 1, 'positive multiple of 8'),
    (-8, 1, 'positive multiple of 8'),
  ],
)
def test_batches_must_divide_over_devices(size, parts, message):
  with (
    mock.patch.object(jax, 'device_count', return_value=8),
    pytest.raises(UserError, match=f'train is {size}.*{message}'),
  ):
    mesh_lib.check_batch_size('train', size, parts)


def test_a_mesh_is_ambient_while_a_function_is_traced():
  mesh = mesh_lib.create_mesh(data=1, fsdp=1)
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
