"""The blocks in plain NumPy, from the paper's equations, to compare with."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import coatnet_jax
from coatnet_jax.models import mbconv, transformer
from coatnet_jax.models.layers import LayerMaker
from coatnet_jax.models.variants import BlockGroup, Stage
from tests.quick_models import apply_in_training

MAKER = LayerMaker(
  dtype=jnp.float32,
  attention='auto',
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


def random_variables(block, x):
  """Variables in float64, none of them zero or one."""
  variables = jax.eval_shape(lambda: block.init(jax.random.key(0), x, False))
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda leaf: rng.uniform(0.1, 0.6, leaf.shape) * rng.choice([1, -1]),
    variables,
  )
  for stats in variables.get('batch_stats', {}).values():
    stats['var'] = np.abs(stats['var'])
  return variables


def apply_block(block, variables, x):
  variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), variables)
  return np.asarray(block.apply(variables, jnp.asarray(x, jnp.float32), False))


def check_block(block, variables, x, expected):
  actual = apply_block(block, variables, x)
  assert np.isfinite(expected).all()
  scale = np.abs(expected).max()
  np.testing.assert_allclose(actual / scale, expected / scale, atol=2e-5)


def create_mbconv(width=6, stride=1, options=None):
  return mbconv.MBConvBlock(
    width=width,
    stride=stride,
    first=True,
    options=options or mbconv.MBConvOptions(),
    maker=MAKER,
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


def check_mbconv(width=6, stride=1, **options):
  options = mbconv.MBConvOptions(**options)
  x = np.random.default_rng(1).normal(size=(2, 8, 4, 6))
  block = create_mbconv(width, stride, options)
  variables = random_variables(block, x)
  expected = _expected_mbconv(variables, x, width, stride, options)
  check_block(block, variables, x, expected)


def create_transformer(width=6, stride=1, **options):
  return transformer.TransformerBlock(
    width=width,
    stride=stride,
    first=True,
    options=transformer.TransformerOptions(head_dim=3, **options),
    maker=MAKER,
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


def check_transformer(width=6, stride=1):
  # Not square: what mixes rows and columns up shows.
  x = np.random.default_rng(1).normal(size=(2, 4, 8, 6))
  block = create_transformer(width, stride)
  variables = random_variables(block, x)
  expected = _expected_transformer(variables, x, width, stride)
  check_block(block, variables, x, expected)


def check_drop_rates():
  """Rates grow by equal steps from 0, every block counted once."""
  model = coatnet_jax.create_model(
    'coatnet_6',
    transformer={'head_dim': 32},
    stages=(
      Stage((BlockGroup('mbconv', 2, 8),)),
      Stage((BlockGroup('mbconv', 2, 8),)),
      Stage((BlockGroup('mbconv', 1, 8), BlockGroup('transformer', 3, 32))),
      Stage((BlockGroup('transformer', 2, 32),)),
    ),
    stochastic_depth_rate=0.2,
  )
  rates = []

  def record(next_method, args, kwargs, context):
    is_block = isinstance(
      context.module, mbconv.MBConvBlock | transformer.TransformerBlock
    )
    if is_block and context.method_name == '__call__' and args[1]:
      rates.append(args[2].rate)
    return next_method(*args, **kwargs)

  def apply(images):
    variables = model.init(jax.random.key(0), images, train=False)
    return apply_in_training(model, variables, images, jax.random.key(1))

  with nn.intercept_methods(record):
    jax.eval_shape(apply, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
  # S1 to S4: 2, 2, 1 + 3 and 2 blocks.
  np.testing.assert_allclose(rates, 0.2 * np.arange(10) / 10, atol=1e-12)
