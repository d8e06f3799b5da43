"""Mistakes that other implementations of CoAtNet make, each put in here.

The checks of blocks_test.py must fail.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.models import (
  architecture,
  layers,
  mbconv,
  residual_block,
  transformer,
)
from coatnet_jax.ops.relative_attention.bias_table import expand_bias_table
from tests.models.numpy_blocks import (
  check_drop_rates,
  check_mbconv,
  check_transformer,
)


def _attention_with(scale=None, change_logits=None, expand=None):
  """`relative_attention` with one thing wrong."""

  def attention(q, k, v, table, *, grid, implementation):
    del implementation
    head_dim = q.shape[-1]
    logits = jnp.einsum('bqhd,bkhd->bhqk', q, k)
    logits *= head_dim**-0.5 if scale is None else scale(q)
    logits += (expand or expand_bias_table)(table, grid)
    return jnp.einsum('bhqk,bkhd->bqhd', jax.nn.softmax(logits), v)

  return attention


def _expand_with_width_as_row_length(table, grid):
  """Row offsets times W, where a row of the table has 2W-1 entries."""
  height, width = grid
  i, j = np.divmod(np.arange(height * width), width)
  rows = i[:, None] - i + height - 1
  columns = j[:, None] - j + width - 1
  flat = table.reshape(table.shape[0], -1)
  return flat[:, rows * width + columns]


def _expand_without_offsets(table, grid):
  """An index whose additions were dropped: all pairs read one entry."""
  size = grid[0] * grid[1]
  return jnp.broadcast_to(table[:, :1, :1], (table.shape[0], size, size))


def _expand_shared(table, grid):
  """One bias for all heads."""
  return expand_bias_table(jnp.broadcast_to(table[:1], table.shape), grid)


def _expand_by_columns(table, grid):
  """Tokens numbered column by column."""
  height, width = grid
  order = np.arange(height * width).reshape(height, width).T.ravel()
  return expand_bias_table(table, grid)[:, order][:, :, order]


@pytest.mark.parametrize(
  'attention',
  [
    pytest.param(_attention_with(lambda q: 1.0), id='no scale'),
    pytest.param(
      _attention_with(lambda q: q.shape[-1] ** 0.5), id='multiplied scale'
    ),
    pytest.param(
      _attention_with(lambda q: (q.shape[-1] * q.shape[-2]) ** -0.5),
      id='scale of all heads',
    ),
    pytest.param(
      _attention_with(expand=_expand_with_width_as_row_length), id='wrong index'
    ),
    pytest.param(
      _attention_with(expand=_expand_without_offsets), id='dropped index'
    ),
    pytest.param(_attention_with(expand=_expand_shared), id='shared bias'),
    pytest.param(_attention_with(expand=_expand_by_columns), id='token order'),
  ],
)
def test_a_mistake_in_the_attention_shows(attention, monkeypatch):
  monkeypatch.setattr(transformer, 'relative_attention', _attention_with())
  check_transformer(12, 2)
  monkeypatch.setattr(transformer, 'relative_attention', attention)
  with pytest.raises(AssertionError, match='Not equal to tolerance'):
    check_transformer(12, 2)


@pytest.mark.parametrize('change', ['normalised', 'pooled last'])
def test_a_mistake_in_the_shortcut_shows(change, monkeypatch):
  class Shortcut(residual_block.Shortcut):
    @nn.compact
    def __call__(self, x):
      project = self.maker.dense(self.width, name='project')
      if change == 'normalised':
        x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
        return project(layers.pool(x, self.options.shortcut_pool, self.stride))
      return layers.pool(project(x), self.options.shortcut_pool, self.stride)

  monkeypatch.setattr(residual_block, 'Shortcut', Shortcut)
  for check in (lambda: check_transformer(12, 2), lambda: check_mbconv(8, 2)):
    with pytest.raises(AssertionError, match='Not equal to tolerance'):
      check()


def test_pooling_before_the_norm_shows(monkeypatch):
  def late(x, kind, stride):
    return x

  class EarlyNorm(layers.LayerNorm):
    def __call__(self, x):
      stride = 2 if self.name == 'attention_norm' else 1
      return super().__call__(layers.pool(x, 'max', stride))

  monkeypatch.setattr(transformer, 'pool', late)
  monkeypatch.setattr(layers, 'LayerNorm', EarlyNorm)
  with pytest.raises(AssertionError, match='Not equal to tolerance'):
    check_transformer(12, 2)


def test_a_gate_of_what_is_not_squeezed_shows(monkeypatch):
  class SqueezeExcite(layers.SqueezeExcite):
    @nn.compact
    def __call__(self, x):
      # A gate for each position, of what was not averaged.
      gate = nn.silu(self.maker.dense(self.width, name='squeeze')(x))
      gate = self.maker.dense(x.shape[-1], name='excite')(gate)
      return x * nn.sigmoid(gate)

  monkeypatch.setattr(mbconv, 'SqueezeExcite', SqueezeExcite)
  with pytest.raises(AssertionError, match='Not equal to tolerance'):
    check_mbconv(8, 2)


def test_blocks_of_a_mixed_stage_counted_twice_show(monkeypatch):
  def num_blocks(self):
    groups = [g for stage in self.stages for g in stage.groups]
    twice = [g for stage in self.stages for g in stage.groups[1:]]
    return sum(group.num_blocks for group in groups + twice)

  monkeypatch.setattr(architecture.Variant, 'num_blocks', property(num_blocks))
  with pytest.raises(AssertionError, match='Not equal to tolerance'):
    check_drop_rates()
