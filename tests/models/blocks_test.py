"""Blocks against plain NumPy, written from the paper's equations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import coatnet_jax
from coatnet_jax.models import (
  architecture,
  coatnet,
  layers,
  mbconv,
  transformer,
)
from coatnet_jax.models.layers import Layers
from coatnet_jax.ops.relative_attention import expand_bias_table

LAYERS = Layers(
  dtype=jnp.float32,
  kernel_init=nn.initializers.normal(0.02),
  depthwise_init=nn.initializers.normal(0.02),
  batch_norm_momentum=0.9,
)


def _gelu(x):
  return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def _batch_norm(x, params, stats):
  x = (x - stats['mean']) / np.sqrt(stats['var'] + 1e-3)
  return x * params['scale'] + params['bias']


def _layer_norm(x, params, epsilon=1e-5):
  mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
  return (x - mean) / np.sqrt(var + epsilon) * params['scale'] + params['bias']


def _dense(x, params):
  kernel = params['kernel']
  return x @ kernel + params.get('bias', 0)


def _pool(x):
  batch, height, width, channels = x.shape
  windows = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
  return windows.max((2, 4))


def _random_variables(block, x):
  """Variables in float64, none of them zero or one."""
  variables = block.init(jax.random.key(0), x, False)
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda leaf: rng.uniform(0.1, 0.6, leaf.shape) * rng.choice([1, -1]),
    variables,
  )
  for stats in variables.get('batch_stats', {}).values():
    stats['var'] = np.abs(stats['var'])
  return variables


def _apply(block, variables, x):
  variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), variables)
  return np.asarray(block.apply(variables, jnp.asarray(x, jnp.float32), False))


def _check(block, variables, x, expected):
  actual = _apply(block, variables, x)
  assert np.isfinite(expected).all()
  scale = np.abs(expected).max()
  np.testing.assert_allclose(actual / scale, expected / scale, atol=2e-5)


def _mbconv(width=6, stride=1, options=None):
  return mbconv.MBConvBlock(
    width=width,
    stride=stride,
    first=True,
    stochastic_depth_rate=0.5,
    options=options or mbconv.MBConvOptions(),
    layers=LAYERS,
  )


def _expected_mbconv(variables, x, width, stride, options):
  """The block by the paper's Eq. 5, in NumPy."""
  params, stats = variables['params'], variables.get('batch_stats')

  def norm(x, name):
    if options.norm == 'layer':
      return _layer_norm(x, params[name], options.norm_epsilon)
    return _batch_norm(x, params[name], stats[name])

  shortcut = _pool(x) if stride == 2 else x
  if width != x.shape[-1]:
    shortcut = _dense(shortcut, params['shortcut']['project'])
  y = norm(x, 'pre_norm')
  y = _dense(y[:, ::stride, ::stride], params['expand'])
  assert y.shape[-1] == 4 * width
  y = _gelu(norm(y, 'expand_norm'))
  padded = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)))
  kernel = params['depthwise']['kernel']
  rows, columns = y.shape[1:3]
  y = sum(
    padded[:, i : i + rows, j : j + columns] * kernel[i, j, 0]
    for i in range(3)
    for j in range(3)
  )
  y = _gelu(norm(y, 'depthwise_norm'))
  if options.se_ratio:
    gate = _dense(y.mean((1, 2), keepdims=True), params['se']['squeeze'])
    assert gate.shape[-1] == width // 4
    gate = _dense(gate * _sigmoid(gate), params['se']['excite'])
    y = y * _sigmoid(gate)
  return shortcut + _dense(y, params['shrink'])


def _check_mbconv(width=6, stride=1, **options):
  options = mbconv.MBConvOptions(**options)
  x = np.random.default_rng(1).normal(size=(2, 8, 4, 6))
  block = _mbconv(width, stride, options)
  variables = _random_variables(block, x)
  expected = _expected_mbconv(variables, x, width, stride, options)
  _check(block, variables, x, expected)


def _transformer(width=6, stride=1, **options):
  return transformer.TransformerBlock(
    width=width,
    stride=stride,
    first=True,
    stochastic_depth_rate=0.5,
    options=transformer.TransformerOptions(head_dim=3, **options),
    layers=LAYERS,
  )


def _expected_transformer(variables, x, width, stride):
  """The block by the paper's Eq. 3 and 4, in NumPy."""
  params = variables['params']
  heads = width // 3
  shortcut = _pool(x) if stride == 2 else x
  if width != x.shape[-1]:
    shortcut = _dense(shortcut, params['shortcut']['project'])
  y = _layer_norm(x, params['attention_norm'])
  y = _pool(y) if stride == 2 else y
  batch, rows, columns, _ = y.shape
  qkv = params['attention']['qkv']
  table = params['attention']['relative_position_bias_table']
  assert table.shape == (heads, 2 * rows - 1, 2 * columns - 1)
  attended = np.zeros((batch, rows, columns, heads, 3))
  for b, h in np.ndindex(batch, heads):
    q, k, v = (
      y[b] @ qkv['kernel'][:, i, h] + qkv['bias'][i, h] for i in range(3)
    )
    for i, j in np.ndindex(rows, columns):
      bias = table[h, i + rows - 1 - np.arange(rows)]
      bias = bias[:, j + columns - 1 - np.arange(columns)]
      logits = (k @ q[i, j]) / np.sqrt(3) + bias
      weights = np.exp(logits - logits.max())
      weights /= weights.sum()
      attended[b, i, j, h] = np.einsum('xy,xyd->d', weights, v)
  y = attended.reshape(batch, rows, columns, width)
  y = shortcut + _dense(y, params['attention']['out'])
  hidden = _gelu(
    _dense(_layer_norm(y, params['ffn_norm']), params['ffn_expand'])
  )
  assert hidden.shape[-1] == 4 * width
  return y + _dense(hidden, params['ffn_shrink'])


def _check_transformer(width=6, stride=1):
  # Not square: what mixes rows and columns up shows.
  x = np.random.default_rng(1).normal(size=(2, 4, 8, 6))
  block = _transformer(width, stride)
  variables = _random_variables(block, x)
  expected = _expected_transformer(variables, x, width, stride)
  _check(block, variables, x, expected)


def _check_drop_rates():
  """Rates grow by equal steps from 0, every block counted once."""
  model = coatnet_jax.create_model('coatnet_6', stochastic_depth_rate=0.2)
  rates = []
  block = coatnet.CoAtNet.block

  def record(self, run, stride, first, rate, name):
    rates.append(rate)
    return block(self, run, stride, first, rate, name)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(coatnet.CoAtNet, 'block', record)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    jax.eval_shape(
      lambda x: model.init(jax.random.key(0), x, train=False), images
    )
  # S1 to S4: 2, 4, 8 + 42 and 2 blocks.
  np.testing.assert_allclose(rates, 0.2 * np.arange(58) / 58, atol=1e-12)


@pytest.mark.parametrize(('stride', 'width'), [(1, 6), (2, 6), (2, 8)])
def test_mbconv_is_equation_5(stride, width):
  _check_mbconv(width, stride)


def test_mbconv_with_layer_norm_is_table_8():
  _check_mbconv(8, 2, norm='layer', norm_epsilon=1e-5)


def test_mbconv_without_squeeze_and_excitation():
  _check_mbconv(8, 2, se_ratio=0.0)


@pytest.mark.parametrize(('stride', 'width'), [(1, 6), (2, 6), (2, 12)])
def test_transformer_is_equations_3_and_4(stride, width):
  _check_transformer(width, stride)


def test_drop_rates_grow_linearly_in_mixed_stages():
  _check_drop_rates()


def test_key_minus_query_is_the_flipped_table():
  x = np.random.default_rng(1).normal(size=(2, 2, 4, 6))
  block = _transformer()
  variables = _random_variables(block, x)
  attention = variables['params']['attention']
  expected = _apply(block, variables, x)
  name = 'relative_position_bias_table'
  attention[name] = attention[name][:, ::-1, ::-1]
  flipped = _transformer(relative_position='table_key_minus_query')
  np.testing.assert_allclose(
    _apply(flipped, variables, x), expected, rtol=1e-5, atol=1e-6
  )
  assert np.abs(_apply(block, variables, x) - expected).max() > 1e-3


def test_no_relative_position_is_a_table_of_equal_biases():
  x = np.random.default_rng(1).normal(size=(2, 2, 4, 6))
  block = _transformer()
  variables = _random_variables(block, x)
  table = variables['params']['attention'].pop('relative_position_bias_table')
  without = _apply(_transformer(relative_position='none'), variables, x)
  variables['params']['attention']['relative_position_bias_table'] = (
    np.full_like(table, 3)
  )
  np.testing.assert_allclose(
    _apply(block, variables, x), without, rtol=1e-5, atol=1e-6
  )


def test_number_of_heads_may_be_given():
  block = _transformer(width=6, num_heads=5)
  variables = _random_variables(block, np.zeros((1, 2, 4, 6)))
  attention = variables['params']['attention']
  assert attention['qkv']['kernel'].shape == (6, 3, 5, 3)
  assert attention['out']['kernel'].shape == (15, 6)
  assert attention['relative_position_bias_table'].shape == (5, 3, 7)


@pytest.mark.parametrize('kind', ['max', 'avg', 'max_3x3', 'avg_3x3'])
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


# Mistakes that other implementations of CoAtNet make, each put in here: the
# checks above must fail.


def _attention_with(scale=None, change_logits=None, expand=None):
  """`relative_attention` with one thing wrong."""

  def attention(q, k, v, table, *, grid):
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
  _check_transformer(12, 2)
  monkeypatch.setattr(transformer, 'relative_attention', attention)
  with pytest.raises(AssertionError, match='Not equal to tolerance'):
    _check_transformer(12, 2)


@pytest.mark.parametrize('change', ['normalised', 'pooled last'])
def test_a_mistake_in_the_shortcut_shows(change, monkeypatch):
  class Shortcut(layers.Shortcut):
    @nn.compact
    def __call__(self, x):
      project = self.layers.dense(self.width, name='project')
      if change == 'normalised':
        x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
        return project(layers.pool(x, self.pool, self.stride))
      return layers.pool(project(x), self.pool, self.stride)

  for module, check in (
    (transformer, lambda: _check_transformer(12, 2)),
    (mbconv, lambda: _check_mbconv(8, 2)),
  ):
    with monkeypatch.context() as patch:
      patch.setattr(module, 'Shortcut', Shortcut)
      with pytest.raises(AssertionError, match='Not equal to tolerance'):
        check()


def test_pooling_before_the_norm_shows(monkeypatch):
  def late(x, kind, stride):
    return x

  class EarlyNorm(nn.LayerNorm):
    def __call__(self, x):
      stride = 2 if self.name == 'attention_norm' else 1
      return super().__call__(layers.pool(x, 'max', stride))

  monkeypatch.setattr(transformer, 'pool', late)
  monkeypatch.setattr(layers.nn, 'LayerNorm', EarlyNorm)
  with pytest.raises(AssertionError, match='Not equal to tolerance'):
    _check_transformer(12, 2)


def test_a_gate_of_what_is_not_squeezed_shows(monkeypatch):
  class SqueezeExcite(layers.SqueezeExcite):
    @nn.compact
    def __call__(self, x):
      # A gate for each position, of what was not averaged.
      gate = nn.silu(self.layers.dense(self.width, name='squeeze')(x))
      gate = self.layers.dense(x.shape[-1], name='excite')(gate)
      return x * nn.sigmoid(gate)

  monkeypatch.setattr(mbconv, 'SqueezeExcite', SqueezeExcite)
  with pytest.raises(AssertionError, match='Not equal to tolerance'):
    _check_mbconv(8, 2)


def test_blocks_of_a_mixed_stage_counted_twice_show(monkeypatch):
  def num_blocks(self):
    runs = [run for stage in self.stages for run in stage.runs]
    twice = [run for stage in self.stages for run in stage.runs[1:]]
    return sum(run.num_blocks for run in runs + twice)

  monkeypatch.setattr(architecture.Variant, 'num_blocks', property(num_blocks))
  with pytest.raises(AssertionError, match='Not equal to tolerance'):
    _check_drop_rates()
