import importlib.metadata
import importlib.util

import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.tpu_compiler import topologies


@pytest.mark.parametrize(
  ('name', 'gigahertz'),
  [('v4', 1.05), ('v5e', 1.5), ('v5p', 1.75), ('v6e', 1.75)],
)
def test_peak_and_matrix_units_give_the_clock(name, gigahertz):
  clock_hz = topologies.get_chip(name).clock_hz
  assert clock_hz == pytest.approx(gigahertz * 1e9, rel=0.005)


def test_an_unknown_chip_is_answered_with_those_there_are():
  with pytest.raises(
    UserError, match="TPU is 'v3'; it must be one of v4, v5e, v5p"
  ):
    topologies.create_abstract_devices('v3')


@pytest.mark.parametrize(
  ('name', 'topology_name', 'num_devices', 'num_hosts'),
  [
    # Names of chips with two cores count cores.
    ('v4-8', 'v4:2x2x1', 4, 1),
    ('v4-32', 'v4:2x2x4', 16, 4),
    ('v4-128', 'v4:4x4x4', 64, 16),
    ('v4-4096', 'v4:8x16x16', 2048, 512),
    ('v5p-8', 'v5p:2x2x1', 4, 1),
    ('v5p-128', 'v5p:4x4x4', 64, 16),
    ('v5e-1', 'v5e:1x1', 1, 1),
    ('v5e-8', 'v5e:2x4', 8, 1),
    ('v5e-16', 'v5e:4x4', 16, 4),
    ('v5e-256', 'v5e:16x16', 256, 64),
    ('v6e-4', 'v6e:2x2', 4, 1),
    ('v6e-256', 'v6e:16x16', 256, 64),
  ],
)
def test_slices_by_the_names_they_are_booked_by(
  name, topology_name, num_devices, num_hosts
):
  found = topologies.get_slice(name)
  assert found.name == name
  assert found.topology_name == topology_name
  assert (found.num_devices, found.num_hosts) == (num_devices, num_hosts)


@pytest.mark.parametrize(
  ('name', 'wraps'),
  [
    ('v4-64', (False,) * 3),
    ('v5p-128', (True,) * 3),
    ('v5e-64', (False,) * 3),
    ('v5e-128', (False, True, False)),
    ('v6e-256', (True, True, False)),
  ],
)
def test_whole_cubes_and_rows_of_sixteen_are_rings(name, wraps):
  assert topologies.get_slice(name).wraps == wraps


def test_an_unknown_slice_is_answered_with_those_there_are():
  with pytest.raises(UserError) as error:
    topologies.create_abstract_devices('v5e-12')
  assert "The TPU slice is 'v5e-12'; it must be one of v5e-" in str(error.value)
  for name, tpu_slice in topologies.SLICES.items():
    assert tpu_slice.chip_name != 'v5e' or name in str(error.value)
  with pytest.raises(UserError, match='--slices is 0; it must'):
    topologies.create_abstract_devices('v5e-16', num_slices=0)


def test_without_libtpu_the_command_that_installs_it_is_named(monkeypatch):
  def no_version(name):
    raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  monkeypatch.setattr(importlib.metadata, 'version', no_version)
  message = 'pip install -r requirements-tpu-compiler.txt'
  with pytest.raises(UserError, match=message):
    topologies.start_compiler.__wrapped__()
  with pytest.raises(UserError, match=message):
    topologies.describe_compiler()
