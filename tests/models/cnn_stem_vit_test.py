"""The CNN-stem ViT against NumPy, its size by hand, and what it refuses."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from coatnet_jax.errors import UserError
from coatnet_jax.models.cnn_stem_vit import (
  CNNStemViT,
  CNNStemViTVariant,
  EncoderBlock,
)
from coatnet_jax.models.layers import StochasticDepth
from coatnet_jax.training.optimizers import compute_weight_decay_mask
from tests.quick_models import apply_in_training

TINY = {'stem_widths': (3, 4), 'width': 8, 'depth': 2, 'num_heads': 2}


def _create(
  num_classes=5,
  stochastic_depth_rate=0.0,
  dtype=jnp.float32,
  batch_norm_momentum=0.9,
  **variant,
):
  return CNNStemViT(
    variant=CNNStemViTVariant(**{**TINY, **variant}),
    num_classes=num_classes,
    stochastic_depth_rate=stochastic_depth_rate,
    batch_norm_momentum=batch_norm_momentum,
    dtype=dtype,
  )


def _images(height=16, width=24, batch=3):
  return jax.random.normal(jax.random.key(0), (batch, height, width, 3))


def _shapes(model, images):
  return jax.eval_shape(
    lambda: model.init(jax.random.key(0), images, train=False)
  )


def _random_variables(model, images):
  """Variables without the zeros and ones that hide mistakes."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: (
      jnp.asarray(rng.uniform(0.2, 1, leaf.shape), leaf.dtype)
      * rng.choice([0.5, 0.8], leaf.shape)
    ),
    _shapes(model, images),
  )


def test_parameters_counted_by_hand():
  model = CNNStemViT(
    variant=CNNStemViTVariant(),
    num_classes=100,
    stochastic_depth_rate=0.0,
    batch_norm_momentum=0.9,
    dtype=jnp.float32,
  )
  assert model.variant.image_size == (56, 56)
  params = _shapes(model, _images(56, 56))['params']
  width = 512
  stem = 9 * (3 * 64 + 64 * 128 + 128 * width) + 2 * (64 + 128 + width)
  tokens = width + (1 + 7 * 7) * width
  attention = 4 * (width * width + width)
  mlp = width * 2048 + 2048 + 2048 * width + width
  block = 2 * 2 * width + attention + mlp
  head = 2 * width + width * 100 + 100
  expected = stem + tokens + 6 * block + head
  assert expected == 19_659_428
  assert sum(math.prod(p.shape) for p in jax.tree.leaves(params)) == expected


def test_names_and_what_decays():
  params = _shapes(_create(depth=1), _images())['params']
  decays = {
    jax.tree_util.keystr(path, simple=True, separator='/'): value
    for path, value in jax.tree_util.tree_leaves_with_path(
      compute_weight_decay_mask(params)
    )
  }
  assert {name for name, value in decays.items() if value} == {
    's0_conv_0/kernel',
    's0_conv_1/kernel',
    's0_conv_2/kernel',
    'block_0/attention/query/kernel',
    'block_0/attention/key/kernel',
    'block_0/attention/value/kernel',
    'block_0/attention/out/kernel',
    'block_0/ffn_expand/kernel',
    'block_0/ffn_shrink/kernel',
    'head_logits/kernel',
  }
  others = {n for n, v in decays.items() if not v and not n.endswith('/bias')}
  assert others == {
    's0_norm_0/scale',
    's0_norm_1/scale',
    's0_norm_2/scale',
    'class_token',
    'class_position_embedding',
    'position_embedding',
    'block_0/attention_norm/scale',
    'block_0/ffn_norm/scale',
    'head_norm/scale',
  }


def _gelu(x):
  return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _layer_norm(x, p):
  x = x - x.mean(-1, keepdims=True)
  x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
  return x * p['scale'] + p['bias']


def _dense(x, p):
  return x @ p['kernel'] + p['bias']


def _attention(x, p):
  q, k, v = (
    np.einsum('bnc,chd->bhnd', x, p[name]['kernel'])
    + p[name]['bias'][:, np.newaxis]
    for name in ('query', 'key', 'value')
  )
  scores = np.exp(np.einsum('bhqd,bhkd->bhqk', q, k) / np.sqrt(q.shape[-1]))
  weights = scores / scores.sum(-1, keepdims=True)
  heads = np.einsum('bhqk,bhkd->bhqd', weights, v)
  out = np.einsum('bhqd,hdc->bqc', heads, p['out']['kernel'])
  return out + p['out']['bias']


def _stem(x, params, statistics):
  for index in range(3):
    x = lax.conv_general_dilated(
      x,
      params[f's0_conv_{index}']['kernel'],
      (2, 2),
      [(1, 1), (1, 1)],
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    p, s = params[f's0_norm_{index}'], statistics[f's0_norm_{index}']
    x = (x - s['mean']) / np.sqrt(s['var'] + 1e-5) * p['scale'] + p['bias']
    x = _gelu(np.asarray(x))
  return x


def test_equals_numpy():
  model, images = _create(), _images()
  variables = _random_variables(model, images)
  logits, state = jax.jit(
    lambda v, x: model.apply(v, x, train=False, mutable=['intermediates'])
  )(variables, images)

  p = jax.tree.map(np.asarray, variables['params'])
  x = _stem(images, p, variables['batch_stats'])
  found = state['intermediates']
  np.testing.assert_allclose(found['s0'], x, rtol=1e-4, atol=1e-5)
  x = (x + p['position_embedding']).reshape(3, 6, 8)
  token = p['class_token'] + p['class_position_embedding']
  x = np.concatenate([np.broadcast_to(token, (3, 1, 8)), x], axis=1)
  for index in range(2):
    block = p[f'block_{index}']
    x = x + _attention(
      _layer_norm(x, block['attention_norm']), block['attention']
    )
    hidden = _dense(_layer_norm(x, block['ffn_norm']), block['ffn_expand'])
    x = x + _dense(_gelu(hidden), block['ffn_shrink'])
  x = _layer_norm(x[:, 0], p['head_norm'])
  np.testing.assert_allclose(found['pre_logits'], x, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(
    logits, _dense(x, p['head_logits']), rtol=1e-4, atol=1e-4
  )


def test_training_reaches_every_parameter_and_draws_dropout():
  model, images = _create(depth=1, stem_widths=()), _images(8, 8)
  variables = _random_variables(model, images)

  @jax.jit
  def loss_and_gradients(params, key):
    def loss(params):
      logits, state = apply_in_training(
        model, {**variables, 'params': params}, images, key
      )
      return (logits**2).sum(), state['batch_stats']

    return jax.value_and_grad(loss, has_aux=True)(params)

  keys = jax.random.split(jax.random.key(1))
  (loss, statistics), gradients = loss_and_gradients(
    variables['params'], keys[0]
  )
  for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
    assert float(jnp.abs(gradient).max()) > 0, jax.tree_util.keystr(path)
  (other, _), _ = loss_and_gradients(variables['params'], keys[1])
  assert abs(float(loss - other)) > 1e-3

  kernel = variables['params']['s0_conv_0']['kernel']
  x = lax.conv_general_dilated(
    images,
    kernel,
    (2, 2),
    [(1, 1)] * 2,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  before = variables['batch_stats']['s0_norm_0']['mean']
  np.testing.assert_allclose(
    statistics['s0_norm_0']['mean'],
    0.9 * before + 0.1 * x.mean((0, 1, 2)),
    rtol=1e-5,
    atol=1e-5,
  )


def test_stochastic_depth_grows_from_block_to_block():
  model = _create(stochastic_depth_rate=0.9, depth=3)
  shapes = _shapes(model, _images())
  rates = []

  def record(next_method, args, kwargs, context):
    if (
      isinstance(context.module, EncoderBlock)
      and context.method_name == '__call__'
    ):
      rates.append(args[2].rate)
    return next_method(*args, **kwargs)

  with nn.intercept_methods(record):
    jax.eval_shape(
      lambda v: apply_in_training(model, v, _images(), jax.random.key(0)),
      shapes,
    )
  np.testing.assert_allclose(rates, [0.0, 0.3, 0.6])


def test_stochastic_depth_drops_branches_of_whole_examples():
  block = EncoderBlock(
    num_heads=1,
    mlp_ratio=1,
    dropout_rate=0.0,
    dtype=jnp.float32,
  )
  x = jax.random.normal(jax.random.key(0), (100, 2, 4))
  keys = jax.random.split(jax.random.key(1))
  drop = StochasticDepth(keys[1], rate=0.5)

  @jax.jit
  def run(x):
    return block.init_with_output(keys[0], x, True, drop)[0]

  # Without both of its branches a block changes nothing.
  unchanged = np.asarray(run(x) == x).all((1, 2))
  assert abs(unchanged.mean() - 0.25) < 0.1


def test_without_dropout_training_needs_no_key():
  model = _create(dropout_rate=0.0)
  images = _images()
  logits, _ = jax.eval_shape(
    lambda v: model.apply(v, images, train=True, mutable=['batch_stats']),
    _shapes(model, images),
  )
  assert logits.shape == (3, 5)


def test_computes_in_bfloat16_and_returns_float32():
  model, images = _create(num_classes=0, dtype=jnp.bfloat16), _images()
  shapes = _shapes(model, images)
  assert {p.dtype for p in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  assert 'head_logits' not in shapes['params']
  features, state = jax.eval_shape(
    lambda v: model.apply(v, images, train=False, mutable=['intermediates']),
    shapes,
  )
  assert (features.shape, features.dtype) == ((3, 8), jnp.float32)
  s0 = state['intermediates']['s0']
  assert (s0.shape, s0.dtype) == ((3, 2, 3, 8), jnp.bfloat16)


@pytest.mark.parametrize(
  'shape', [(1, 12, 16, 3), (1, 16, 0, 3), (16, 16, 3), (1, 16, 16, 1)]
)
def test_refuses_images_that_do_not_fit(shape):
  with pytest.raises(UserError, match=r'3\] with .* divisible by 8, the pro'):
    _shapes(_create(), jnp.zeros(shape))


def test_refuses_positions_of_another_grid():
  model = _create()
  shapes = _shapes(model, _images(16, 24))
  # As many tokens, on another grid.
  images = _images(24, 16)
  with pytest.raises(UserError, match=r'a grid of 2x3, the images give 3x2'):
    jax.eval_shape(lambda v: model.apply(v, images, train=False), shapes)


@pytest.mark.parametrize(
  ('field', 'message'),
  [
    ({'num_heads': 3}, 'num_heads is 3; it must divide config.model.width, 8'),
    ({'depth': 0}, 'depth is 0; .* at least 1'),
    ({'stem_widths': (8, 0)}, r'stem_widths is \(8, 0\)'),
    ({'dropout_rate': 1.0}, 'dropout_rate is 1.0; .* below 1'),
  ],
)
def test_refuses_a_variant_that_cannot_be(field, message):
  with pytest.raises(UserError, match=message):
    CNNStemViTVariant(**{**TINY, **field})
