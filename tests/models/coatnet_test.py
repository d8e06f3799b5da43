import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import coatnet_jax
from coatnet_jax.errors import UserError
from coatnet_jax.models.layers import StochasticDepth, drop_branch
from coatnet_jax.models.paper_variants import create_stages

# Two stages of each kind, 8 px of stride, small enough to run many times.
TINY = {
  'stem': {'widths': (8, 8)},
  'stages': create_stages(
    (2, 1, 1, 2), (8, 16, 32, 64), strides=(1, 2, 1, 2), openers={3: (1, 16)}
  ),
}


def _create(**kwargs):
  return coatnet_jax.create_model('coatnet_0', **{**TINY, **kwargs})


def _images(height=16, width=16, batch=4, seed=0):
  return jax.random.normal(jax.random.key(seed), (batch, height, width, 3))


def _init(model, images, seed=0):
  """Random variables: compiling `model.init` takes far longer."""
  rng = np.random.default_rng(seed)

  def randomize(path, leaf):
    noise = 0.2 * rng.normal(size=leaf.shape).astype(leaf.dtype)
    return 1 + abs(noise) if path[-1].key in ('scale', 'var') else noise

  shapes = jax.eval_shape(
    lambda x: model.init(jax.random.key(0), x, train=False), images
  )
  return jax.tree_util.tree_map_with_path(randomize, dict(shapes))


def _apply(model, variables, images, **kwargs):
  """`model.apply`, compiled as a whole: op by op it takes far longer."""
  return jax.jit(lambda v, x: model.apply(v, x, **kwargs))(variables, images)


def test_stage_outputs_and_pre_logits_are_intermediates():
  model = _create(num_classes=7)
  images = _images(height=16, width=32)
  variables = _init(model, images)
  logits, state = _apply(
    model, variables, images, train=False, mutable=['intermediates']
  )
  assert logits.shape == (4, 7)
  assert jax.tree.map(jnp.shape, dict(state['intermediates'])) == {
    's0': (4, 8, 16, 8),
    's1': (4, 8, 16, 8),
    's2': (4, 4, 8, 16),
    's3': (4, 4, 8, 32),
    's4': (4, 2, 4, 64),
    'pre_logits': (4, 64),
  }


def test_no_classes_gives_the_mean_of_the_last_map():
  model = _create(num_classes=0)
  images = _images()
  features, state = _apply(
    model,
    _init(model, images),
    images,
    train=False,
    mutable=['intermediates'],
  )
  np.testing.assert_allclose(
    features, state['intermediates']['s4'].mean((1, 2)), rtol=1e-5, atol=1e-6
  )


def test_training_updates_running_statistics_by_the_momentum():
  model = _create(batch_norm_momentum=0.75)
  images = 3 + _images(batch=16)
  variables = _init(model, images)
  _, updates = _apply(
    model,
    variables,
    images,
    train=True,
    mutable=['batch_stats', 'intermediates'],
  )
  before = variables['batch_stats']['s1_block_0']['pre_norm']
  after = updates['batch_stats']['s1_block_0']['pre_norm']
  x = np.asarray(updates['intermediates']['s0'])
  np.testing.assert_allclose(
    after['mean'],
    0.75 * before['mean'] + 0.25 * x.mean((0, 1, 2)),
    rtol=1e-4,
    atol=1e-5,
  )
  np.testing.assert_allclose(
    after['var'],
    0.75 * before['var'] + 0.25 * x.var((0, 1, 2)),
    rtol=1e-4,
    atol=1e-5,
  )


def test_stochastic_depth_grows_linearly_and_spares_evaluation():
  model = _create(stochastic_depth_rate=0.7)
  # Seven blocks, counted from 0.
  rates = [model.compute_drop_rate(index) for index in range(7)]
  np.testing.assert_allclose(rates, 0.1 * np.arange(7), atol=1e-12)

  images = _images()
  variables = _init(model, images)

  @functools.partial(jax.jit, static_argnames='train')
  def apply(variables, images, seed, *, train):
    return model.apply(
      variables,
      images,
      train=train,
      mutable=['batch_stats'],
      rngs={'dropout': jax.random.key(seed)},
    )[0]

  forward = functools.partial(apply, variables, images)
  assert jnp.abs(forward(0, train=True) - forward(1, train=True)).max() > 1e-3
  np.testing.assert_array_equal(
    forward(0, train=False), forward(1, train=False)
  )


def test_dropped_examples_keep_their_shortcut():
  x = jnp.ones((1000, 2, 2, 3))
  drop = StochasticDepth(jax.random.key(0), rate=0.25)
  y = drop_branch(x, drop)
  # Whole examples are dropped; what is kept is scaled up.
  per_example = np.asarray(y).reshape(1000, -1)
  assert (per_example == per_example[:, :1]).all()
  np.testing.assert_allclose(np.unique(per_example), [0, 1 / 0.75], rtol=1e-6)
  assert 0.2 < (per_example[:, 0] == 0).mean() < 0.3


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters():
  images = _images()
  variables = _init(_create(), images)
  model = _create(dtype='bfloat16')
  logits = _apply(model, variables, images, train=False)
  expected = _apply(_create(), variables, images, train=False)
  assert logits.dtype == jnp.float32
  spread = float(jnp.abs(expected).max())
  error = float(jnp.abs(logits - expected).max())
  assert 1e-6 * spread < error < 0.05 * spread
  dtypes = {leaf.dtype for leaf in jax.tree.leaves(_init(model, images))}
  assert dtypes == {jnp.dtype('float32')}


@pytest.mark.parametrize('shape', [(4, 16, 20, 3), (4, 12, 16, 3), (16, 16, 3)])
def test_image_size_must_fit_the_strides(shape):
  model = _create()
  with pytest.raises(UserError, match='height and width divisible by 8'):
    jax.eval_shape(
      lambda x: model.init(jax.random.key(0), x, train=False),
      jax.ShapeDtypeStruct(shape, jnp.float32),
    )


def test_parameters_of_another_image_size_are_refused():
  model = _create()
  variables = _init(model, _images(16, 16))
  with pytest.raises(UserError, match='grid of 4x4, the images give 4x8'):
    _apply(model, variables, _images(16, 32), train=False)


@pytest.mark.parametrize(
  ('kwargs', 'message'),
  [
    ({'dtype': 'float16'}, 'one of float32, bfloat16'),
    ({'stochastic_depth_rate': 1.0}, 'at least 0 and below 1'),
    ({'num_classes': -1}, 'num_classes is -1; .* at least 0'),
  ],
)
def test_bad_arguments(kwargs, message):
  with pytest.raises(UserError, match=message):
    _create(**kwargs)


def test_misspelt_argument():
  with pytest.raises(TypeError, match='stmes'):
    coatnet_jax.create_model('coatnet_0', stmes=8)


def test_variants_are_frozen():
  variant = _create().variant
  with pytest.raises(dataclasses.FrozenInstanceError):
    variant.kernel_init = 'timm'
