import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.explanation.attention_maps import (
  compute_head_attention,
  compute_relevance,
  compute_rollout,
  follow_back,
)
from coatnet_jax.explanation.interception import (
  compute_bias_tables,
  find_attention_blocks,
)
from coatnet_jax.models.factory import create_model
from coatnet_jax.models.transformer import RelativeAttention
from tests.quick_models import TINY

pytestmark = pytest.mark.usefixtures('tiny_variant')


def _create(name='tiny', size=(16, 24), factor=3.0, **options):
  model = create_model(name, num_classes=3, image_size=size, **options)
  images = jax.random.normal(jax.random.key(1), (2, *size, 3))
  init = jax.jit(model.init, static_argnames='train')
  variables = init(jax.random.key(0), images, train=False)
  # Attention that differs from one position to the other.
  params = jax.tree.map(lambda leaf: factor * leaf, variables['params'])
  return model, {**variables, 'params': params}, images


def test_two_blocks_by_hand():
  first = np.array([[0.6, 0.4], [0.1, 0.9]])
  second = np.array([[0.2, 0.8], [0.5, 0.5]])
  layers = [(jnp.array([m]), (2, 1), 0) for m in (first, second)]
  expected = np.full(2, 0.5) @ second @ first
  found = follow_back(layers)
  assert found.shape == (1, 2, 1)
  np.testing.assert_allclose(found.ravel(), expected, rtol=1e-6)


def test_what_was_pooled_is_divided_among_its_tokens():
  """Four columns become two, of which the second reads the first."""
  before = (jnp.eye(4)[None], (1, 4), 0)
  after = (jnp.array([[[1.0, 0.0], [1.0, 0.0]]]), (1, 2), 0)
  assert follow_back([before, after]).tolist() == [[[0.5, 0.5, 0.0, 0.0]]]


def test_a_class_token_is_what_the_head_reads():
  matrix = jnp.array([[[0.1, 0.7, 0.2], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])
  found = follow_back([(matrix, (1, 2), 1)])
  np.testing.assert_allclose(found, [[[0.7, 0.2]]], rtol=1e-6)


def _compute_weights(model, variables, images):
  """Returns the attention of tiny's only block, [B, heads, N, N], by NumPy."""
  _, sown = model.apply(
    variables, images, train=False, mutable=['intermediates']
  )
  x = np.asarray(sown['intermediates']['s1'])  # [2, 8, 12, C]
  params = jax.tree.map(np.asarray, variables['params']['s2_block_0'])
  mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
  norm = params['attention_norm']
  x = (x - mean) / np.sqrt(var + 1e-5) * norm['scale'] + norm['bias']
  x = x.reshape(2, 4, 2, 6, 2, -1).max((2, 4)).reshape(2, 24, -1)
  kernel, bias = (params['attention']['qkv'][n] for n in ('kernel', 'bias'))
  q, k = (
    np.einsum('bnc,chd->bhnd', x, kernel[:, i]) + bias[i][:, None]
    for i in (0, 1)
  )
  logits = np.einsum('bhqd,bhkd->bhqk', q, k) / np.sqrt(q.shape[-1])
  table = params['attention']['relative_position_bias_table']
  rows, columns = np.divmod(np.arange(24), 6)
  logits += table[
    :,
    rows[:, None] - rows + 3,
    columns[:, None] - columns + 5,
  ]
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  return weights / weights.sum(-1, keepdims=True)


def test_a_heads_attention_is_that_of_a_position():
  model, variables, images = _create()
  weights = _compute_weights(model, variables, images)
  assert find_attention_blocks(model, variables, images) == {
    's2_block_0': (1, (4, 6))
  }
  found = compute_head_attention(
    model, variables, images, block='s2_block_0', position=(2, 5), head=0
  )
  expected = weights[:, 0, 2 * 6 + 5].reshape(2, 4, 6)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
  assert expected.max() > 2 / 24


def test_rollout_of_one_block_is_half_its_attention():
  model, variables, images = _create()
  weights = _compute_weights(model, variables, images)
  found = compute_rollout(model, variables, images)
  expected = (weights[:, 0].mean(1) + 1 / 24) / 2
  np.testing.assert_allclose(
    found.reshape(2, 24), expected, rtol=1e-3, atol=1e-6
  )
  np.testing.assert_allclose(found.sum((1, 2)), 1, rtol=1e-5)


def test_relevance_weighs_attention_by_the_classs_gradient():
  """Against attention that is differentiated by its own weights."""
  model, variables, images = _create()
  classes = np.array([0, 2])
  found = compute_relevance(model, variables, images, classes)
  weights = _compute_weights(model, variables, images)

  def compute_logits(given):
    def intercept(call, args, kwargs, context):
      if (
        isinstance(context.module, RelativeAttention)
        and context.method_name == 'attend'
      ):
        return jnp.einsum('bhqk,bkhd->bqhd', given, args[2])
      return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
      logits = model.apply(variables, images, train=False)
    return logits[jnp.arange(2), classes].sum()

  by_weight = jax.grad(compute_logits)(jnp.asarray(weights, jnp.float32))
  read = np.maximum(weights * np.asarray(by_weight), 0).mean(1)
  expected = read.mean(1)
  np.testing.assert_allclose(
    found.reshape(2, 24), expected, rtol=1e-2, atol=1e-6
  )
  assert expected.max() > 0


@pytest.mark.slow
@pytest.mark.rotating
def test_the_baseline_has_maps_too():
  model, variables, images = _create(
    'cnn_stem_vit',
    factor=1.0,
    stem_widths=(8,),
    width=16,
    depth=2,
    num_heads=2,
  )
  assert find_attention_blocks(model, variables, images) == {
    'block_0': (2, (4, 6)),
    'block_1': (2, (4, 6)),
  }
  rollout = compute_rollout(model, variables, images)
  assert rollout.shape == (2, 4, 6)
  assert (rollout.sum((1, 2)) < 1).all()
  relevance = compute_relevance(model, variables, images, np.array([0, 1]))
  assert relevance.shape == (2, 4, 6)
  assert (relevance > 0).any()
  found = compute_head_attention(
    model, variables, images, block='block_1', position=(1, 2), head=1
  )
  assert found.shape == (2, 4, 6)
  assert (found.sum((1, 2)) < 1).all()
  assert not compute_bias_tables(model, variables, (16, 24))


def test_tables_are_by_query_minus_key():
  table = 'relative_position_bias_table'
  model, variables, _ = _create()
  (found,) = compute_bias_tables(model, variables, (16, 24)).values()
  learned = variables['params']['s2_block_0']['attention'][table]
  np.testing.assert_array_equal(found, learned)
  other, variables, _ = _create(
    transformer={'relative_position': 'table_key_minus_query'}
  )
  (found,) = compute_bias_tables(other, variables, (16, 24)).values()
  learned = variables['params']['s2_block_0']['attention'][table]
  np.testing.assert_array_equal(found, learned[:, ::-1, ::-1])


def test_a_model_without_attention_has_no_blocks():
  model = create_model(
    'tiny', num_classes=3, image_size=(16, 16), stages=TINY.stages[:1]
  )
  images = jnp.zeros((1, 16, 16, 3))
  variables = jax.eval_shape(
    lambda: model.init(jax.random.key(0), images, train=False)
  )
  assert find_attention_blocks(model, variables, images) == {}
