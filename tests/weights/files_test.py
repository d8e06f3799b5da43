import os
import pathlib
import random

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from coatnet_jax.errors import UserError
from coatnet_jax.weights.files import read_weights

FIXTURES = pathlib.Path(__file__).parent
# float64, float16 and integers; the file adds bfloat16.
ARRAYS = {
  'a': np.arange(6, dtype=np.float32).reshape(2, 3),
  'd': np.array([0.5, 1e-3]),
  'h': np.array([0.25, -2], np.float16),
  'b': np.array([0.1, 3], ml_dtypes.bfloat16),
  'i': np.array([2**40], np.int64),
  'bool': np.array([True, False]),
  's': np.array(3, np.float32),
  'empty': np.zeros((0, 3), np.float32),
}


def _write_safetensors(path, arrays=ARRAYS, **options):
  save_file(arrays, path, **options)
  return path


def _files(tmp_path):
  """A whole file of each format."""
  return {
    'safetensors': _write_safetensors(tmp_path / 'whole.safetensors'),
    'torch': FIXTURES / 'checkpoint.pth',
    'keras': FIXTURES / 'keras2_weights.h5',
  }


def test_safetensors_of_every_type_are_read(tmp_path):
  path = _write_safetensors(
    tmp_path / 'weights.safetensors', metadata={'format': 'pt'}
  )
  weights = read_weights(str(path))
  assert weights.format == 'safetensors'
  assert weights.path == path
  assert weights.metadata == {'format': 'pt'}
  assert weights.tensors.keys() == ARRAYS.keys()
  for name, array in ARRAYS.items():
    read = weights.tensors[name]
    kept = array.dtype.kind in 'ib'
    assert read.dtype == (array.dtype if kept else np.float32)
    assert read.shape == array.shape
    np.testing.assert_array_equal(read, array.astype(read.dtype))


def test_format_follows_from_the_content(tmp_path):
  for file_format, source in _files(tmp_path).items():
    for suffix in ('.safetensors', '.pth', '.h5', ''):
      path = tmp_path / f'renamed{suffix}'
      path.write_bytes(source.read_bytes())
      weights = read_weights(path)
      assert weights.format == file_format
      for array in weights.tensors.values():
        assert array.flags.c_contiguous
        assert not array.flags.writeable


def test_unreadable_types_are_named(tmp_path):
  path = tmp_path / 'weights.safetensors'
  _write_safetensors(path, {'c': np.ones(2, np.complex64)})
  with pytest.raises(UserError, match=f'{path}: c is of type C64'):
    read_weights(path)


def test_file_without_tensors_is_refused(tmp_path):
  path = _write_safetensors(tmp_path / 'weights.safetensors', {})
  with pytest.raises(UserError, match='has no tensors in it'):
    read_weights(path)


def test_what_is_no_file_is_named(tmp_path):
  with pytest.raises(UserError, match=f'There is no file {tmp_path}/a'):
    read_weights(tmp_path / 'a')
  with pytest.raises(UserError, match=f'{tmp_path} is a directory'):
    read_weights(tmp_path)
  (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
  with pytest.raises(UserError, match='loop cannot be read: Too many'):
    read_weights(tmp_path / 'loop')
  with pytest.raises(UserError, match=r'no path has a null'):
    read_weights('a\0b')
  (tmp_path / 'empty').touch()
  with pytest.raises(UserError, match='empty is empty'):
    read_weights(tmp_path / 'empty')


def test_permission_denied_is_said(tmp_path, monkeypatch):
  # The superuser, whom tests may run as, can open everything.
  def deny(path, *_args, **_kwargs):
    raise PermissionError(13, os.strerror(13), str(path))

  path = _write_safetensors(tmp_path / 'weights.safetensors')
  monkeypatch.setattr(pathlib.Path, 'open', deny)
  with pytest.raises(UserError, match=f'{path} cannot be read: Permission'):
    read_weights(path)


@pytest.mark.parametrize(
  ('start', 'message'),
  [
    (b'\xff\xd8\xff\xe0\x00\x10JFIF\x00' + bytes(99), 'is not a safetensors'),
    (b'The weights are elsewhere.\n', 'is not a safetensors'),
    (b'letters {', 'is not a safetensors'),
    (b'\n<!DOCTYPE html><html>404</html>', 'is a web page'),
    (b'\xef\xbb\xbf<HTML>', 'is a web page'),
    (
      b'{"metadata": {}, "weight_map": {"a": "../b"}}',
      'is the list of the parts',
    ),
    (bytes(257) + b'ustar' + bytes(250), 'is a tar archive, which is not read'),
    (
      b'version https://git-lfs.github.com/spec/v1\n',
      'is a pointer of Git LFS',
    ),
    (b'\x80\x04\x95\x10', 'is a plain Python pickle, which can run code'),
    (b'PK\x03\x04' + bytes(40), 'is truncated or damaged'),
    (b'\x89HDF\r\n\x1a\n' + bytes(40), 'is truncated or damaged'),
    (b'\x40\0\0\0\0\0\0\0{"a": 1}', 'is truncated or damaged'),
  ],
)
def test_other_files_are_recognised(tmp_path, start, message):
  path = tmp_path / 'weights.pth'
  path.write_bytes(start)
  with pytest.raises(UserError, match=f'{path} {message}'):
    read_weights(path)


@pytest.fixture(params=['safetensors', 'torch', 'keras'])
def whole_file(request, tmp_path):
  """Returns the bytes of a file of weights."""
  return _files(tmp_path)[request.param].read_bytes()


def test_truncated_files_are_refused(tmp_path, whole_file):
  path = tmp_path / 'cut'
  length = len(whole_file)
  cuts = [1, 7, 9, 200, length // 2, length - 1]
  for cut in cuts:
    path.write_bytes(whole_file[:cut])
    with pytest.raises(UserError, match=f'{path} is (truncated|not a safe)'):
      read_weights(path)


# attack_test.py has Keras' files, and far more.
@pytest.mark.parametrize('file_format', ['safetensors', 'torch'])
def test_damage_raises_nothing_but_user_errors(tmp_path, file_format):
  whole_file = _files(tmp_path)[file_format].read_bytes()
  path = tmp_path / 'damaged'
  generator = random.Random(0)
  messages = []
  for _ in range(60):
    damaged = bytearray(whole_file)
    for _ in range(generator.choice([1, 4, 16])):
      index = generator.randrange(len(whole_file))
      damaged[index] = generator.choice([0, 0x7F, 0xFF])
    path.write_bytes(damaged)
    try:
      read_weights(path)
    except UserError as error:
      messages.append(str(error))
  assert len(messages) > 10
  assert all(str(path) in message for message in messages)
