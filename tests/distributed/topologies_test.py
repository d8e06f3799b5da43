import importlib.metadata
import importlib.util

import pytest

from coatnet_jax.distributed import topologies
from coatnet_jax.errors import UserError


@pytest.mark.parametrize(
  ('name', 'gigahertz'),
  [('v4', 1.05), ('v5e', 1.5), ('v5p', 1.75), ('v6e', 1.75)],
)
def test_peak_and_matrix_units_give_the_clock(name, gigahertz):
  clock_hz = topologies.get_chip(name).clock_hz
  assert clock_hz == pytest.approx(gigahertz * 1e9, rel=0.005)


def test_an_unknown_chip_is_answered_with_those_there_are():
  with pytest.raises(UserError, match="no TPU 'v3'; there are v4, v5e, v5p"):
    topologies.create_abstract_devices('v3')


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
