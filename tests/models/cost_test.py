import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

import coatnet_jax
from coatnet_jax.errors import UserError
from coatnet_jax.models.cost import (
  count_cost,
  count_parameters,
  count_program_multiply_adds,
)
from coatnet_jax.models.variants import get_variant
from coatnet_jax.ops.depthwise_conv import depthwise_conv
from coatnet_jax.ops.relative_attention import relative_attention

# Billions of multiply-adds at 160, 224, 384 and 512 px, by a counter of another
# implementation (timm's models on PyTorch, with their stride moved) or, from
# CoAtNet-5 on, an analytic one.
PAPER = {
  'coatnet_0': (2.08, 4.14, 13.05, 25.05),
  'coatnet_1': (4.10, 8.24, 26.60, 52.32),
  'coatnet_2': (7.77, 15.50, 48.75, 93.35),
  'coatnet_3': (17.33, 34.37, 105.79, 198.11),
  'coatnet_4': (30.32, 60.24, 186.50, 351.46),
  'coatnet_5': (71.85, 142.18, 433.62, 803.98),
  'coatnet_6': (131.2, 259.5, 790.9, 1465.4),
  'coatnet_6_d3072': (134.1, 265.2, 807.7, 1495.5),
  'coatnet_7': (232.0, 457.9, 1383.3, 2538.5),
}

# Billions at the variant's own size; timm's models on PyTorch. Those of the
# `rmlp` include the network of relative positions, up to 0.97 % of them, which
# does not depend on the image.
TIMM = {
  'coatnet_pico_rw_224': 2.03,
  'coatnet_nano_rw_224': 2.38,
  'coatnet_0_rw_224': 4.41,
  'coatnet_1_rw_224': 7.99,
  'coatnet_2_rw_224': 15.02,
  'coatnet_3_rw_224': 33.34,
  'coatnet_bn_0_rw_224': 4.65,
  'coatnet_rmlp_nano_rw_224': 2.59,
  'coatnet_rmlp_0_rw_224': 4.68,
  'coatnet_rmlp_1_rw_224': 7.81,
  'coatnet_rmlp_1_rw2_224': 8.07,
  'coatnet_rmlp_2_rw_224': 15.11,
  'coatnet_rmlp_2_rw_384': 47.49,
  'coatnet_rmlp_3_rw_224': 33.46,
  'coatnet_nano_cc_224': 2.21,
  'coatnext_nano_rw_224': 2.46,
  'coatnet_0_224': 4.55,
  'coatnet_1_224': 8.64,
  'coatnet_2_224': 16.43,
  'coatnet_3_224': 36.45,
  'coatnet_4_224': 62.32,
  'coatnet_5_224': 145.26,
}
# Billions at 224 px; keras_cv_attention_models' models.
KERAS_CV = {
  'coatnet_0_keras_cv': 4.14,
  'coatnet_1_keras_cv': 8.23,
  'coatnet_2_keras_cv': 16.01,
  'coatnet_3_keras_cv': 35.54,
  'coatnet_4_keras_cv': 61.41,
  'coatnet_5_keras_cv': 142.48,
  'coatnet_6_keras_cv': 260.2,
  'coatnet_7_keras_cv': 457.3,
}


class OneLayer(nn.Module):
  """A model of one layer, with the call signature of all models."""

  layer: nn.Module

  @nn.compact
  def __call__(self, images, *, train):
    return self.layer(images)


@pytest.mark.parametrize(
  ('layer', 'parameters', 'multiply_adds'),
  [
    (nn.Dense(5), 3 * 5 + 5, (4 * 6) * 3 * 5),
    # Taps on the padding count.
    (nn.Conv(5, (3, 3), padding=1), 9 * 3 * 5 + 5, (4 * 6) * 9 * 3 * 5),
    (
      nn.Conv(5, (3, 3), strides=2, padding=1, use_bias=False),
      9 * 3 * 5,
      (2 * 3) * 9 * 3 * 5,
    ),
    # Each of 6 output channels sees one input channel.
    (
      nn.Conv(6, (3, 3), feature_group_count=3, use_bias=False),
      9 * 6,
      (4 * 6) * 9 * 6,
    ),
    # Running statistics are not parameters.
    (nn.BatchNorm(use_running_average=True), 3 + 3, 0),
  ],
)
def test_one_layer(layer, parameters, multiply_adds):
  model = OneLayer(layer)
  cost = count_cost(model, (4, 6))
  assert (cost.parameters, cost.multiply_adds) == (parameters, multiply_adds)
  assert count_parameters(model, (4, 6)) == parameters


def test_images_of_one_channel():
  cost = count_cost(OneLayer(nn.Dense(5)), (4, 6), in_channels=1)
  assert (cost.parameters, cost.multiply_adds) == (10, (4 * 6) * 5)
  assert count_parameters(OneLayer(nn.Dense(5)), (4, 6), in_channels=1) == 10


def _count(function, *shapes, varies=None):
  arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  program = jax.make_jaxpr(function)(*arguments)
  return count_program_multiply_adds(program.jaxpr, varies)


def test_depthwise_convolution_counts_on_every_platform():
  count = _count(depthwise_conv, (2, 4, 6, 5), (3, 3, 1, 5))
  assert count == (2 * 4 * 6) * 9 * 5


def test_attention_counts_without_its_bias():
  tokens = (2, 4 * 6, 5, 8)  # [B, N, heads, head_dim]
  attend = functools.partial(
    relative_attention, grid=(4, 6), implementation='reference'
  )
  shapes = (tokens, tokens, tokens, (5, 2 * 4 - 1, 2 * 6 - 1))
  varies = [True, True, True, False]
  # q k^T and weights v.
  expected = 2 * (2 * 5) * (4 * 6) ** 2 * 8
  assert _count(attend, *shapes, varies=varies) == expected
  # Looking the bias of every pair up is products, too.
  assert _count(attend, *shapes) > expected


# x [2, 3] times w [3, 3], in every way that a program calls another.
ONE_PRODUCT = 2 * 3 * 3


@jax.custom_vjp
def _with_own_gradient(x, w):
  return x @ w


_with_own_gradient.defvjp(lambda x, w: (x @ w, None), lambda _, g: (g, g))


def _scanned(x, w):
  return jax.lax.scan(lambda x, _: (x @ w, None), x, length=7)[0]


def _carried(x, w):
  """In the first step, what is multiplied does not depend on x yet."""

  def step(carry, row):
    return carry @ w + row, None

  return jax.lax.scan(step, jnp.zeros(3), x)[0]


def _stacked(x, w):
  """Of each layer's w, w @ w does not depend on x; w is sliced, not carried."""
  layers = jnp.stack([w, w, w])
  return jax.lax.scan(lambda x, w: (x @ (w @ w), x), x, layers)


def _branched(x, w):
  return jax.lax.cond(w[0, 0] > 0, lambda x: x @ w @ w, lambda x: x @ w, x)


@pytest.mark.parametrize(
  ('function', 'products'),
  [
    (lambda x, w: x @ w + x @ w, 2),
    (jax.jit(lambda x, w: x @ w), 1),
    (jax.checkpoint(lambda x, w: x @ w), 1),
    (_with_own_gradient, 1),
    (_scanned, 7),
    (_carried, 1),
    (_stacked, 3),
    (_branched, 2),
    (jax.vmap(lambda x, w: x @ w, in_axes=(0, None)), 1),
    # What does not depend on the image.
    (lambda x, w: x @ (w @ w), 1),
    (jax.jit(lambda x, w: x * (w @ w)[0]), 0),
  ],
)
def test_products_that_depend_on_x_count_wherever_they_are(function, products):
  count = _count(function, (2, 3), (3, 3), varies=[True, False])
  assert count == products * ONE_PRODUCT


def test_what_a_device_computes_counts_on_all_of_them():
  mesh = AbstractMesh(
    (4, 2), ('data', 'model'), axis_types=(AxisType.Auto, AxisType.Auto)
  )
  rows = PartitionSpec('data')
  function = jax.shard_map(
    lambda x, w: x @ w,
    mesh=mesh,
    in_specs=(rows, PartitionSpec()),
    out_specs=rows,
    axis_names={'data'},
  )
  assert _count(function, (8, 3), (3, 3)) == 8 * 3 * 3


def test_products_repeated_an_unknown_number_of_times_are_refused():
  def repeat(x, w):
    return jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: x @ w, x)

  with pytest.raises(NotImplementedError, match='in a while cannot be counted'):
    _count(repeat, (2, 3), (3, 3))


def test_a_model_counts_alike_however_its_attention_is_computed():
  counts = {
    count_cost(
      coatnet_jax.create_model(
        'coatnet_mini', transformer={'head_dim': 32}, attention=attention
      ),
      (28, 28),
    )
    for attention in ('reference', 'auto', 'pallas')
  }
  assert len(counts) == 1


def test_a_kernel_is_refused():
  tokens = (2, 4 * 6, 5, 32)
  attend = functools.partial(
    relative_attention, grid=(4, 6), implementation='pallas'
  )
  with pytest.raises(NotImplementedError, match='in a pallas_call cannot be'):
    _count(attend, *[tokens] * 3, (5, 2 * 4 - 1, 2 * 6 - 1))


def test_coatnet_0():
  cost = count_cost(coatnet_jax.create_model('coatnet_0'), (224, 224))
  assert cost.parameters == 25_036_820
  assert cost.multiply_adds == pytest.approx(4.14e9, rel=0.005)


def test_an_image_size_that_does_not_fit():
  model = coatnet_jax.create_model('coatnet_0')
  with pytest.raises(UserError, match='divisible by 32'):
    count_cost(model, (224, 230))


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('name', PAPER)
def test_paper(name):
  model = coatnet_jax.create_model(name)
  for size, billions in zip((160, 224, 384, 512), PAPER[name], strict=True):
    count = count_cost(model, (size, size)).multiply_adds
    assert count == pytest.approx(billions * 1e9, rel=0.005)


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('name', [*TIMM, *KERAS_CV])
def test_other_implementations(name):
  billions = {**TIMM, **KERAS_CV}[name]
  size = get_variant(name).image_size
  count = count_cost(coatnet_jax.create_model(name), size).multiply_adds
  assert count == pytest.approx(billions * 1e9, rel=0.01)


@pytest.mark.slow
def test_the_smallest_of_timm():
  model = coatnet_jax.create_model('test_coatnet')
  # 0.08 billion, to that many digits.
  cost = count_cost(model, (160, 160))
  assert round(cost.multiply_adds / 1e9, 2) == 0.08
