"""What stays in float32 while a model computes in bfloat16, shown on values.

bfloat16 has eight bits of a number: 1 and 1 + 1/128 are neighbours, and a sum
of ones ends at 256. Each test has values of which that would show.
"""

import dataclasses
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.models.cnn_stem_vit import EncoderBlock
from coatnet_jax.models.coatnet import CoAtNet
from coatnet_jax.models.factory import create_model
from coatnet_jax.models.layers import LayerMaker, SqueezeExcite
from coatnet_jax.ops.relative_attention import relative_attention
from coatnet_jax.training.losses import LossOptions, compute_loss

# Neighbours; a quarter of the values is the larger one, so that the mean and
# what is left of the values without it are no numbers of bfloat16's.
LOW, HIGH = 1.0, 1 + 1 / 128
MEAN, DEVIATION = 0.75 * LOW + 0.25 * HIGH, 3**0.5 / 4 / 128


@pytest.fixture
def maker():
  return LayerMaker(
    dtype=jnp.bfloat16,
    attention='auto',
    kernel_init=nn.initializers.ones,
    depthwise_init=nn.initializers.ones,
    batch_norm_momentum=0.0,
  )


def neighbours(shape, axis):
  """Returns bfloat16 of LOW, LOW, LOW, HIGH and so on along an axis."""
  pattern = np.where(np.arange(shape[axis]) % 4 < 3, LOW, HIGH)
  pattern = pattern.reshape([-1 if i == axis else 1 for i in range(len(shape))])
  return jnp.asarray(np.broadcast_to(pattern, shape), jnp.bfloat16)


@pytest.mark.parametrize('group_size', [0, 2])
def test_batch_norms_statistics(group_size, maker):
  x = neighbours((4, 16, 16, 3), axis=1)
  maker = LayerMaker(**{**vars(maker), 'batch_norm_group_size': group_size})
  norm = maker.norm('batch', 1e-12, train=True, name='norm')
  variables = norm.init(jax.random.key(0), x)
  y, updates = norm.apply(variables, x, mutable=['batch_stats'])
  stats = updates['batch_stats']
  assert y.dtype == jnp.bfloat16
  assert stats['mean'].dtype == stats['var'].dtype == jnp.float32
  np.testing.assert_allclose(stats['mean'], MEAN, rtol=1e-6)
  np.testing.assert_allclose(stats['var'], DEVIATION**2, rtol=1e-3)
  expected = (np.asarray(x, np.float64) - MEAN) / DEVIATION
  np.testing.assert_allclose(np.float32(y), expected, rtol=0.01)


def test_batch_norms_running_statistics_in_evaluation(maker):
  x = neighbours((1, 4, 4, 3), axis=1)
  norm = maker.norm('batch', 1e-12, train=False, name='norm')
  variables = norm.init(jax.random.key(0), x)
  variables['batch_stats'] = {
    'mean': jnp.full(3, MEAN),
    'var': jnp.full(3, DEVIATION**2),
  }
  expected = (np.asarray(x, np.float64) - MEAN) / DEVIATION
  np.testing.assert_allclose(
    np.float32(norm.apply(variables, x)), expected, rtol=0.01
  )


def test_layer_norms_statistics(maker):
  x = neighbours((2, 3, 3, 256), axis=3)
  y = maker.norm('layer', 1e-12, train=True, name='norm').init_with_output(
    jax.random.key(0), x
  )[0]
  assert y.dtype == jnp.bfloat16
  expected = (np.asarray(x, np.float64) - MEAN) / DEVIATION
  np.testing.assert_allclose(np.float32(y), expected, rtol=0.01)


@pytest.mark.parametrize('kind', ['layer', 'batch'])
@pytest.mark.parametrize('mean', [100.0, -300.0, 1e4])
def test_norms_survive_a_large_mean(kind, mean):
  """To bfloat16's digits at least, of which the input has more."""
  x = mean + np.random.default_rng(0).normal(size=(16, 4, 4, 64))
  x = x.astype(np.float32)
  maker = LayerMaker(
    dtype=jnp.float32,
    attention='auto',
    kernel_init=nn.initializers.ones,
    depthwise_init=nn.initializers.ones,
    batch_norm_momentum=0.0,
  )
  y = maker.norm(kind, 1e-12, train=True, name='norm').init_with_output(
    jax.random.key(0), x
  )[0]
  axes = -1 if kind == 'layer' else (0, 1, 2)
  x = x.astype(np.float64)
  expected = x - x.mean(axes, keepdims=True)
  expected /= x.std(axes, keepdims=True)
  np.testing.assert_allclose(y, expected, atol=0.01)


def test_the_mean_that_squeezes(maker):
  """Of 1,024 values, which a sum of bfloat16s does not reach."""
  x = jnp.ones((1, 32, 32, 8), jnp.bfloat16)
  module = SqueezeExcite(width=1, activation='relu', maker=maker)
  variables = module.init(jax.random.key(0), x)
  variables['params']['squeeze']['kernel'] = jnp.full((8, 1), 0.125)
  y = module.apply(variables, x)
  np.testing.assert_allclose(np.float32(y), nn.sigmoid(1.0), rtol=0.005)


class _Head(CoAtNet):
  """A CoAtNet's head, of a map."""

  @nn.compact
  def __call__(self, x):
    return self.apply_head(x, False)


def create_head(name, num_classes):
  whole = create_model(name, num_classes=num_classes, dtype='bfloat16')
  settings = {
    field: value
    for field, value in vars(whole).items()
    if field in CoAtNet.__dataclass_fields__ and field not in ('parent', 'name')
  }
  return _Head(**settings)


def test_the_pooled_features():
  x = neighbours((2, 8, 8, 5), axis=1)
  y = create_head('coatnet_0', 0).apply({}, x)
  assert y.dtype == jnp.float32
  np.testing.assert_allclose(y, MEAN, rtol=1e-6)


@pytest.mark.parametrize('name', ['coatnet_mini', 'coatnet_0_rw_224'])
def test_the_pooled_features_that_become_logits(name):
  """Channels whose means differ by less than bfloat16's neighbours."""
  rows, channels = 16, 8
  # Channel c is HIGH in c + 4 of 16 rows; positions differ within a channel.
  is_high = np.arange(rows)[:, None] < np.arange(channels) + 4
  x = np.where(is_high, HIGH, LOW)[None, :, None].repeat(2, 2)
  head = create_head(name, channels)
  variables = head.init(jax.random.key(0), jnp.asarray(x, jnp.bfloat16))
  variables['params']['head_logits'] = {
    'kernel': jnp.eye(channels),
    'bias': jnp.zeros(channels),
  }
  logits = head.apply(variables, jnp.asarray(x, jnp.bfloat16))
  options = head.variant.head

  def norm(x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + options.norm_epsilon)

  def round_to_bfloat16(x):
    return np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64)

  if options.norm_before_pool:
    expected = round_to_bfloat16(norm(x)).mean((1, 2))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
  else:
    expected = norm(x.mean((1, 2)))
    np.testing.assert_allclose(logits, expected, rtol=0.01)


@pytest.mark.parametrize('name', ['coatnet_0', 'coatnet_mini'])
def test_logits_that_differ_by_less_than_bfloat16_shows(name):
  x = np.random.default_rng(0).normal(size=(1, 4, 4, 16))
  check_logits(create_head(name, 6), jnp.asarray(x, jnp.bfloat16))


def test_logits_of_the_encoder_that_differ_by_less_than_bfloat16_shows():
  model = create_model('cnn_stem_vit', num_classes=6, dtype='bfloat16')
  small = {'stem_widths': (4,), 'width': 8, 'depth': 1, 'num_heads': 2}
  variant = dataclasses.replace(model.variant, **small)
  model = model.clone(variant=variant)
  check_logits(model, jnp.ones((1, 4, 4, 3)), jax.jit, train=False)


def check_logits(model, x, transform=lambda function: function, **settings):
  """Checks logits whose kernel has next to equal numbers for each class.

  Not compiled where the features are bfloat16: the compiler would keep digits.
  """
  init = functools.partial(model.init, **settings)
  variables = jax.jit(init)(jax.random.key(0), x)
  steps = 1 + np.arange(6) / 4096
  kernel = np.zeros(variables['params']['head_logits']['kernel'].shape)
  kernel[0] = steps
  variables['params']['head_logits'] = {
    'kernel': jnp.asarray(kernel, jnp.float32),
    'bias': jnp.zeros(6),
  }
  apply = functools.partial(model.apply, mutable=['intermediates'], **settings)
  logits, intermediates = transform(apply)(variables, x)
  features = intermediates['intermediates']['pre_logits']
  expected = np.asarray(features, np.float64)[:, :1] * steps
  assert logits.dtype == jnp.float32
  np.testing.assert_allclose(logits, expected, rtol=1e-6)
  assert len(set(expected[0].tolist())) == 6


@pytest.mark.parametrize('implementation', ['reference', 'xla'])
@pytest.mark.parametrize('grid', [(2, 3), (8, 6), (20, 20)])
def test_the_softmax_of_relative_attention(implementation, grid):
  """Logits of 100 and 100.2, which are one number of bfloat16's."""
  tokens = grid[0] * grid[1]
  q = jnp.full((1, tokens, 1, 4), 5.0, jnp.bfloat16)
  k = jnp.full((1, tokens, 1, 4), 10.0, jnp.bfloat16)
  # Columns of keys to the left get the larger logit: see the value they carry.
  table = np.zeros((1, 2 * grid[0] - 1, 2 * grid[1] - 1), np.float32)
  table[:, :, grid[1] :] = 0.2
  column = np.tile(np.arange(grid[1]), grid[0])
  is_left = column[None] < column[:, None]  # [query, key]
  values = (np.arange(tokens) % grid[1] == 0).astype(float)
  v = jnp.asarray(np.broadcast_to(values[:, None, None], k.shape), jnp.bfloat16)
  out = relative_attention(
    q, k, v, table, grid=grid, implementation=implementation
  )
  weights = np.exp(0.2 * is_left)
  weights /= weights.sum(-1, keepdims=True)
  expected = weights @ values
  assert out.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.float32(out[0, :, 0, 0]), expected, rtol=0.01)


def test_the_softmax_of_the_encoder():
  """By its program: Flax's logits are bfloat16, so few values would show it."""
  block = EncoderBlock(
    num_heads=1, mlp_ratio=1, dropout_rate=0.0, dtype=jnp.bfloat16
  )
  program = jax.make_jaxpr(
    lambda x: block.init_with_output(jax.random.key(0), x, False, None)[0]
  )(jnp.zeros((1, 4, 2), jnp.bfloat16))
  assert re.findall(r':(\w+)\[1,1,4,4\] = exp ', str(program)) == ['f32']


@pytest.mark.parametrize('kind', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_the_loss(kind, smoothing):
  """Of logits in bfloat16 and of more classes than its numbers can count."""
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(4, 1000)), jnp.bfloat16)
  targets = np.eye(1000)[:4]
  loss = compute_loss(
    logits,
    jnp.asarray(targets, jnp.bfloat16),
    options=LossOptions(kind=kind, label_smoothing=smoothing),
  )
  x = np.asarray(logits, np.float64)
  if kind == 'softmax':
    smooth = targets * (1 - smoothing) + smoothing / 1000
    expected = -(smooth * (x - np.log(np.exp(x).sum(-1, keepdims=True)))).sum(
      -1
    )
  else:
    smooth = targets * (1 - 2 * smoothing) + smoothing
    expected = (np.logaddexp(0, x) - smooth * x).sum(-1)
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
