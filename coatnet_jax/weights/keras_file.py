"""Reading the HDF5 files in which Keras keeps weights by name.

A group per layer lists the names of its weights in an attribute: the files of
Keras 2's `save_weights` and of `model.save('FILE.h5')` in Keras 2 and 3. The
'.weights.h5' files of Keras 3 only number the weights of a layer; they are
refused. So that no TensorFlow is needed, h5py reads the file, in a process of
its own: `keras_process.py`.
"""

import math
import pathlib
import re
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from coatnet_jax.errors import UserError

# A model's own weights, beside those of its layers.
_TOP_LEVEL = 'top_level_model_weights'


# Compressions that are in HDF5 itself; others are loaded from anywhere.
_FILTERS = frozenset(
  (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
)
_MAX_PARTS = 1000


def read_weights(
  path: pathlib.Path,
  opened: str,
  *,
  create: Callable[[tuple[int, ...], np.dtype], np.ndarray] = np.empty,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Reads the weights of a Keras file.

  Args:
    path: path of an HDF5 file of weights, or of a whole model, for errors.
    opened: path by which it is opened.
    create: function that makes an array of a shape and type, to be filled.

  Returns:
    '<layer>/<weight>' -> array in the type it is stored in, as in
    'stem_1_conv/kernel', and the versions the file states.

  Raises:
    UserError: it is another HDF5 file, or one of numbered weights.
    Exception: of many kinds, where the file is damaged.
  """
  # Locks are for writers, and network file systems may have none.
  with h5py.File(opened, 'r', locking=False) as file:
    root = file
    if _has(file, 'model_weights'):
      root = _open(file, 'model_weights', path)
    if not _has_names(root, 'layer_names'):
      if _has(file, 'layers') or _has(file, '_layer_checkpoint_dependencies'):
        raise UserError(
          f"{path} numbers its weights instead of naming them, as '.weights.h5'"
          ' files do; load it in Keras and save the whole model with'
          " model.save('FILE.h5')."
        )
      raise UserError(
        f'{path} is an HDF5 file, but not one of Keras: it has no layer_names.'
      )
    layers = _read_names(root, 'layer_names')
    if _has(root, _TOP_LEVEL) and _TOP_LEVEL not in layers:
      layers.append(_TOP_LEVEL)
    tensors = {}
    for layer in layers:
      group = _open(root, layer, path)
      for name in _read_names(group, 'weight_names'):
        key = _flat_name(layer, name)
        if key in tensors:
          raise UserError(
            f'{path} has two weights named {key}; save them again.'
          )
        dataset = _open(group, name, path)
        _check_dataset(dataset, f'{path}: {key}')
        tensors[key] = create(dataset.shape, dataset.dtype)
        if dataset.size:
          dataset.read_direct(tensors[key])
    metadata = {
      name: _to_str(_read_attribute(root, name))
      for name in ('keras_version', 'backend')
      if name in root.attrs
    }
  return tensors, metadata


def _has(group: h5py.Group, name: str) -> bool:
  """Whether a group has a link of a name, which is not followed."""
  return group.get(name, getlink=True) is not None


def _open(group: h5py.Group, name: str, path: pathlib.Path) -> Any:
  """What lies at a name below a group, if all the way is in the file.

  A link of another kind may lead to another file.
  """
  for part in name.split('/'):
    if not part:
      continue
    link = group.get(part, getlink=True)
    if link is None:
      raise KeyError(f'{group.name} has no {part}')
    if not isinstance(link, h5py.HardLink):
      raise UserError(
        f'{path} has only a link where {part} is to be, perhaps to another'
        ' file, so it is not read; save the weights again.'
      )
    group = group[part]
  return group


def _check_dataset(dataset: Any, where: str) -> None:
  """Raises an error for what HDF5 would open other files or libraries for.

  Raises:
    UserError: it is none that Keras writes.
    ValueError: it is larger than the file.
  """
  if not isinstance(dataset, h5py.Dataset):
    raise ValueError(f'{where.rpartition(": ")[2]} is no array')
  if dataset.dtype.kind not in 'fiub' or dataset.shape is None:
    raise UserError(
      f'{where} is of type {dataset.dtype}; only floating point of 16 to 64'
      ' bits, integers and bool are read.'
    )
  properties = dataset.id.get_create_plist()
  filters = {
    properties.get_filter(n)[0] for n in range(properties.get_nfilters())
  }
  if dataset.is_virtual or properties.get_external_count():
    raise UserError(
      f'{where} lies in another file, so it is not read; save the weights again'
      ' into one file.'
    )
  if not filters <= _FILTERS:
    raise UserError(
      f'{where} is compressed in a way that is not read; save the weights'
      ' again, uncompressed as Keras does.'
    )
  _check_size(dataset, dataset.file)


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
  for index in range(_MAX_PARTS):
    part = f'{attribute}{index}'
    if part not in group.attrs:
      break
    names += [_to_str(name) for name in _read_attribute(group, part)]
  return names


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
