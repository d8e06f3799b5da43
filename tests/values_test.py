"""Values by their annotations alone; config_values_test.py has the config's."""

import math

import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.values import convert


@pytest.mark.parametrize(
  'value', [math.nan, math.inf, -math.inf, 1e39, 10**400]
)
def test_a_number_without_a_range_is_one_that_float32_holds(value):
  with pytest.raises(UserError, match=r'^x is .*; it must be a number'):
    convert('x', value, float)


@pytest.mark.parametrize('value', [0, -3.4e38, 5, 1e-30])
def test_any_other_number_is_taken(value):
  assert convert('x', value, float) == value
