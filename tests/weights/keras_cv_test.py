import gzip
import json
import pathlib

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from coatnet_jax import errors
from coatnet_jax.models import architecture, factory
from coatnet_jax.tree_names import flatten
from coatnet_jax.weights import files, keras_cv, names
from tests.golden import keras_cv_cases as cases

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
SMALL = GOLDEN / 'keras_cv_small.h5'
KINDS = ('mbconv', 'mbconv', 'transformer', 'transformer')
# Trainable, at 224 px.
NUM_PARAMETERS = {
  'CoAtNet0': 23_279_570,
  'CoAtNet1': 40_436_846,
  'CoAtNet2': 71_613_904,
  'CoAtNet3': 160_135_876,
  'CoAtNet4': 268_495_828,
  'CoAtNet5': 674_417_200,
  'CoAtNet6': 1_333_928_982,
  'CoAtNet7': 2_410_874_904,
}


def create_stages(kinds, num_blocks=cases.NUM_BLOCKS, widths=cases.WIDTHS):
  return tuple(
    architecture.Stage((architecture.BlockGroup(*group),))
    for group in zip(kinds, num_blocks, widths)
  )


def create_small():
  return factory.create_model(
    'coatnet_0_keras_cv',
    num_classes=cases.NUM_CLASSES,
    stem={'widths': (cases.STEM_WIDTH,) * 2},
    stages=create_stages(KINDS),
    image_size=cases.IMAGE_SIZE,
  )


def get_target(model, image_size=None):
  size = image_size or model.variant.image_size
  return jax.eval_shape(
    lambda: model.init(
      jax.random.key(0),
      jnp.zeros((1, *size, 3)),
      train=False,
      mutable=['params', 'batch_stats'],
    )
  )


def convert(tensors, model, image_size=None):
  return names.to_variables(
    tensors,
    get_target(model, image_size),
    keras_cv.naming(model.variant),
    source='FILE',
  )


@pytest.fixture(scope='module')
def tensors():
  return files.read_weights(SMALL).tensors


@pytest.fixture(scope='module')
def shapes():
  text = gzip.decompress((GOLDEN / 'keras_cv_shapes.json.gz').read_bytes())
  return json.loads(text)


def test_gives_the_logits_and_maps_that_keras_gives(tensors):
  model = create_small()

  @jax.jit
  def apply(variables, images):
    return model.apply(
      variables, images, train=False, mutable=['intermediates']
    )

  images = cases.create_images()
  logits, state = apply(convert(tensors, model), images)

  found = {'logits': logits}
  for name in cases.MAP_NAMES:
    array = np.asarray(state['intermediates'][name])
    for part, value in cases.summarise_map(array).items():
      found[f'maps/{name}/{part}'] = value
  expected = load_file(GOLDEN / 'keras_cv_small.safetensors')
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    # Measured: 6e-7 of the range. GELU's other form makes 8e-5 or more.
    np.testing.assert_allclose(
      found[name], value, rtol=0, atol=2e-5 * np.ptp(value), err_msg=name
    )


def test_uses_each_number_once(tensors):
  model = create_small()
  variables = convert(tensors, model)

  back = names.to_tensors(variables, keras_cv.naming(model.variant))

  assert back.keys() == tensors.keys()
  for name, value in tensors.items():
    np.testing.assert_array_equal(back[name], value, err_msg=name)


def test_reads_files_of_weights_alone(tensors, tmp_path):
  path = tmp_path / 'weights.h5'
  # What Keras' save_weights writes: make_keras_cv_golden.py compares them.
  with h5py.File(SMALL) as whole, h5py.File(path, 'w') as weights:
    group = whole['model_weights']
    for name in group:
      whole.copy(group[name], weights)
    weights.attrs.update(group.attrs)

  found = files.read_weights(path).tensors

  assert found.keys() == tensors.keys()
  for name, value in tensors.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)


# Of the others no block is of another form.
@pytest.mark.parametrize('number', [0, 6])
def test_names_every_weight_of_the_full_models(shapes, number):
  expected = shapes[f'CoAtNet{number}']['shapes']
  model = factory.create_model(f'coatnet_{number}_keras_cv')

  assert get_their_shapes(model) == expected


@pytest.mark.slow
@pytest.mark.parametrize('name', ['T', '1', '2', '3', '4', '5', '7'])
def test_names_every_weight_of_the_other_full_models(shapes, name):
  expected = shapes[f'CoAtNet{name}']['shapes']
  model = factory.create_model(f'coatnet_{name.lower()}_keras_cv')

  assert get_their_shapes(model) == expected


def get_their_shapes(model):
  naming = keras_cv.naming(model.variant)
  found = {}
  for path, leaf in flatten(get_target(model)).items():
    tensor = naming(path)
    found[tensor.name] = list(names.compute_their_shape(tensor, leaf.shape))
  return found


def test_golden_models_have_the_known_numbers_of_parameters(shapes):
  found = {name: shapes[name]['num_trainable'] for name in NUM_PARAMETERS}

  assert found == NUM_PARAMETERS
  for name, number in NUM_PARAMETERS.items():
    sizes = {
      key: int(np.prod(shape))
      for key, shape in shapes[name]['shapes'].items()
      if '/moving_' not in key
    }
    assert sum(sizes.values()) == number


def test_keeps_the_files_number_of_classes_and_grid(tensors):
  model = create_small().clone(num_classes=3)

  params = convert(tensors, model, image_size=(96, 128))['params']

  assert params['head_logits']['kernel'].shape == (96, 7)
  table = params['s3_block_0']['attention']['relative_position_bias_table']
  np.testing.assert_array_equal(
    table.reshape(2, 49),
    tensors['stack_3_block_1_mhsa_pos_emb/positional_embedding'],
  )
  assert table.shape == (2, 7, 7)


def test_takes_a_table_for_square_where_ours_has_as_many_entries():
  naming = keras_cv.naming(create_small().variant)
  name = 'params/s3_block_0/attention/relative_position_bias_table'
  table = np.arange(2 * 81).reshape(2, 81)

  # A grid of 2x14 has 3x27 entries, and so has one of 5x5.
  found = naming(name).layout.to_ours(table, (2, 3, 27))

  np.testing.assert_array_equal(found, table.reshape(2, 9, 9))


def test_lists_all_that_does_not_fit(tensors):
  tensors = dict(tensors)
  del tensors['stack_1_block_1_preact_bn/moving_mean']
  tensors['predictions_2/kernel'] = np.zeros((96, 7), np.float32)
  misshaped = {
    # A queries, keys and values kernel with its axes swapped has its size.
    'stack_3_block_1_mhsa_qkv_conv/kernel': (1, 1, 192, 64),
    'stack_3_block_2_mhsa_output/kernel': (1, 1, 64, 64),
    'stack_1_block_1_expand_conv/kernel': (128, 32),
    'stack_1_block_1_MB_pw_conv/kernel': (3, 3, 128, 32),
    'stack_1_block_1_MB_dw_conv/depthwise_kernel': (3, 3, 1, 128),
    'stack_2_block_1_MB_dw_conv/depthwise_kernel': (9, 128),
    'stack_3_block_1_mhsa_pos_emb/positional_embedding': (2, 45),
    'stack_3_block_2_mhsa_pos_emb/positional_embedding': (2, 64),
    'stack_4_block_1_mhsa_pos_emb/positional_embedding': (9,),
    'predictions/bias': (7, 1),
    'stem_1_bn/gamma': (),
  }
  for name, shape in misshaped.items():
    tensors[name] = np.zeros(shape, np.float32)

  with pytest.raises(errors.UserError, match='13 of its tensors') as caught:
    convert(tensors, create_small())

  lines = str(caught.value).splitlines()[1:]
  assert len(lines) == 13
  assert '  stack_1_block_1_preact_bn/moving_mean: missing in the file' in lines
  assert '  predictions_2/kernel: not in the model' in lines
  for name, shape in misshaped.items():
    [line] = [line for line in lines if line.startswith(f'  {name}:')]
    assert f': {shape} in the file, ' in line
    assert 'in the model' in line
  assert any(
    line.endswith('(1, 1, 192, 64) in the file, (1, 1, 64, 192) in the model')
    for line in lines
  )


def test_refuses_values_as_wide_as_the_output(tensors):
  tensors = dict(tensors)
  # S4 of a file from before April 2022: queries and keys 64, values 96 wide.
  tensors['stack_4_block_1_mhsa_qkv_conv/kernel'] = np.zeros((1, 1, 64, 224))
  tensors['stack_4_block_1_mhsa_output/kernel'] = np.zeros((96, 96))

  with pytest.raises(errors.UserError, match='2 of its tensors') as caught:
    convert(tensors, create_small())

  assert 'mhsa_qkv_conv/kernel: (1, 1, 64, 224) in the file' in str(
    caught.value
  )


@pytest.mark.parametrize(
  ('name', 'kinds'),
  [
    ('coatnet_0', KINDS),
    ('coatnet_rmlp_2_rw_224', KINDS),
    ('coatnext_nano_rw_224', ('convnext',) * 4),
  ],
)
def test_says_what_other_variants_miss(tensors, name, kinds):
  stages = create_stages(kinds, (1,) * 4, (64,) * 4)
  model = factory.create_model(name, stages=stages, image_size=(32, 32))

  with pytest.raises(errors.UserError, match='does not fit') as caught:
    convert(tensors, model)

  assert 'missing in the file' in str(caught.value)
  assert 'stack_3_block_2_mhsa_qkv_conv/kernel: not in' in str(caught.value)


def test_every_file_has_its_mark(tensors, shapes):
  assert keras_cv.MARK in tensors
  assert all(keras_cv.MARK in model['shapes'] for model in shapes.values())
