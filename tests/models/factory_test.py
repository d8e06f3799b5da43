import jax
import jax.numpy as jnp
import numpy as np
import pytest

import coatnet_jax
from coatnet_jax.errors import UserError
from coatnet_jax.models.variants import get_variant

# The documented example of lucid's CoAtNetConfig.
LUCID = {
  'img_size': (224, 224),
  'in_channels': 3,
  'num_blocks': (2, 2, 3, 5, 2),
  'channels': (64, 96, 192, 384, 768),
  'num_heads': 32,
  'block_types': ('C', 'C', 'T', 'T'),
}


def _init_shapes(model, *shape):
  return jax.eval_shape(
    lambda x: model.init_with_output(jax.random.key(0), x, train=False),
    jax.ShapeDtypeStruct(shape, jnp.float32),
  )


def test_lucids_example():
  model = coatnet_jax.create_model('coatnet', num_classes=1000, **LUCID)
  logits, variables = _init_shapes(model, 1, 224, 224, 3)
  assert logits.shape == (1, 1000)
  attention = variables['params']['s3_block_0']['attention']
  # 32 heads of 32 channels, whatever the width.
  assert attention['qkv']['kernel'].shape == (192, 3, 32, 32)
  assert attention['out']['kernel'].shape == (1024, 384)


def _initial_bias(name, **options):
  model = coatnet_jax.create_model(name, num_classes=7, **options)
  images = jax.ShapeDtypeStruct((1, *model.variant.image_size, 3), jnp.float32)
  # Nothing but the bias is computed.
  return jax.jit(
    lambda key: model.lazy_init(key, images, train=False)['params'][
      'head_logits'
    ]['bias']
  )(jax.random.key(0))


@pytest.mark.parametrize('name', ['coatnet_mini', 'cnn_stem_vit'])
def test_the_bias_of_the_logits_starts_where_it_is_told(name):
  assert _initial_bias(name).tolist() == [0] * 7
  assert _initial_bias(name, head_bias_init=-10.0).tolist() == [-10] * 7


def test_logits_without_biases_can_start_nowhere():
  with pytest.raises(UserError, match=r'init is -1.0; it must .* no biases'):
    coatnet_jax.create_model(
      'coatnet_mini', head={'use_bias': False}, head_bias_init=-1.0
    )


def test_lucids_scaled_stage_is_that_of_coatnet_6():
  model = coatnet_jax.create_model(
    'coatnet',
    **{
      **LUCID,
      'num_blocks': (2, 2, 4, 42, 2),
      'channels': (192, 192, 384, 1536, 2048),
      'scaled_num_blocks': (8, 42),
      'scaled_channels': (768, 1536),
    },
  )
  assert model.variant.stages == get_variant('coatnet_6').stages
  assert model.variant.stem == get_variant('coatnet_6').stem


def test_lucids_channels_and_size():
  model = coatnet_jax.create_model(
    'coatnet',
    num_classes=4,
    **{
      **LUCID,
      'img_size': (64, 32),
      'in_channels': 5,
      'num_blocks': (3, 1, 1, 1, 1),
      'block_types': 'CTTT',
    },
  )
  logits, variables = _init_shapes(model, 2, 64, 32, 5)
  assert logits.shape == (2, 4)
  params = variables['params']
  assert params['s0_conv_0']['kernel'].shape == (3, 3, 5, 64)
  assert {'s0_norm', 's0_norm_1', 's0_conv_2'} < set(params)
  assert 'attention' in params['s2_block_0']
  with pytest.raises(UserError, match=r'takes \[B, H, W, 5\]'):
    _init_shapes(model, 2, 64, 32, 3)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      {'num_blocks': (2, 3, 5, 2)},
      r'num_blocks is .*; it must be a tuple of 5',
    ),
    (
      {'channels': (0, 1, 1, 1, 1)},
      r'channels is \(0.*, each a whole number, at least 1',
    ),
    ({'block_types': 'CCTX'}, 'block_types is .CCTX.; .* one of C, T'),
    ({'scaled_num_blocks': (8, 42)}, 'go together: give both or neither'),
    ({'num_heads': 0}, 'num_heads is 0; .* at least 1'),
    ({'num_head': 2}, r'no config.model.num_head; .* did you mean num_heads'),
  ],
)
def test_bad_arguments_of_lucids(change, message):
  with pytest.raises(UserError, match=message):
    coatnet_jax.create_model('coatnet', **{**LUCID, **change})


def test_parts_of_a_variant_are_replaced():
  model = coatnet_jax.create_model(
    'coatnet_2', transformer={'head_dim': 64}, head={'pre_logits': False}
  )
  variant = get_variant('coatnet_2_head64')
  assert model.variant.transformer == variant.transformer
  assert not model.variant.head.pre_logits
  assert model.variant.head.norm == 'layer'


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'mbconv': {'stride_in': 'shrink'}}, 'expand, depthwise, pool'),
    ({'mbconv': {'activation': 'tanh'}}, "mbconv.activation is 'tanh'"),
    ({'transformer': {'norm': 'group'}}, "transformer.norm is 'group'"),
    ({'convnext': {'norm': 'group'}}, 'convnext.norm'),
    ({'head': {'norm': 'rms'}}, 'one of batch, layer, none'),
    ({'stem': {'widths': ()}}, 'stem.widths'),
    ({'kernel_init': 'zeros'}, "kernel_init is 'zeros'; .* one of normal_0.02"),
    ({'transformer': {'head_dim': 36}}, 'head_dim is 36; it must divide'),
    ({'feature_maps': ('s5',)}, 'feature_maps is .s5.; .* s0, s1, s2, s3, s4'),
    ({'attention': 'flash'}, 'auto, reference, xla, pallas, cudnn'),
  ],
)
def test_bad_options(change, message):
  with pytest.raises(UserError, match=message):
    coatnet_jax.create_model('coatnet_0', **change)


def test_misspelt_option():
  """A UserError, and a TypeError as Python has it."""
  for name, change, suggestion in (
    ('coatnet_0', {'transformer': {'had_dim': 64}}, 'head_dim'),
    ('coatnet_2', {'num_clases': 10}, 'num_classes'),
    ('coatnet_0_rw_224', {'stochastic_depth': 0.1}, 'stochastic_depth_rate'),
    ('cnn_stem_vit', {'mlp_ration': 2}, 'mlp_ratio'),
  ):
    for kind in (UserError, TypeError):
      with pytest.raises(
        kind, match=rf'one of .*; did you mean {suggestion}\?'
      ):
        coatnet_jax.create_model(name, **change)


def test_feature_maps(tiny_variant):
  """As a backbone: maps by name, and what they are like."""
  del tiny_variant
  whole = coatnet_jax.create_model('tiny')
  backbone = coatnet_jax.create_model('tiny', feature_maps=('s1', 's2'))
  assert [(f.name, f.stride, f.width) for f in backbone.feature_info] == [
    ('s1', 2, 16),
    ('s2', 4, 32),
  ]
  assert [f.stride for f in whole.feature_info] == [2, 2, 4]
  images = jax.random.normal(jax.random.key(1), (2, 8, 16, 3))
  variables = jax.jit(lambda x: whole.init(jax.random.key(0), x, train=False))(
    images
  )
  _, parts = _init_shapes(backbone, *images.shape)
  assert set(parts['params']) == {
    's0_conv_0',
    's0_norm',
    's0_conv_1',
    's1_block_0',
    's2_block_0',
  }

  @jax.jit
  def apply(variables, images):
    maps = backbone.apply(variables, images, train=False)
    _, state = whole.apply(
      variables, images, train=False, mutable=['intermediates']
    )
    return maps, state['intermediates']

  maps, intermediates = apply(variables, images)
  assert jax.tree.map(jnp.shape, maps) == {
    's1': (2, 4, 8, 16),
    's2': (2, 2, 4, 32),
  }
  for name, value in maps.items():
    np.testing.assert_allclose(value, intermediates[name], rtol=1e-6)


def test_cnn_stem_vit_has_the_same_interface():
  model = coatnet_jax.create_model('cnn_stem_vit', num_classes=100, depth=2)
  logits, variables = _init_shapes(model, 2, 56, 56, 3)
  assert logits.shape == (2, 100)
  assert 'block_2' not in variables['params']
  with pytest.raises(
    UserError, match=r'it must be .*, as cnn_stem_vit has no such'
  ):
    coatnet_jax.create_model('cnn_stem_vit', attention='xla')
  backbone = coatnet_jax.create_model('cnn_stem_vit', feature_maps=('s0',))
  maps, _ = _init_shapes(backbone, 2, 56, 56, 3)
  assert maps['s0'].shape == (2, 7, 7, 512)
