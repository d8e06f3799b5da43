"""How deep every parameter of a model is."""

import jax
import jax.numpy as jnp
import pytest

from coatnet_jax import create_model
from coatnet_jax.training.layer_decay import compute_layer_scales
from coatnet_jax.tree_names import flatten

# Layers of coatnet_0: the stem, S1 to S4 (2, 3, 5 and 2 blocks), the head.
COATNET_0 = {
  's0_conv_0': 0,
  's0_norm': 0,
  's0_conv_1': 0,
  **{f's1_block_{i}': 1 + i for i in range(2)},
  **{f's2_block_{i}': 3 + i for i in range(3)},
  **{f's3_block_{i}': 6 + i for i in range(5)},
  **{f's4_block_{i}': 11 + i for i in range(2)},
  'head_norm': 13,
  'head_pre_logits': 13,
  'head_logits': 13,
}


def _scales(name, decay):
  model = create_model(name)
  size = model.variant.image_size
  shapes = jax.eval_shape(
    lambda key: model.lazy_init(
      key, jax.ShapeDtypeStruct((1, *size, 3), jnp.float32), train=False
    ),
    jax.random.key(0),
  )['params']
  scales = compute_layer_scales(shapes, decay)
  names = list(flatten(shapes))
  return dict(zip(names, jax.tree.leaves(scales), strict=True))


def test_every_parameter_of_coatnet_0():
  scales = _scales('coatnet_0', 0.75)
  assert len(scales) == 179
  for name, scale in scales.items():
    layer = COATNET_0[name.split('/')[0]]
    assert scale == pytest.approx(0.75 ** (13 - layer)), name
  assert {name.split('/')[0] for name in scales} == set(COATNET_0)
  assert scales['s0_conv_0/kernel'] == pytest.approx(0.0237573, rel=1e-5)
  assert scales['s1_block_0/shortcut/project/kernel'] == pytest.approx(
    0.0316764, rel=1e-5
  )
  assert scales[
    's3_block_0/attention/relative_position_bias_table'
  ] == pytest.approx(0.1334839, rel=1e-5)
  assert scales['s4_block_1/ffn_shrink/bias'] == 0.75
  assert scales['head_norm/scale'] == scales['head_logits/bias'] == 1


def test_every_parameter_of_a_cnn_stem_vit():
  for name, scale in _scales('cnn_stem_vit', 0.5).items():
    top = name.split('/')[0]
    if top.startswith('block_'):
      layer = 1 + int(top.removeprefix('block_'))
    else:
      layer = 7 if top.startswith('head_') else 0
    assert scale == 0.5 ** (7 - layer), name


def test_blocks_are_counted_and_not_sorted_by_name():
  names = [f's3_block_{i}' for i in range(12)]
  params = {name: {'kernel': 0} for name in ('head_logits', *names)}
  scales = compute_layer_scales(params, 0.5)
  assert [scales[name]['kernel'] for name in names] == [
    0.5 ** (12 - i) for i in range(12)
  ]


def test_what_is_in_no_layer_is_named():
  params = {'s0_conv_0': {'kernel': 0}, 'mixer': {'kernel': 0}, 'gate': 0}
  with pytest.raises(ValueError, match=r'are: gate, mixer/kernel$'):
    compute_layer_scales(params, 0.5)
