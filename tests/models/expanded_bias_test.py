import jax
import jax.numpy as jnp
import numpy as np
import pytest

import coatnet_jax
from coatnet_jax.errors import UserError
from coatnet_jax.models.transformer import EXPANDED_BIAS
from coatnet_jax.models.variants import BlockGroup, Stage


def _create_model(kind='table'):
  """A stem and one attention block."""
  return coatnet_jax.create_model(
    'coatnet_mini',
    num_classes=3,
    stem={'widths': (32,)},
    stages=(Stage((BlockGroup('transformer', 1, 32),)),),
    transformer={'relative_position': kind, 'head_dim': 16},
  )


def _draw_variables(model, image_size):
  """Draws all of them alike: biases are as large as what they are added to."""
  images = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)
  shapes = jax.eval_shape(
    lambda images: model.init(jax.random.key(0), images, train=False), images
  )
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype),
    shapes,
  )


@pytest.mark.parametrize('kind', ['table', 'table_key_minus_query', 'mlp'])
def test_the_logits_are_the_same(kind):
  model = _create_model(kind)
  variables = _draw_variables(model, (8, 16))
  expanded = coatnet_jax.expand_bias_tables(model, variables, (8, 16))
  collection = expanded[EXPANDED_BIAS]
  assert jax.tree.map(jnp.shape, collection) == {
    's1_block_0': {'attention': {'grid_2x4': (2, 8, 8)}}
  }

  @jax.jit
  def apply(images):
    zeros = jax.tree.map(jnp.zeros_like, collection)
    return [
      model.apply(variables | changes, images, train=False)
      for changes in ({}, expanded, {EXPANDED_BIAS: zeros})
    ]

  images = jax.random.normal(jax.random.key(1), (2, 8, 16, 3))
  expected, found, without_bias = apply(images)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  assert jnp.abs(without_bias - expected).max() > 1e-2


def test_training_uses_the_tables():
  model = _create_model()
  variables = _draw_variables(model, (8, 8))
  expanded = coatnet_jax.expand_bias_tables(model, variables, (8, 8))

  @jax.jit
  @jax.grad
  def gradient(params):
    logits, updates = model.apply(
      expanded | {'params': params},
      jnp.ones((2, 8, 8, 3)),
      train=True,
      mutable=['batch_stats'],
    )
    assert EXPANDED_BIAS not in updates
    return (logits**2).sum()

  attention = gradient(variables['params'])['s1_block_0']['attention']
  assert jnp.abs(attention['relative_position_bias_table']).max() > 0


def test_images_of_another_size_are_computed_without():
  model = _create_model('mlp')
  variables = _draw_variables(model, (8, 16))
  expanded = coatnet_jax.expand_bias_tables(model, variables, (8, 16))
  images = jax.random.normal(jax.random.key(1), (2, 16, 8, 3))

  @jax.jit
  def apply(images):
    return [
      model.apply(chosen, images, train=False)
      for chosen in (variables, expanded)
    ]

  np.testing.assert_array_equal(*apply(images))


def test_an_image_size_that_does_not_fit():
  model = _create_model()
  variables = _draw_variables(model, (8, 16))
  with pytest.raises(UserError, match='grid of 2x4, the images give 7x7'):
    coatnet_jax.expand_bias_tables(model, variables)
  with pytest.raises(UserError, match='divisible by 4'):
    coatnet_jax.expand_bias_tables(model, variables, (8, 15))


def test_models_without_relative_positions_have_nothing_to_expand():
  for model in (
    coatnet_jax.create_model('cnn_stem_vit', depth=1),
    _create_model('none'),
  ):
    variables = _draw_variables(model, (8, 8))
    assert coatnet_jax.expand_bias_tables(model, variables, (8, 8)) == variables
