"""AdamW and LAMB by hand, what decays, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.training import optimizers

# One of each kind of parameter, with where it is, and whether it decays.
KINDS = {
  's0_conv_0/kernel': True,
  's0_conv_0/bias': False,
  's1_block_0/pre_norm/scale': False,
  's1_block_0/pre_norm/bias': False,
  's1_block_0/expand/kernel': True,
  's1_block_0/depthwise/kernel': True,
  's1_block_0/depthwise/bias': False,
  's1_block_0/se/squeeze/kernel': True,
  's1_block_0/se/squeeze/bias': False,
  's1_block_0/layer_scale/gamma': False,
  's3_block_1/attention/qkv/kernel': True,
  's3_block_1/attention/relative_position_bias_table': False,
  's3_block_1/attention/relative_position_mlp/hidden/kernel': False,
  's3_block_1/attention/relative_position_mlp/out/bias': False,
  's3_block_1/attention_layer_scale/gamma': False,
  'position_embedding': False,
  'class_position_embedding': False,
  'class_token': False,
  'block_0/attention/query/kernel': True,
  'head_logits/kernel': True,
  'head_logits/bias': False,
}
HYPERPARAMETERS = {
  'name': 'adamw',
  'b1': 0.9,
  'b2': 0.99,
  'eps': 1e-6,
  'weight_decay': 0.3,
  'clip_norm': 1.0,
  'layer_decay': 1.0,
  'frozen': (),
}


def _create(learning_rate=0.1, **changes):
  return optimizers.create_optimizer(
    lambda step: jnp.asarray(learning_rate) * (step + 1),
    **{**HYPERPARAMETERS, **changes},
  )


def _nest(flat):
  tree = {}
  for name, value in flat.items():
    *parents, leaf = name.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = value
  return tree


def _run(tx, params, gradients):
  state = tx.init(params)
  update = jax.jit(tx.update)
  for gradient in gradients:
    updates, state = update(gradient, state, params)
    params = jax.tree.map(jnp.add, params, updates)
  return params


def _run_by_hand(params, gradients, *, decays, clip_norm, lamb=False):
  """The same in float64: Algorithm 2 of arXiv 1711.05101 or of 1904.00962."""
  params = {name: np.float64(value) for name, value in params.items()}
  first = dict.fromkeys(params, 0.0)
  second = dict.fromkeys(params, 0.0)
  for t, gradient in enumerate(gradients, start=1):
    norm = np.sqrt(sum(np.sum(np.float64(g) ** 2) for g in gradient.values()))
    factor = min(1.0, clip_norm / norm) if clip_norm else 1.0
    for name in params:
      g = np.float64(gradient[name]) * factor
      first[name] = 0.9 * first[name] + 0.1 * g
      second[name] = 0.99 * second[name] + 0.01 * g**2
      direction = (first[name] / (1 - 0.9**t)) / (
        np.sqrt(second[name] / (1 - 0.99**t)) + 1e-6
      )
      decay = 0.3 * params[name] if decays[name] else 0.0
      update = direction + decay
      if lamb and decays[name] and np.linalg.norm(params[name]):
        update *= np.linalg.norm(params[name]) / np.linalg.norm(update)
      params[name] = params[name] - 0.1 * t * update
  return params


@pytest.mark.parametrize('name', ['adamw', 'lamb'])
@pytest.mark.parametrize('clip_norm', [0.0, 1.0, 100.0])
def test_four_steps(name, clip_norm):
  rng = np.random.default_rng(0)
  decays = {'kernel': True, 'bias': False, 'scale': False}
  shapes = {'kernel': (3, 2), 'bias': (2,), 'scale': (2,)}
  params = {k: rng.normal(size=s) for k, s in shapes.items()}
  gradients = [
    # The first is within the norm of 1, the others are not.
    {k: size * rng.normal(size=s) for k, s in shapes.items()}
    for size in (0.1, 1.0, 10.0, 3.0)
  ]
  found = _run(
    _create(name=name, clip_norm=clip_norm),
    *jax.tree.map(jnp.float32, (params, gradients)),
  )
  expected = _run_by_hand(
    params,
    gradients,
    decays=decays,
    clip_norm=clip_norm,
    lamb=name == 'lamb',
  )
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-6)


def test_only_decaying_parameters_move_without_gradient():
  params = _nest({name: jnp.full(2, 4.0) for name in KINDS})
  zeros = jax.tree.map(jnp.zeros_like, params)
  moved = _run(_create(), params, [zeros])
  # 4 - 0.1 * 0.3 * 4
  expected = _nest(
    {name: 3.88 if decays else 4.0 for name, decays in KINDS.items()}
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), moved, expected
  )


def test_mask_has_the_structure_of_the_parameters():
  params = _nest({name: jnp.ones(1) for name in KINDS})
  params['s4_identity'] = {}
  mask = optimizers.compute_weight_decay_mask(params)
  assert mask == {**_nest(KINDS), 's4_identity': {}}


def test_first_matching_rule_wins(monkeypatch):
  monkeypatch.setattr(
    optimizers,
    'WEIGHT_DECAY_RULES',
    ((r'^head_logits/kernel$', False), *optimizers.WEIGHT_DECAY_RULES),
  )
  params = {'head_logits': {'kernel': 1.0}, 's0_conv_0': {'kernel': 1.0}}
  assert optimizers.compute_weight_decay_mask(params) == {
    'head_logits': {'kernel': False},
    's0_conv_0': {'kernel': True},
  }


def test_unmatched_parameters_are_all_named():
  params = {
    'a': {'kernel': 1.0, 'my_kernel': 1.0},
    'b': {'kernel_2': 1.0},
    # The end of the path decides, not a folder that is called like one.
    'bias': {'weight': 1.0},
  }
  with pytest.raises(
    ValueError, match=r'a/my_kernel, b/kernel_2, bias/weight$'
  ):
    optimizers.compute_weight_decay_mask(params)
  with pytest.raises(ValueError, match='WEIGHT_DECAY_RULES'):
    _create().init(params)


def test_every_rule_is_needed():
  for pattern, _ in optimizers.WEIGHT_DECAY_RULES:
    rules = [r for r in optimizers.WEIGHT_DECAY_RULES if r[0] != pattern]
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(optimizers, 'WEIGHT_DECAY_RULES', tuple(rules))
      try:
        mask = optimizers.compute_weight_decay_mask(_nest(KINDS))
      except ValueError:
        continue
      assert mask != _nest(KINDS), pattern


def test_state_has_one_structure_with_and_without_clipping():
  params = {'kernel': jnp.ones(3)}
  with_clipping = _create(clip_norm=1.0).init(params)
  without = _create(clip_norm=0.0).init(params)
  assert jax.tree.structure(with_clipping) == jax.tree.structure(without)


def test_lamb_leaves_a_kernel_of_zeros_its_own_step():
  params = {'kernel': jnp.zeros(4), 'bias': jnp.zeros(4)}
  moved = _run(
    _create(name='lamb'), params, [jax.tree.map(jnp.ones_like, params)]
  )
  for value in moved.values():
    np.testing.assert_allclose(value, -0.1, rtol=1e-4)


def test_layer_decay_scales_the_whole_update():
  params = _nest({name: jnp.full(2, 4.0) for name in KINDS})
  gradients = jax.tree.map(lambda x: jnp.array([1.0, -2.0]), params)

  def moves(**changes):
    tx = _create(**changes)
    return tx.update(gradients, tx.init(params), params)[0]

  whole, scaled = moves(), moves(layer_decay=0.5)
  # Stem, s1_block_0, s3_block_1, head; a cnn_stem_vit's block comes first.
  for name, factor in {
    's0_conv_0': 1 / 16,
    'position_embedding': 1 / 16,
    'block_0': 1 / 8,
    's1_block_0': 1 / 4,
    's3_block_1': 1 / 2,
    'head_logits': 1,
  }.items():
    jax.tree.map(
      lambda part, all_of_it, factor=factor: np.testing.assert_allclose(
        part, factor * all_of_it, rtol=2e-5
      ),
      scaled[name],
      whole[name],
    )


def test_frozen_parameters_have_neither_updates_nor_moments():
  params = _nest({name: jnp.full(2, 4.0) for name in KINDS})
  tx = _create(frozen=(r'^s\d_', 'position'))
  state = tx.init(params)
  held = {
    name
    for path, _ in jax.tree_util.tree_leaves_with_path(state)
    for name in KINDS
    if jax.tree_util.keystr(path, simple=True, separator='/').endswith(
      f'/{name}'
    )
  }
  trained = {
    'class_token',
    'block_0/attention/query/kernel',
    'head_logits/kernel',
    'head_logits/bias',
  }
  assert held == trained
  moved = _run(tx, params, [jax.tree.map(jnp.ones_like, params)] * 2)
  for path, leaf in jax.tree_util.tree_leaves_with_path(moved):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    assert bool((leaf == 4).all()) == (name not in trained), name


def test_clipping_does_not_see_frozen_gradients():
  params = {'s0_conv_0': {'kernel': jnp.ones(2)}, 'head': {'bias': jnp.ones(2)}}
  gradients = {
    's0_conv_0': {'kernel': jnp.full(2, 1e6)},
    'head': {'bias': jnp.array([0.3, 0.4])},
  }
  tx = _create(frozen=('s0',), clip_norm=1.0)
  _, state = tx.update(gradients, tx.init(params), params)
  (first,) = (
    leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    if 'mu/head' in jax.tree_util.keystr(path, simple=True, separator='/')
  )
  np.testing.assert_allclose(first, [0.03, 0.04], rtol=1e-5)


def test_freezing_some_changes_no_others_rate():
  params = _nest({name: jnp.full(2, 4.0) for name in KINDS})
  gradients = jax.tree.map(jnp.ones_like, params)
  settings = {'layer_decay': 0.5, 'clip_norm': 0.0}
  whole = _run(_create(**settings), params, [gradients])
  part = _run(_create(**settings, frozen=('^s',)), params, [gradients])
  np.testing.assert_array_equal(
    part['block_0']['attention']['query']['kernel'],
    whole['block_0']['attention']['query']['kernel'],
  )


def test_what_is_off_leaves_the_state_as_it_was():
  params = {'kernel': jnp.ones(3)}
  before = optax.chain(
    optax.identity(), optax.adamw(optax.constant_schedule(0.1))
  ).init(params)
  after = _create(clip_norm=0.0).init(params)
  assert [p for p, _ in jax.tree_util.tree_leaves_with_path(after)] == [
    p for p, _ in jax.tree_util.tree_leaves_with_path(before)
  ]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'name': 'sgd'}, "name is 'sgd'; it must be one of adamw, lamb"),
    ({'b1': 1.0}, r'b1 is 1.0; .* below 1'),
    ({'b2': -0.1}, r'b2 is -0.1; .* at least 0'),
    ({'eps': 0.0}, r'eps is 0.0; .* above 0'),
    ({'weight_decay': -0.1}, r'weight_decay is -0.1; .* at least 0'),
    ({'clip_norm': -1.0}, r'clip_norm is -1.0'),
    ({'clip_norm': float('nan')}, r'clip_norm is nan'),
    ({'layer_decay': 0.0}, r'layer_decay is 0.0; .* above 0'),
    ({'layer_decay': 1.1}, r'layer_decay is 1.1; .* at most 1'),
    ({'frozen': ('a', '*b')}, r"'\*b'\); .* a regular expression"),
    ({'frozen': (3,)}, r'frozen is \(3,\); it must be a tuple .* text'),
    ({'frozen': 'head'}, r"frozen is 'head'; it must be a tuple"),
  ],
)
def test_optimizer_refuses(changes, message):
  with pytest.raises(UserError, match=message):
    _create(**changes)
