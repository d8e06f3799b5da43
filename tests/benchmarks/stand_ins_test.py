"""What stands in for a package that is not there."""

import sys

import pytest

from benchmarks import stand_ins


@pytest.fixture(name='meta_path')
def fixture_meta_path(monkeypatch):
  """Leaves no stand-in for other tests."""
  monkeypatch.setattr(sys, 'meta_path', sys.meta_path[:])
  before = set(sys.modules)
  yield
  for name in set(sys.modules) - before:
    del sys.modules[name]


@pytest.mark.usefixtures('meta_path')
def test_what_is_missing_has_every_name_and_what_is_there_stays():
  assert stand_ins.install('numpy', 'no_such_package') == ('no_such_package',)
  import no_such_package.inside
  import numpy as np
  from no_such_package.inside import AnyName

  class Mine(AnyName.Inner):
    """A class may inherit from a name."""

  assert Mine.anything
  assert no_such_package.inside
  assert np.ones(2).sum() == 2
  with pytest.raises(ModuleNotFoundError):
    import another_such_package  # noqa: F401
