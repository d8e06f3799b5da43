import argparse
import builtins
import collections
import io
import operator
import os
import pathlib
import pickle
import pickletools
import zipfile

import ml_dtypes
import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.weights.files import read_weights
from tests.weights.shared_views import cut_views

FIXTURES = pathlib.Path(__file__).parent
# Names of make_torch_fixtures.py's model; tensor i counts from 100 * i.
SHAPES = {
  'conv.weight': (3, 2, 3, 3),
  'conv.bias': (3,),
  'norm.weight': (3,),
  'norm.bias': (3,),
  'norm.running_mean': (3,),
  'norm.running_var': (3,),
  'norm.num_batches_tracked': (),
}


def _check_model(tensors, factor):
  assert list(tensors) == list(SHAPES)
  for index, (name, shape) in enumerate(SHAPES.items()):
    expected = np.arange(np.prod(shape, dtype=int)) + 100 * index
    array = tensors[name]
    np.testing.assert_array_equal(array, factor * expected.reshape(shape))
    assert array.dtype == (np.float32 if 'num' not in name else np.int64)


def test_state_dict_is_read():
  weights = read_weights(FIXTURES / 'state_dict.pth')
  assert weights.format == 'torch'
  assert weights.metadata == {}
  _check_model(weights.tensors, 1)


def test_averages_of_a_checkpoint_come_first():
  weights = read_weights(FIXTURES / 'checkpoint.pth')
  _check_model(weights.tensors, 2)
  assert weights.metadata == {
    'arch': 'coatnet_0_rw_224',
    'epoch': '3',
    'metric': '81.5',
    'state_dict': 'state_dict_ema',
  }


def test_a_checkpoint_of_data_parallel_is_read():
  weights = read_weights(FIXTURES / 'data_parallel.pth')
  assert list(weights.tensors) == ['module.weight']
  np.testing.assert_array_equal(weights.tensors['module.weight'], [[1, 2]])
  assert weights.metadata == {'state_dict': 'model'}


def test_every_type_is_read():
  tensors = read_weights(FIXTURES / 'types.pth').tensors
  values = np.arange(6, dtype=np.float32)
  for name in ('parameter', 'float16', 'float64'):
    np.testing.assert_array_equal(tensors[name], values)
    assert tensors[name].dtype == np.float32
  thirds = values.astype(ml_dtypes.bfloat16) / ml_dtypes.bfloat16(3)
  np.testing.assert_array_equal(tensors['bfloat16'], thirds.astype(np.float32))
  assert tensors['bfloat16'].dtype == np.float32
  for name in ('int64', 'int32', 'int16', 'int8', 'uint8', 'bool'):
    assert tensors[name].dtype == np.dtype(name)
  for name in ('int64', 'int32', 'int16', 'int8'):
    np.testing.assert_array_equal(tensors[name], [-1, 0, 1])
  np.testing.assert_array_equal(tensors['uint8'], [0, 1, 2])
  np.testing.assert_array_equal(tensors['bool'], [True, False])
  assert tensors['scalar'].shape == tensors['count'].shape == ()
  assert (tensors['scalar'], tensors['count']) == (7, 8)
  assert tensors['empty'].shape == (0, 3)


def test_views_of_a_shared_storage_are_read():
  expected = cut_views(np.arange(24, dtype=np.float32))
  tensors = read_weights(FIXTURES / 'views.pth').tensors
  assert tensors.keys() == expected.keys()
  for name, array in expected.items():
    np.testing.assert_array_equal(tensors[name], array)
    assert tensors[name].shape == array.shape
    assert tensors[name].flags.c_contiguous


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('legacy.pth', r'is of the format of PyTorch before 1\.6.*torch\.save'),
    ('torchscript.pt', 'is a TorchScript program'),
    ('model.pth', r'refers to torch\.nn\.modules\.container\.Sequential'),
    ('complex.pth', r'refers to torch\.ComplexFloatStorage'),
    ('expanded.pth', r'repeated of shape \(4,\) repeats the 1 elements'),
  ],
)
def test_other_files_of_torch_are_refused(name, message):
  with pytest.raises(UserError, match=f'{name}.* {message}'):
    read_weights(FIXTURES / name)


def _archive(path, data_pkl, storages=(), **options):
  """Writes an archive like torch's, of storages '0', '1' ... of bytes."""
  with zipfile.ZipFile(path, 'w', **options) as archive:
    archive.writestr('archive/data.pkl', data_pkl)
    for key, data in enumerate(storages):
      archive.writestr(f'archive/data/{key}', data)
  return path


def _tensor_pickle(
  offset=0, shape=(4,), strides=(1,), num_elements=4, metadata=None
):
  """{'w': a float32 tensor of storage '0'} as torch pickles it."""

  class Pickler(pickle._Pickler):
    def persistent_id(self, value):
      if isinstance(value, Storage):
        return ('storage', Global('torch', 'FloatStorage'), '0', 'cpu', value.n)
      return None

    def save(self, value, *args, **kwargs):
      if isinstance(value, Global):
        self.write(b'c%s\n%s\n' % (value.module.encode(), value.name.encode()))
      else:
        super().save(value, *args, **kwargs)

  class Global:
    def __init__(self, module, name):
      self.module, self.name = module, name

  class Storage:
    n = num_elements

  file = io.BytesIO()
  pickler = Pickler(file, 2)
  pickler.write(b'\x80\x02}')
  pickler.save('w')
  pickler.save(Global('torch._utils', '_rebuild_tensor_v2'))
  extra = () if metadata is None else (metadata,)
  pickler.save(
    (
      Storage(),
      offset,
      shape,
      strides,
      False,
      collections.OrderedDict(),
      *extra,
    )
  )
  pickler.write(b'Rs.')
  return file.getvalue()


@pytest.mark.parametrize('order', ['little', 'big', None])
def test_either_byte_order_is_read(tmp_path, order):
  values = np.arange(4, dtype='>f4' if order == 'big' else '<f4')
  path = _archive(tmp_path / 'a.pth', _tensor_pickle(), [values.tobytes()])
  if order:
    with zipfile.ZipFile(path, 'a') as archive:
      archive.writestr('archive/byteorder', order)
  np.testing.assert_array_equal(read_weights(path).tensors['w'], np.arange(4))


@pytest.mark.parametrize(
  ('parts', 'message'),
  [
    ({'shape': (5,)}, 'reaches beyond its storage of 4 elements'),
    ({'offset': 1}, 'reaches beyond'),
    ({'strides': (2,)}, 'reaches beyond'),
    ({'offset': 4, 'shape': (), 'strides': ()}, 'reaches beyond'),
    ({'shape': (2**60,), 'strides': (0,)}, 'repeats the 4 elements'),
    ({'offset': -1}, 'is not described as a tensor'),
    ({'shape': (-1,)}, 'is not described as a tensor'),
    ({'shape': (2, 2)}, 'is not described as a tensor'),
    ({'shape': 'ab', 'strides': (1, 1)}, 'is not described as a tensor'),
    ({'offset': 0.5}, 'is not described as a tensor'),
    ({'num_elements': 5}, 'has a storage of 4 elements where 5 are stated'),
    ({'num_elements': -4}, 'a storage is not described as one'),
    ({'metadata': {'neg': True}}, 'is a conjugate or negative view'),
  ],
)
def test_tensor_beyond_its_storage_is_refused(tmp_path, parts, message):
  path = _archive(tmp_path / 'a.pth', _tensor_pickle(**parts), [bytes(16)])
  with pytest.raises(UserError, match=f'{path}.*{message}'):
    read_weights(path)


def test_missing_storage_and_compressed_archive_are_refused(tmp_path):
  path = _archive(tmp_path / 'a.pth', _tensor_pickle())
  with pytest.raises(
    UserError, match=r'is truncated or damaged .*archive/data'
  ):
    read_weights(path)
  _archive(
    path,
    _tensor_pickle(),
    [bytes(16)],
    compression=zipfile.ZIP_DEFLATED,
  )
  with pytest.raises(UserError, match='is compressed'):
    read_weights(path)


def test_other_archives_are_refused(tmp_path):
  path = tmp_path / 'a'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('word/document.xml', b'')
  with pytest.raises(UserError, match=r'not one that torch\.save writes'):
    read_weights(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.write(FIXTURES / 'keras3.weights.h5', 'model.weights.h5')
  with pytest.raises(UserError, match=r"is a '\.keras' file"):
    read_weights(path)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ([1, 2], 'holds a list, not a state dict'),
    ({'a': 1, 'b': [2]}, r'not tensors: a, b;'),
    ({'state_dict': {'epoch': 1}}, 'not tensors: state_dict;'),
    ({str(i): i for i in range(20)}, r'not tensors: 0, .*, 9, \.\.\.;'),
    ({}, 'has no tensors'),
    ({'args': argparse.Namespace(a=1)}, 'not tensors: args;'),
  ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, message):
  path = _archive(tmp_path / 'a.pth', pickle.dumps(content, 2))
  with pytest.raises(UserError, match=message):
    read_weights(path)


class _Call:
  """Is pickled as a call of a function."""

  def __init__(self, function, *args):
    self.call = (function, args)

  def __reduce__(self):
    return self.call


def _malicious(marker):
  """name in the error -> what runs code that makes the marker, unpickled."""
  make = f'import pathlib; pathlib.Path({str(marker)!r}).touch()'
  return {
    'system': _Call(os.system, f'touch {marker}'),
    'exec': _Call(builtins.exec, make),
    'eval': _Call(builtins.eval, f'open({str(marker)!r}, "w")'),
    'attrgetter': _Call(operator.attrgetter('system'), f'touch {marker}'),
    'getattr': _Call(builtins.getattr, 'a', 'upper'),
    '_reconstruct': np.arange(3),
    'defaultdict': collections.defaultdict(list),
  }


@pytest.mark.parametrize('protocol', [0, 2, 4])
@pytest.mark.parametrize('name', list(_malicious('')))
def test_code_is_refused_and_not_run(tmp_path, name, protocol):
  marker = tmp_path / 'marker'
  data = pickle.dumps({'w': _malicious(marker)[name]}, protocol)
  path = _archive(tmp_path / 'a.pth', data)
  with pytest.raises(UserError, match=r'refers to|holds other things') as error:
    read_weights(path)
  assert not marker.exists()
  if protocol == 2:
    assert name in str(error.value)
  # The same as a plain pickle.
  path.write_bytes(data)
  with pytest.raises(UserError, match=r'is (a plain Python pickle|not a safe)'):
    read_weights(path)
  assert not marker.exists()
  # That it does run where it may.
  if name == 'system':
    pickle.loads(data)
    assert marker.exists()


@pytest.mark.parametrize(
  'code',
  [
    # torch.load, which is no name of a state dict.
    b'ctorch\nload\n(X\x01\0\0\0atR.',
    # Dotted names, by which protocol 4 reaches attributes.
    b'\x8c\x0btorch._utils\x8c\x08os.systm\x93)R.',
    b'(X\x01\0\0\0aios\nsystem\n.',
    # Calls of what stands for a class of storages, and of a value.
    b'ctorch\nFloatStorage\n)R.',
    b'})R.',
    # State of classes and of what has none.
    b'ccollections\nOrderedDict\n}X\x0c\0\0\0__setstate__K\x01sb.',
    b'ctorch._utils\n_rebuild_tensor_v2\nN}X\x08\0\0\0__init__K\x01s\x86b.',
    b'}N}X\x09\0\0\0__class__K\x01s\x86b.',
    # An object of a class without its arguments.
    b'}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n)\x81s.',
    # An index of the memo that asks for 16 GB.
    b'}r\xff\xff\xff\x7f.',
    # Extension registry, and memory by a length of 8 bytes.
    b'\x82\x01.',
    b'\x96' + (4).to_bytes(8, 'little') + b'abcd.',
    # A storage that is none.
    b'X\x07\0\0\0storageQ.',
    b'(X\x07\0\0\0storageNNNNtQ.',
  ],
)
def test_abuse_of_what_is_allowed_is_refused(tmp_path, code):
  path = _archive(tmp_path / 'a.pth', b'\x80\x02' + code)
  with pytest.raises(UserError, match=str(path)):
    read_weights(path)
  # And leaves what other files are read with as it was.
  read_weights(FIXTURES / 'checkpoint.pth')


def test_state_of_what_is_allowed_is_forgotten(tmp_path):
  # An OrderedDict whose class and attributes a pickle tries to set.
  code = (
    b'\x80\x02ccollections\nOrderedDict\n)R'
    b'}X\x0c\0\0\0__setstate__K\x01s}X\x09\0\0\0__class__K\x01s\x86b'
  )
  tensor = _tensor_pickle()
  assert tensor.startswith(b'\x80\x02}')
  path = _archive(tmp_path / 'a.pth', code + tensor[3:], [bytes(16)])
  assert list(read_weights(path).tensors) == ['w']


def test_fixtures_are_of_the_formats_they_say():
  with zipfile.ZipFile(FIXTURES / 'checkpoint.pth') as archive:
    data = archive.read('checkpoint/data.pkl')
  names = {
    arg for op, arg, _ in pickletools.genops(data) if op.name == 'GLOBAL'
  }
  assert {'argparse Namespace', 'torch Size', 'torch device'} <= names
  with zipfile.ZipFile(FIXTURES / 'types.pth') as archive:
    assert b'_rebuild_parameter' in archive.read('types/data.pkl')
