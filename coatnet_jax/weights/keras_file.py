"""Reading the HDF5 files in which Keras keeps weights by name.

A group per layer lists the names of its weights in an attribute: the files of
Keras 2's `save_weights` and of `model.save('FILE.h5')` in Keras 2 and 3. The
'.weights.h5' files of Keras 3 only number the weights of a layer; they are
refused. So that no TensorFlow is needed, h5py reads the file.
"""

import itertools
import math
import pathlib
import re
from typing import Any

import h5py
import numpy as np

from coatnet_jax.errors import UserError

# A model's own weights, beside those of its layers.
_TOP_LEVEL = 'top_level_model_weights'


def read_keras_file(
  path: pathlib.Path,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Reads the weights of a Keras file.

  Args:
    path: an HDF5 file of weights, or of a whole model.

  Returns:
    '<layer>/<weight>' -> array in the type it is stored in, as in
    'stem_1_conv/kernel', and the versions the file states.

  Raises:
    UserError: it is another HDF5 file, or one of numbered weights.
    Exception: of many kinds, where the file is damaged.
  """
  # Locks are for writers, and network file systems may have none.
  with h5py.File(path, 'r', locking=False) as file:
    root = file.get('model_weights', file)
    if not _has_names(root, 'layer_names'):
      if 'layers' in file or '_layer_checkpoint_dependencies' in file:
        raise UserError(
          f"{path} numbers its weights instead of naming them, as '.weights.h5'"
          ' files do; load it in Keras and save the whole model with'
          " model.save('FILE.h5')."
        )
      raise UserError(
        f'{path} is an HDF5 file, but not one of Keras: it has no layer_names.'
      )
    layers = _read_names(root, 'layer_names')
    if _TOP_LEVEL in root and _TOP_LEVEL not in layers:
      layers.append(_TOP_LEVEL)
    tensors = {}
    for layer in layers:
      for name in _read_names(root[layer], 'weight_names'):
        key = _flat_name(layer, name)
        if key in tensors:
          raise UserError(
            f'{path} has two weights named {key}; save them again.'
          )
        dataset = root[layer][name]
        _check_size(dataset, file)
        tensors[key] = np.asarray(dataset[()])
    metadata = {
      name: _to_str(_read_attribute(root, name))
      for name in ('keras_version', 'backend')
      if name in root.attrs
    }
  return tensors, metadata


def _flat_name(layer: str, name: str) -> str:
  """'<layer>/<weight>' of a weight's name, without TensorFlow's ':0'."""
  name = re.sub(r':\d+$', '', name)
  if layer == _TOP_LEVEL or name.startswith(f'{layer}/'):
    return name
  return f'{layer}/{name}'


def _has_names(group: h5py.Group, attribute: str) -> bool:
  return attribute in group.attrs or f'{attribute}0' in group.attrs


def _read_names(group: h5py.Group, attribute: str) -> list[str]:
  """A list of names; Keras splits a long one: layer_names0, layer_names1."""
  if attribute in group.attrs:
    return [_to_str(name) for name in _read_attribute(group, attribute)]
  if not _has_names(group, attribute):
    raise KeyError(f'{group.name} has no {attribute}')
  names = []
  for index in itertools.count():
    part = f'{attribute}{index}'
    if part not in group.attrs:
      return names
    names += [_to_str(name) for name in _read_attribute(group, part)]


def _read_attribute(group: h5py.Group, attribute: str) -> Any:
  _check_size(group.attrs.get_id(attribute), group.file)
  return group.attrs[attribute]


def _check_size(
  values: h5py.Dataset | h5py.h5a.AttrID, file: h5py.File
) -> None:
  """Raises ValueError where a damaged shape is larger than the whole file.

  Keras compresses nothing. HDF5 itself takes any amount of memory and time.
  """
  size = math.prod(values.shape) * values.dtype.itemsize
  if size > file.id.get_filesize():
    raise ValueError(
      f'an array of shape {values.shape} is larger than the file'
    )


def _to_str(value: str | bytes) -> str:
  return value.decode() if isinstance(value, bytes) else str(value)
