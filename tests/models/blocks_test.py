"""Blocks against plain NumPy, written from the paper's equations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.models.layers import Layers
from coatnet_jax.models.mbconv import MBConvBlock, MBConvOptions
from coatnet_jax.models.transformer import TransformerBlock, TransformerOptions

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


def _layer_norm(x, params):
  mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
  return (x - mean) / np.sqrt(var + 1e-5) * params['scale'] + params['bias']


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
  return jax.tree.map(
    lambda leaf: rng.uniform(0.1, 0.6, leaf.shape) * rng.choice([1, -1]),
    variables,
  )


def _check(block, variables, x, expected):
  variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), variables)
  actual = block.apply(variables, jnp.asarray(x, jnp.float32), False)
  scale = np.abs(expected).max()
  np.testing.assert_allclose(actual / scale, expected / scale, atol=2e-5)


@pytest.mark.parametrize(('stride', 'width'), [(1, 6), (2, 6), (2, 8)])
def test_mbconv_is_equation_5(stride, width):
  x = np.random.default_rng(1).normal(size=(2, 8, 4, 6))
  block = MBConvBlock(
    width=width,
    stride=stride,
    first=True,
    stochastic_depth_rate=0.5,
    options=MBConvOptions(),
    layers=LAYERS,
  )
  variables = _random_variables(block, x)
  for stats in variables['batch_stats'].values():
    stats['var'] = np.abs(stats['var'])
  params, stats = variables['params'], variables['batch_stats']

  shortcut = _pool(x) if stride == 2 else x
  if width != 6:
    shortcut = _dense(shortcut, params['shortcut']['project'])
  y = _batch_norm(x, params['pre_norm'], stats['pre_norm'])
  y = _dense(y[:, ::stride, ::stride], params['expand'])
  assert y.shape[-1] == 4 * width
  y = _gelu(_batch_norm(y, params['expand_norm'], stats['expand_norm']))
  padded = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)))
  kernel = params['depthwise']['kernel']
  rows, columns = y.shape[1:3]
  y = sum(
    padded[:, i : i + rows, j : j + columns] * kernel[i, j, 0]
    for i in range(3)
    for j in range(3)
  )
  y = _gelu(_batch_norm(y, params['depthwise_norm'], stats['depthwise_norm']))
  gate = _dense(y.mean((1, 2), keepdims=True), params['se']['squeeze'])
  assert gate.shape[-1] == width // 4
  gate = _dense(gate * _sigmoid(gate), params['se']['excite'])
  y = _dense(y * _sigmoid(gate), params['shrink'])
  _check(block, variables, x, shortcut + y)


@pytest.mark.parametrize(('stride', 'width'), [(1, 6), (2, 6), (2, 12)])
def test_transformer_is_equations_3_and_4(stride, width):
  x = np.random.default_rng(1).normal(size=(2, 4, 8, 6))
  block = TransformerBlock(
    width=width,
    stride=stride,
    first=True,
    stochastic_depth_rate=0.5,
    options=TransformerOptions(head_dim=3),
    layers=LAYERS,
  )
  variables = _random_variables(block, x)
  params = variables['params']
  heads = width // 3

  shortcut = _pool(x) if stride == 2 else x
  if width != 6:
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
  _check(block, variables, x, y + _dense(hidden, params['ffn_shrink']))
