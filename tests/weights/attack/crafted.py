"""Hostile files of every format, and what is no file: each with a name."""

import json
import os
import pathlib
import socket
import struct
import tarfile
from collections.abc import Callable

import h5py
import numpy as np

from tests.weights.attack import pickles
from tests.weights.attack.mutations import (
  FIXTURES,
  create_description,
  create_safetensors,
)

# What the files that lead elsewhere lead to.
SECRET = np.arange(1000, 1004, dtype=np.float32)


def _safetensors(header: bytes | dict, data: bytes = bytes(16)) -> bytes:
  if isinstance(header, dict):
    header = json.dumps(header).encode()
  return len(header).to_bytes(8, 'little') + header + data


def _entry(shape=(4,), begin=0, end=16, dtype='F32') -> dict:
  return {'dtype': dtype, 'shape': shape, 'data_offsets': [begin, end]}


def _create_safetensors_files() -> dict[str, bytes]:
  deep = b'[' * 100_000 + b']' * 100_000
  empty = _entry((0,), 0, 0)
  return {
    'length_of_2_to_the_63': b'\xff' * 7 + b'\x7f{' + bytes(99),
    'length_beyond_the_file': (2**31).to_bytes(8, 'little') + b'{"a": 1}',
    'header_of_20_megabytes': _safetensors(
      b'{"w": {}}' + b' ' * (20 * 2**20), b''
    ),
    'nested_header': _safetensors(b'{"w": ' + deep + b'}'),
    'nested_metadata': _safetensors(b'{"__metadata__": ' + deep + b'}'),
    'overlapping_tensors': _safetensors(
      {'a': _entry(), 'b': _entry((2,), 8, 16)}
    ),
    'offsets_beyond_the_file': _safetensors({'a': _entry((2**40,), 0, 2**42)}),
    'offsets_backwards': _safetensors({'a': _entry((4,), 16, 0)}),
    'hole': _safetensors({'a': _entry((2,), 8, 16)}),
    'shape_that_overflows': _safetensors({'a': _entry((2**63, 2**63), 0, 16)}),
    'nothing_of_2_to_the_62': _safetensors(
      {'a': _entry((0, 2**62, 2**62), 0, 0)}, b''
    ),
    'unknown_type': _safetensors({'a': _entry(dtype='\x1b[2J')}),
    'eight_bits': _safetensors({'a': _entry((16,), dtype='F8_E4M3')}),
    'two_hundred_thousand_tensors': _safetensors(
      {f'{i}': empty for i in range(200_000)}, b''
    ),
    'name_twice': _safetensors(
      b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
      b'"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    ),
    'control_characters': _safetensors({'\x1b]0;owned\x07': _entry()}),
    'text_in_two_directions': _safetensors({'a\u202eb': _entry()}),
    'not_finite': _safetensors(
      {'a': _entry()}, struct.pack('<4f', 0, 1, float('-inf'), 3)
    ),
    'too_large_for_float32': _safetensors(
      {'a': _entry((2,), dtype='F64')}, struct.pack('<2d', 1e300, 0)
    ),
    'one_float_of_a_thousand_dimensions': _safetensors(
      {'a': _entry((1,) * 1000, 0, 4)}, bytes(4)
    ),
    # What downloads of a model in parts have beside them.
    'index_of_parts': json.dumps(
      {'weight_map': {'w': '../../../etc/passwd'}}
    ).encode(),
  }


def _create_descriptions() -> dict[str, bytes]:
  def describe(**changes):
    return json.dumps({**create_description(), **changes})

  model = create_description()['model']
  texts = {
    'no_json': '{"model": ',
    'no_object': '[1]',
    'null': 'null',
    'nested': '[' * 200_000,
    'long_number': f'{{"model": {"9" * 100_000}}}',
    'model_is_a_text': describe(model='coatnet_mini'),
    'model_without_a_name': describe(model={'num_classes': 2}),
    'name_is_a_list': describe(model={**model, 'name': ['a']}),
    'unknown_model': describe(model={**model, 'name': '\x1b[2J'}),
    'unknown_key': describe(model={**model, 'a\x1b[2J': 1}),
    'classes_are_a_text': describe(class_names='ab'),
    'classes_are_numbers': describe(class_names=[1, 2]),
    'too_few_classes': describe(class_names=['a']),
    'infinite_classes': describe(model={**model, 'num_classes': float('inf')}),
    'image_of_16384_px': describe(model={**model, 'image_size': [16384] * 2}),
    'ten_thousand_blocks': describe(
      model={
        'name': 'coatnet',
        'num_classes': 2,
        'img_size': [224, 224],
        'in_channels': 3,
        'num_blocks': [10_000] * 5,
        'channels': [64] * 5,
      }
    ),
    'stem_of_a_million': describe(
      model={**model, 'stem': {'widths': [1] * 10**6}}
    ),
    'preprocessing_is_a_list': describe(preprocessing=[1]),
    'preprocessing_of_unknown_keys': describe(preprocessing={'a': 1}),
    'mean_is_a_text': describe(
      preprocessing={**create_description()['preprocessing'], 'mean': 'abc'}
    ),
  }
  return {
    name: create_safetensors({'coatnet_jax': text})
    for name, text in texts.items()
  }


class _Keras:
  """An HDF5 file that is written as Keras does, but for one layer."""

  def __init__(self, path: pathlib.Path, **options):
    self.file = h5py.File(path, 'w', **options)
    self.file.attrs['layer_names'] = [b'a']
    self.group = self.file.create_group('a')
    self.group.attrs['weight_names'] = [b'w']

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.file.close()


def _write_secret(path: pathlib.Path) -> pathlib.Path:
  secret = path.with_name('secret')
  secret.write_bytes(SECRET.tobytes())
  return secret


def _write_other(path: pathlib.Path) -> pathlib.Path:
  """Writes a whole Keras file for others to lead to."""
  other = path.with_name('other.h5')
  with _Keras(other) as keras:
    keras.group['w'] = SECRET
  return other


def _external_storage(path):
  with _Keras(path) as keras:
    keras.group.create_dataset(
      'w', (4,), 'f4', external=[(str(_write_secret(path)), 0, 16)]
    )


def _external_link(path):
  with _Keras(path) as keras:
    keras.group['w'] = h5py.ExternalLink(_write_other(path), 'a/w')


def _external_layer(path):
  with _Keras(path) as keras:
    del keras.file['a']
    keras.file['a'] = h5py.ExternalLink(_write_other(path), 'a')


def _external_model(path):
  with _Keras(path) as keras:
    link = h5py.ExternalLink(_write_other(path), '/')
    keras.file['model_weights'] = link


def _external_own_weights(path):
  with _Keras(path) as keras:
    keras.group['w'] = np.zeros(1, np.float32)
    other = _write_other(path)
    keras.file['top_level_model_weights'] = h5py.ExternalLink(other, 'a')


def _soft_link(path):
  with _Keras(path) as keras:
    keras.file['b'] = SECRET
    keras.group['w'] = h5py.SoftLink('/b')


def _soft_link_to_external(path):
  with _Keras(path) as keras:
    keras.file['b'] = h5py.ExternalLink(_write_other(path), 'a/w')
    keras.group['w'] = h5py.SoftLink('/b')


def _soft_link_to_itself(path):
  with _Keras(path) as keras:
    keras.group['w'] = h5py.SoftLink('/a/w')


def _virtual(path):
  layout = h5py.VirtualLayout((4,), 'f4')
  layout[:] = h5py.VirtualSource(_write_other(path), 'a/w', (4,))
  with _Keras(path) as keras:
    keras.group.create_virtual_dataset('w', layout)


def _virtual_of_itself(path):
  layout = h5py.VirtualLayout((4,), 'f4')
  layout[:] = h5py.VirtualSource('.', 'a/w', (4,))
  with _Keras(path) as keras:
    keras.group.create_virtual_dataset('w', layout)


def _large(path):
  with _Keras(path) as keras:
    keras.group.create_dataset('w', (2**50,), 'f4', chunks=(1024,))


def _no_space(path):
  with _Keras(path) as keras:
    keras.group.create_dataset('w', (2**40,), 'f4')


def _compressed(path):
  with _Keras(path) as keras:
    keras.group.create_dataset(
      'w', data=np.zeros(2**26, np.float32), compression='gzip'
    )


def _unknown_filter(path):
  with _Keras(path) as keras:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((4,))
    # Optional, so that it can be written without it.
    properties.set_filter(32000, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(
      keras.group.id, b'w', h5py.h5t.NATIVE_FLOAT, space, dcpl=properties
    )


def _texts(path):
  with _Keras(path) as keras:
    keras.group['w'] = ['a' * 1000] * 10


def _record(path):
  with _Keras(path) as keras:
    keras.group['w'] = np.zeros(3, [('a', 'f4'), ('b', 'i4')])


def _references(path):
  with _Keras(path) as keras:
    data = keras.group.create_dataset('w', (2,), h5py.ref_dtype)
    data[0] = keras.file.ref


def _empty(path):
  with _Keras(path) as keras:
    keras.group['w'] = h5py.Empty('f4')


def _group_for_array(path):
  with _Keras(path) as keras:
    keras.group.create_group('w')


def _array_for_group(path):
  with _Keras(path) as keras:
    del keras.file['a']
    keras.file['a'] = SECRET


def _array_again_and_again(path):
  with _Keras(path) as keras:
    keras.group['w'] = np.zeros(2**20, np.float32)
    names = [f'w{i}' for i in range(900)]
    for name in names:
      keras.group[name] = keras.group['w']
    keras.group.attrs['weight_names'] = [name.encode() for name in names]


def _group_in_itself(path):
  with _Keras(path) as keras:
    keras.group['a'] = keras.group
    keras.group['w'] = SECRET
    keras.group.attrs['weight_names'] = [b'a/' * 1000 + b'w']


def _lists_without_end(path):
  with _Keras(path) as keras:
    keras.group['w'] = SECRET
    del keras.group.attrs['weight_names']
    for part in range(1500):
      keras.group.attrs[f'weight_names{part}'] = [b'w']


def _many_layers(path):
  with _Keras(path) as keras:
    keras.group['w'] = SECRET
    keras.file.attrs.create(
      'layer_names', np.array([b'a'] * 7000), dtype=np.dtype('S1')
    )


def _large_attribute(path):
  with _Keras(path) as keras:
    space = h5py.h5s.create_simple((2**20,))
    kind = h5py.h5t.py_create(np.dtype('S4000'))
    del keras.file.attrs['layer_names']
    try:
      h5py.h5a.create(keras.file.id, b'layer_names', kind, space)
    except (OSError, RuntimeError):
      keras.file.attrs['layer_names'] = b''


def _parent(path):
  with _Keras(path) as keras:
    keras.group.attrs['weight_names'] = [b'../b', b'/b']
    keras.file['b'] = SECRET


def _control_characters(path):
  with _Keras(path) as keras:
    name = '\x1b]0;owned\x07\n'
    keras.group.attrs['weight_names'] = [name.encode()]
    keras.group[name] = SECRET


def _no_text(path):
  with _Keras(path) as keras:
    keras.group.attrs['weight_names'] = [b'\xff\xfe']
    keras.group[b'\xff\xfe'] = SECRET


def _not_finite(path):
  with _Keras(path) as keras:
    keras.group['w'] = np.array([1, np.nan], np.float64)


def _half_of_16_bits(path):
  with _Keras(path) as keras:
    keras.group['w'] = np.array([1 + 2j])


def _user_block(path):
  with _Keras(path, userblock_size=512) as keras:
    keras.group['w'] = SECRET
  with path.open('r+b') as file:
    file.write(b'\x89HDF\r\n\x1a\n')


def _cut(path):
  with _Keras(path) as keras:
    keras.group['w'] = np.zeros(2**20, np.float32)
  os.truncate(path, path.stat().st_size // 2)


def _loop_of_nodes(path):
  """A list of a group's names that goes on where it began."""
  data = bytearray((FIXTURES / 'keras2_weights.h5').read_bytes())
  start = data.index(b'TREE')
  # What is beside this node is this node.
  data[start + 8 : start + 24] = start.to_bytes(8, 'little') * 2
  data[start + 32 : start + 40] = start.to_bytes(8, 'little')
  path.write_bytes(data)


def _deep_tree(path):
  data = bytearray((FIXTURES / 'keras2_model.h5').read_bytes())
  start = data.index(b'TREE')
  data[start + 5] = 255
  data[start + 32 : start + 40] = start.to_bytes(8, 'little')
  path.write_bytes(data)


_KERAS = (
  *(_external_storage, _external_link, _external_layer, _external_model),
  *(_external_own_weights, _soft_link, _soft_link_to_external),
  *(_soft_link_to_itself, _virtual, _virtual_of_itself, _large, _no_space),
  *(_compressed, _unknown_filter, _texts, _record, _references, _empty),
  *(_group_for_array, _array_for_group, _array_again_and_again),
  *(_group_in_itself, _lists_without_end, _many_layers, _large_attribute),
  *(_parent, _control_characters, _no_text, _not_finite, _half_of_16_bits),
  *(_user_block, _cut, _loop_of_nodes, _deep_tree),
)


def _pipe(path):
  os.mkfifo(path)


def _socket(path):
  with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(str(path))


def _zeros(path):
  path.symlink_to('/dev/zero')


def _terminal(path):
  path.symlink_to('/dev/tty')


def _loop_of_links(path):
  path.symlink_to(path)


def _memory(path):
  path.symlink_to('/proc/self/mem')


def _sparse(start: bytes) -> Callable[[pathlib.Path], None]:
  def write(path):
    path.write_bytes(start)
    os.truncate(path, 2**40)

  return write


def _tar(path):
  with tarfile.open(path, 'w') as archive:
    archive.add(FIXTURES / 'legacy.pth', 'storages')


def _sparse_tar(path):
  header = tarfile.TarInfo('sparse')
  header.type, header.size = tarfile.GNUTYPE_SPARSE, 2**33
  path.write_bytes(header.tobuf())


_OTHERS = {
  'pipe': _pipe,
  'socket': _socket,
  'device_without_end': _zeros,
  'terminal': _terminal,
  'loop_of_links': _loop_of_links,
  'memory_of_the_process': _memory,
  'directory': pathlib.Path.mkdir,
  'sparse_zip': _sparse(b'PK\3\4'),
  'sparse_hdf5': _sparse((FIXTURES / 'keras2_weights.h5').read_bytes()),
  'sparse_safetensors': _sparse(create_safetensors()),
  'old_tar': _tar,
  'sparse_tar': _sparse_tar,
}


def _bytes_writer(data: bytes) -> Callable[[pathlib.Path], None]:
  return lambda path: path.write_bytes(data) and None


def create_writers() -> dict[str, Callable[[pathlib.Path], None]]:
  """Returns functions that write a file to a path, by 'format/name'.

  Those of 'description' are for `worker.ask('describe')`.
  """
  files = {
    'torch': pickles.create_files(),
    'safetensors': _create_safetensors_files(),
    'description': _create_descriptions(),
  }
  return {
    **{
      f'{kind}/{name}': _bytes_writer(data)
      for kind, by_name in files.items()
      for name, data in by_name.items()
    },
    **{f'keras/{write.__name__.strip("_")}': write for write in _KERAS},
    **{f'other/{name}': write for name, write in _OTHERS.items()},
  }
