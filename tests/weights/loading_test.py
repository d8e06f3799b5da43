"""Weights files into variables: what is explicit, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import coatnet_jax
from coatnet_jax.errors import UserError
from coatnet_jax.weights import names, native, timm
from tests.weights.state_dicts import create_timm_state_dict

NAME = 'test_coatnet'


@pytest.fixture(scope='module')
def state_dict():
  """Returns random weights of test_coatnet with 10 classes, as timm has it."""
  return create_timm_state_dict(NAME, num_classes=10)


@pytest.fixture
def weights(state_dict, tmp_path):
  """Returns a file of them."""
  path = tmp_path / 'weights.safetensors'
  save_file(state_dict, path)
  return path


def _load(path, *, num_classes=10, **kwargs):
  said = []
  model = coatnet_jax.create_model(NAME, num_classes=num_classes)
  variables = coatnet_jax.load_weights(
    model, path, report=said.append, **kwargs
  )
  return variables, said


def test_every_number_arrives_and_goes_back(weights, state_dict):
  variables, said = _load(weights)
  assert said == []
  assert set(variables) == {'params', 'batch_stats'}
  model = coatnet_jax.create_model(NAME, num_classes=10)
  again = timm.to_state_dict(variables, model.variant)
  assert again.keys() == state_dict.keys()
  for name, tensor in state_dict.items():
    np.testing.assert_array_equal(again[name], tensor)
    assert again[name].dtype == tensor.dtype


def test_our_own_names(weights, tmp_path):
  variables, _ = _load(weights)
  path = tmp_path / 'native.safetensors'
  native.write_tensors(
    path,
    names.to_tensors(variables, native.naming),
    native.Description(model={}, preprocessing={}, class_names=()),
  )
  again, said = _load(path)
  assert said == []
  jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_another_size_is_said_explicitly(weights):
  variables, said = _load(weights, image_size=(224, 128))
  assert said == [
    f'{weights}: resized 3 relative position tables, 10x10 to 14x8 and 5x5 to'
    ' 7x4.'
  ]
  attention = variables['params']['s3_block_0']['attention']
  assert attention['relative_position_bias_table'].shape == (2, 27, 15)


def test_tables_of_another_size_are_refused_unless_it_is_said(
  state_dict, tmp_path
):
  name = 'attn.rel_pos.relative_position_bias_table'
  changed = {
    key: np.zeros((27 * 27 if key[7] == '2' else 13 * 13, tensor.shape[1]))
    if key.endswith(name)
    else tensor
    for key, tensor in state_dict.items()
  }
  path = tmp_path / 'other.safetensors'
  save_file({k: np.asarray(v, np.float32) for k, v in changed.items()}, path)
  with pytest.raises(
    UserError, match=r'not for images of 160x160 px.*image_si'
  ):
    _load(path)
  variables, said = _load(path, image_size=(224, 224))
  assert said == []
  attention = variables['params']['s4_block_0']['attention']
  assert attention['relative_position_bias_table'].shape == (3, 13, 13)


def test_a_new_head_is_asked_for(weights):
  with pytest.raises(UserError, match='only where a new head is asked for'):
    _load(weights, num_classes=7)
  variables, said = _load(weights, num_classes=7, new_head=jax.random.key(3))
  assert said == [
    f'{weights}: head_logits: 10 classes replaced by 7, newly initialised.'
  ]
  head = variables['params']['head_logits']
  assert head['kernel'].shape == (128, 7)
  assert np.abs(head['kernel']).max() > 0


def test_a_model_without_a_head(weights):
  variables, _ = _load(weights, num_classes=0)
  assert not any('head' in name for name in variables['params'])
  model = coatnet_jax.create_model(NAME, feature_maps=('s1',))
  variables = coatnet_jax.load_weights(model, weights)
  assert sorted(variables['params']) == [
    's0_conv_0',
    's0_conv_1',
    's0_norm',
    's1_block_0',
  ]


def test_all_that_is_wrong_is_listed(state_dict, tmp_path):
  changed = dict(state_dict)
  del changed['stem.norm1.running_mean']
  del changed['stages.2.blocks.1.attn.qkv.bias']
  changed['stages.1.blocks.0.conv2_kxk.weight'] = np.zeros((128, 1, 5, 5))
  changed['stages.2.blocks.1.attn.proj.weight'] = np.zeros((96, 95, 1, 1))
  changed['one.too.many'] = np.zeros(3)
  path = tmp_path / 'wrong.safetensors'
  save_file({k: np.asarray(v, np.float32) for k, v in changed.items()}, path)
  with pytest.raises(UserError) as error:
    _load(path)
  first, *listed = str(error.value).splitlines()
  assert '5 of its tensors are missing, too many or of another shape' in first
  assert sorted(listed) == [
    '  one.too.many: not in the model',
    '  stages.1.blocks.0.conv2_kxk.weight: (128, 1, 5, 5) in the file,'
    ' (128, 1, 3, 3) in the model',
    '  stages.2.blocks.1.attn.proj.weight: (96, 95, 1, 1) in the file,'
    ' (96, 96, 1, 1) in the model',
    '  stages.2.blocks.1.attn.qkv.bias: missing in the file',
    '  stem.norm1.running_mean: missing in the file',
  ]


@pytest.mark.parametrize(
  'shape', [(2,), (2, 3, 4), (0, 2), (361, 3), (360, 2), ()]
)
def test_a_table_that_can_be_none(state_dict, tmp_path, shape):
  name = 'stages.2.blocks.0.attn.rel_pos.relative_position_bias_table'
  path = tmp_path / 'wrong.safetensors'
  save_file({**state_dict, name: np.zeros(shape, np.float32)}, path)
  with pytest.raises(UserError, match=f'{name}: .* in the file, .361, 2. in'):
    _load(path, image_size=(160, 160))


def test_weights_of_something_else(tmp_path):
  path = tmp_path / 'vit.safetensors'
  save_file({'cls_token': np.zeros((1, 1, 8), np.float32)}, path)
  with pytest.raises(UserError, match='holds no weights for this model'):
    _load(path)


def test_products_may_be_stored_as_such(state_dict, tmp_path):
  """As in files of an older timm: [O, I] for [O, I, 1, 1]."""
  flat = {
    name: tensor[:, :, 0, 0]
    if '.mlp.fc' in name or name.endswith('.attn.proj.weight')
    else tensor
    for name, tensor in state_dict.items()
    if not (name.endswith('.bias') and '.mlp.fc' in name)
  }
  flat |= {k: v for k, v in state_dict.items() if k not in flat}
  path = tmp_path / 'flat.safetensors'
  save_file({k: np.ascontiguousarray(v) for k, v in flat.items()}, path)
  variables, _ = _load(path)
  kernel = variables['params']['s3_block_0']['ffn_expand']['kernel']
  np.testing.assert_array_equal(
    kernel.T, state_dict['stages.2.blocks.0.mlp.fc1.weight'][:, :, 0, 0]
  )


def test_a_written_file_says_what_it_is(tmp_path):
  description = native.Description(
    model={'name': NAME, 'num_classes': 2},
    preprocessing={'image_size': (160, 160), 'interpolation': 'bicubic'},
    class_names=('cat', 'dog'),
  )
  path = tmp_path / 'ours.safetensors'
  native.write_tensors(path, {'a': np.ones(2, np.float32)}, description)
  from coatnet_jax.weights.files import read_weights

  assert native.read_description(read_weights(path)) == description
  np.testing.assert_array_equal(load_file(path)['a'], jnp.ones(2))
