import pathlib

import h5py
import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.weights import files
from coatnet_jax.weights.files import read_weights
from coatnet_jax.weights.keras_file import read_weights as read_keras_weights

FIXTURES = pathlib.Path(__file__).parent


@pytest.fixture(autouse=True)
def without_a_process(monkeypatch):
  """Reads in this process; keras_process_test.py has the other."""
  monkeypatch.setitem(
    files._READERS, 'keras', lambda path: read_keras_weights(path, str(path))
  )


@pytest.fixture
def write_h5(tmp_path):
  """Writes layers as Keras does: {layer: {weight name: array}}."""

  def write(layers, **attributes):
    path = tmp_path / 'weights.h5'
    with h5py.File(path, 'w') as file:
      file.attrs['layer_names'] = [name.encode() for name in layers]
      for layer, weights in layers.items():
        group = file.create_group(layer)
        group.attrs['weight_names'] = [name.encode() for name in weights]
        for name, array in weights.items():
          group[name] = array
      file.attrs.update(attributes)
    return path

  return write


@pytest.mark.parametrize(
  ('name', 'version'),
  [
    ('keras2_weights.h5', '2.'),
    ('keras2_model.h5', '2.'),
    ('keras3_model.h5', '3.'),
  ],
)
def test_weights_are_read_by_name(name, version):
  # make_keras_fixtures.py: weight i counts from 100 * i.
  shapes = {
    'stem_1_conv/kernel': (1, 1, 2, 3),
    'stem_1_bn/gamma': (3,),
    'stem_1_bn/beta': (3,),
    'stem_1_bn/moving_mean': (3,),
    'stem_1_bn/moving_variance': (3,),
    'attn_pos_emb/positional_embedding': (2, 3),
  }
  weights = read_weights(FIXTURES / name)
  assert weights.format == 'keras'
  assert weights.metadata['keras_version'].startswith(version)
  assert weights.metadata['backend'] == 'tensorflow'
  assert list(weights.tensors) == list(shapes)
  for index, (key, shape) in enumerate(shapes.items()):
    array = weights.tensors[key]
    assert array.dtype == np.float32
    expected = 100 * index + np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(array, expected)


def test_numbered_weights_are_refused():
  with pytest.raises(UserError, match=r"keras3.weights.h5 numbers .*'FILE.h5'"):
    read_weights(FIXTURES / 'keras3.weights.h5')


def test_nested_and_own_weights_are_named(write_h5):
  path = write_h5(
    {
      'mhsa': {'mhsa/query/kernel:0': np.ones(2, np.float16)},
      'inner': {'conv/kernel:0': np.ones((), '>f4')},
      'flatten': {},
      'top_level_model_weights': {'class_token:0': np.arange(3)},
    }
  )
  tensors = read_weights(path).tensors
  assert list(tensors) == [
    'mhsa/query/kernel',
    'inner/conv/kernel',
    'class_token',
  ]
  assert [str(a.dtype) for a in tensors.values()] == [
    'float32',
    'float32',
    'int64',
  ]
  assert tensors['inner/conv/kernel'] == 1


@pytest.mark.parametrize('listed', [[], ['a'], ['a', 'b']])
def test_own_weights_are_read_whether_listed_or_not(write_h5, listed):
  own = 'top_level_model_weights'
  layers = {name: {f'{name}/x:0': np.ones(1)} for name in listed}
  path = write_h5(layers | {own: {'token:0': np.ones(2)}}, layer_names=listed)
  names = [f'{name}/x' for name in listed]
  assert list(read_weights(path).tensors) == [*names, 'token']


def test_split_lists_of_names_are_read(write_h5):
  path = write_h5({'a': {'a/x:0': np.ones(1)}, 'b': {'b/x:0': np.ones(1)}})
  with h5py.File(path, 'a') as file:
    del file.attrs['layer_names'], file['b'].attrs['weight_names']
    file.attrs['layer_names0'] = [b'a']
    file.attrs['layer_names1'] = [b'b']
    file['b'].attrs['weight_names0'] = [b'b/x:0']
  assert list(read_weights(path).tensors) == ['a/x', 'b/x']


def test_other_hdf5_files_are_refused(tmp_path):
  path = tmp_path / 'data.h5'
  with h5py.File(path, 'w') as file:
    file['images'] = np.zeros(3)
  with pytest.raises(UserError, match='not one of Keras'):
    read_weights(path)


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    ('weight_names', 'has no weight_names'),
    ('weight', 'is truncated or damaged'),
    ('twice', 'two weights named a/x'),
    ('large', r'shape \(1099511627776,\) is larger than the file'),
    ('text', 'a/x is of type .S4'),
  ],
)
def test_damaged_structure_is_refused(write_h5, damage, message):
  path = write_h5({'a': {'a/x:0': np.ones(1)}})
  with h5py.File(path, 'a') as file:
    if damage == 'weight_names':
      del file['a'].attrs['weight_names']
    elif damage == 'weight':
      del file['a/a/x:0']
    elif damage == 'twice':
      file['a'].attrs['weight_names'] = [b'a/x:0', b'a/x:0']
    else:
      del file['a/a/x:0']
      if damage == 'large':
        file.create_dataset('a/a/x:0', (2**40,), 'f4', chunks=(1024,))
      else:
        file['a/a/x:0'] = np.bytes_('text')
  with pytest.raises(UserError, match=message):
    read_weights(path)
