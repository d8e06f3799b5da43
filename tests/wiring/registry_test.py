"""Every key of configs/base.py has a test of its effect, and no other has."""

import importlib
import pathlib

import pytest

from tests.wiring import registry

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope='module')
def proven():
  for path in sorted(HERE.glob('*_test.py')):
    importlib.import_module(f'tests.wiring.{path.stem}')
  return registry.PROVEN


def test_every_key_has_a_test_of_its_effect(proven):
  missing = sorted(registry.KEYS - set(proven))
  assert not missing, (
    'Add a test with @proves to tests/wiring/ for each key: that changing it'
    f' changes what its comment promises, and nothing else: {missing}'
  )
  assert set(proven) <= registry.KEYS


def test_a_key_that_is_not_there_cannot_be_proved():
  with pytest.raises(ValueError, match=r'has no model\.colour'):
    registry.proves('model.colour')


def test_one_value_proves_nothing():
  from tests.wiring import runs

  @registry.proves('schedule.decay')
  def one_value():
    runs.create_config()

  @registry.proves('schedule.decay')
  def two_values():
    runs.create_config()
    runs.create_config({'schedule.decay': 'linear'})

  names = [f'{__name__}.{name}' for name in ('one_value', 'two_values')]
  try:
    with pytest.raises(AssertionError, match=r'schedule\.decay was'):
      one_value()
    two_values()
  finally:
    for name in names:
      registry.PROVEN['schedule.decay'].remove(name)
