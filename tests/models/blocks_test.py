"""Blocks against plain NumPy, written from the paper's equations."""

import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.models import layers
from tests.models.numpy_blocks import (
  apply_block,
  check_drop_rates,
  check_mbconv,
  check_transformer,
  create_transformer,
  random_variables,
)


@pytest.mark.parametrize(('stride', 'width'), [(1, 6), (2, 6), (2, 8)])
def test_mbconv_is_equation_5(stride, width):
  check_mbconv(width, stride)


def test_mbconv_with_layer_norm_is_table_8():
  check_mbconv(8, 2, norm='layer', norm_epsilon=1e-5)


def test_mbconv_without_squeeze_and_excitation():
  check_mbconv(8, 2, se_ratio=0.0)


@pytest.mark.parametrize(('stride', 'width'), [(1, 6), (2, 6), (2, 12)])
def test_transformer_is_equations_3_and_4(stride, width):
  check_transformer(width, stride)


def test_drop_rates_grow_linearly_in_mixed_stages():
  check_drop_rates()


def test_key_minus_query_is_the_flipped_table():
  x = np.random.default_rng(1).normal(size=(2, 2, 4, 6))
  block = create_transformer()
  variables = random_variables(block, x)
  attention = variables['params']['attention']
  expected = apply_block(block, variables, x)
  name = 'relative_position_bias_table'
  attention[name] = attention[name][:, ::-1, ::-1]
  flipped = create_transformer(relative_position='table_key_minus_query')
  np.testing.assert_allclose(
    apply_block(flipped, variables, x), expected, rtol=1e-5, atol=1e-6
  )
  assert np.abs(apply_block(block, variables, x) - expected).max() > 1e-3


def test_no_relative_position_is_a_table_of_equal_biases():
  x = np.random.default_rng(1).normal(size=(2, 2, 4, 6))
  block = create_transformer()
  variables = random_variables(block, x)
  table = variables['params']['attention'].pop('relative_position_bias_table')
  without = apply_block(
    create_transformer(relative_position='none'), variables, x
  )
  variables['params']['attention']['relative_position_bias_table'] = (
    np.full_like(table, 3)
  )
  np.testing.assert_allclose(
    apply_block(block, variables, x), without, rtol=1e-5, atol=1e-6
  )


def test_number_of_heads_may_be_given():
  block = create_transformer(width=6, num_heads=5)
  variables = random_variables(block, np.zeros((1, 2, 4, 6)))
  attention = variables['params']['attention']
  assert attention['qkv']['kernel'].shape == (6, 3, 5, 3)
  assert attention['out']['kernel'].shape == (15, 6)
  assert attention['relative_position_bias_table'].shape == (5, 3, 7)


@pytest.mark.parametrize('kind', ['max', 'avg', 'max_3x3'])
def test_pools(kind):
  x = np.random.default_rng(0).normal(size=(1, 4, 6, 2)) - 3
  overlapping = kind.endswith('3x3')
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
  expected = np.zeros((1, 2, 3, 2))
  for i, j in np.ndindex(2, 3):
    window = (
      padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
      if overlapping
      else x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
    )
    reduce = np.nanmax if kind.startswith('max') else np.nanmean
    expected[:, i, j] = reduce(window, axis=(1, 2))
  actual = layers.pool(jnp.asarray(x, jnp.float32), kind, 2)
  np.testing.assert_allclose(actual, expected, rtol=1e-5)
