"""Blocks scanned and recomputed: the same numbers, less memory and text."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import coatnet_jax
from coatnet_jax.errors import UserError
from coatnet_jax.models.block_sequence import REMAT_POLICIES
from coatnet_jax.models.paper_variants import create_stages
from tests.quick_models import apply_in_training

# Runs of equal blocks of both kinds, and a stage that mixes them.
DEEP = {
  'stem': {'widths': (8, 8)},
  'stages': create_stages(
    (3, 1, 3, 1), (8, 16, 32, 32), strides=(1, 2, 1, 2), openers={3: (1, 16)}
  ),
  'stochastic_depth_rate': 0.5,
}
SIZE = (16, 16)


def create(**options):
  return coatnet_jax.create_model('coatnet_0', num_classes=5, **DEEP | options)


def create_inputs(model, batch=8):
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(
    lambda key: model.lazy_init(
      key, jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32), train=False
    ),
    jax.random.key(0),
  )

  def randomize(path, leaf):
    noise = 0.2 * rng.normal(size=leaf.shape).astype(leaf.dtype)
    return 1 + abs(noise) if path[-1].key in ('scale', 'var') else noise

  variables = jax.tree_util.tree_map_with_path(randomize, shapes)
  return variables, rng.normal(size=(batch, *SIZE, 3)).astype(np.float32)


def differentiate(model, variables, images):
  """Returns logits, gradients and new batch statistics of a training step."""

  def loss(params):
    logits, updates = apply_in_training(
      model, {**variables, 'params': params}, images, jax.random.key(1)
    )
    return jnp.square(logits).sum(), (logits, updates['batch_stats'])

  gradient, (logits, stats) = jax.grad(loss, has_aux=True)(variables['params'])
  return {'logits': logits, 'gradient': gradient, 'batch_stats': stats}


def assert_close(actual, expected, rtol=2e-5):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  largest = max(float(np.abs(b).max()) for b in jax.tree.leaves(expected))
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected)
  ):
    # Some gradients are 0 but for rounding.
    scale = max(float(np.abs(b).max()), 1e-2 * largest)
    np.testing.assert_allclose(
      a / scale, b / scale, atol=rtol, err_msg=jax.tree_util.keystr(path)
    )


@functools.cache
def compute_plainly():
  model = create()
  variables, images = create_inputs(model)
  result = jax.jit(functools.partial(differentiate, model))(variables, images)
  return variables, images, jax.tree.map(np.asarray, result)


ONE_OF_MANY = (pytest.mark.slow, pytest.mark.rotating)


@pytest.mark.parametrize(
  ('remat', 'scan_blocks'),
  [
    pytest.param('none', True, marks=ONE_OF_MANY),
    ('everything', True),
    pytest.param('expansions', False, marks=ONE_OF_MANY),
    pytest.param('expansions', True, marks=ONE_OF_MANY),
    pytest.param('blocks', False, marks=ONE_OF_MANY),
    pytest.param('blocks', True, marks=ONE_OF_MANY),
    pytest.param('everything', False, marks=ONE_OF_MANY),
  ],
)
def test_a_step_is_the_same(remat, scan_blocks):
  variables, images, expected = compute_plainly()
  model = create(remat=remat, scan_blocks=scan_blocks)
  actual = jax.jit(functools.partial(differentiate, model))(variables, images)
  assert_close(actual, expected)


def test_evaluation_is_the_same_and_scanned():
  variables, images, _ = compute_plainly()

  def evaluate(model):
    return jax.jit(lambda v, x: model.apply(v, x, train=False))

  scanned = evaluate(create(scan_blocks=True, remat='blocks'))
  np.testing.assert_allclose(
    scanned(variables, images),
    evaluate(create())(variables, images),
    rtol=1e-5,
    atol=1e-5,
  )
  loops = [
    equation.params['length']
    for equation in jax.make_jaxpr(scanned)(variables, images)
    .jaxpr.eqns[0]
    .params['jaxpr']
    .eqns
    if equation.primitive.name == 'scan'
  ]
  # All blocks but the first of a run, which may stride or change the width.
  assert loops == [2, 2]


def test_variables_are_the_same():
  plain, images, _ = compute_plainly()
  model = create(scan_blocks=True, remat='everything')
  shapes = jax.eval_shape(
    lambda key: model.init(key, images, train=False), jax.random.key(0)
  )
  assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, plain)


def count_kept_elements(model):
  """Returns how many numbers the forward pass keeps for the backward pass."""
  variables, images = jax.eval_shape(lambda: create_inputs(model, batch=8))

  _, pullback = jax.eval_shape(
    lambda variables, images: jax.vjp(
      lambda params: apply_in_training(
        model, {**variables, 'params': params}, images, jax.random.key(1)
      )[0].sum(),
      variables['params'],
    ),
    variables,
    images,
  )
  return sum(leaf.size for leaf in jax.tree.leaves(pullback))


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('scan_blocks', [False, True])
def test_each_policy_keeps_less(scan_blocks):
  kept = [
    count_kept_elements(create(remat=remat, scan_blocks=scan_blocks))
    for remat in REMAT_POLICIES
  ]
  assert kept == sorted(kept, reverse=True)
  assert all(more > 1.1 * less for more, less in itertools.pairwise(kept))


def test_bad_options():
  with pytest.raises(UserError, match='none, expansions, blocks, everything'):
    create(remat='all')
  with pytest.raises(UserError, match='cnn_stem_vit has no such choice'):
    coatnet_jax.create_model('cnn_stem_vit', scan_blocks=True)
