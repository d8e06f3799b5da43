"""Reading state dicts as `torch.save` writes them, without torch.

The file is a zip archive (`stored_archive.py`): `data.pkl`, a pickle of the
values in which tensors only refer to their storages (`torch_pickle.py`), and
`data/<key>`, the bytes of a storage. Which of the values is the state dict,
`torch_checkpoint.py` finds out.
"""

import math
import pathlib

import numpy as np

from coatnet_jax.errors import UserError
from coatnet_jax.weights.stored_archive import StoredArchive
from coatnet_jax.weights.torch_checkpoint import choose_state_dict
from coatnet_jax.weights.torch_pickle import Storage, Tensor, unpickle

# How the format before torch 1.6 starts: a pickled number in these bytes.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, 'little')

# NumPy's own limit is 64, and no weights have more than 6.
_MAX_DIMENSIONS = 32
# What tensors may take together that are parts of the same storages: twice the
# file, as float16 does when it becomes float32, and this.
_SMALL_BYTES = 16 * 2**20


def read_torch_file(
  path: pathlib.Path,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Reads the state dict of a file of torch 1.6 or later.

  A checkpoint's state dict is the dictionary with tensors in it that is named
  as averages are ('state_dict_ema', 'model_ema'), or 'state_dict',
  'model_state_dict' or 'model', or otherwise but not as an optimizer's; of
  several of one kind, the largest. It may lie in other dictionaries.

  Args:
    path: path of a zip archive.

  Returns:
    The tensors in the types they are stored in, C-contiguous, and what else the
    checkpoint says in strings and numbers; there 'state_dict' is the entry that
    was read ('model_ema', 'ema.module'), if the file has entries.

  Raises:
    UserError: the file names anything but tensors, or is not such a file.
    Exception: of many kinds, where the file is damaged.
  """
  with StoredArchive(path) as archive:
    root = _find_root(archive.names, path)
    content = unpickle(archive.read(f'{root}data.pkl'), path)
    state_dict, metadata = choose_state_dict(content, Tensor, path)
    byte_order = '<'
    if f'{root}byteorder' in archive.names:
      order = archive.read(f'{root}byteorder').strip()
      byte_order = {b'little': '<', b'big': '>'}[order]
    arrays = _Arrays(archive, f'{root}data/', byte_order)
    tensors = {}
    for name, tensor in state_dict.items():
      try:
        tensors[name] = arrays.build(tensor)
      except _BadTensorError as error:
        raise UserError(f'{path}: {name} {error}.') from error
  return tensors, metadata


class _BadTensorError(Exception):
  """The rest of a sentence on a tensor."""


def _find_root(names: set[str], path: pathlib.Path) -> str:
  """The folder of the archive that all is in, '' or with a slash."""
  if any(name.endswith('/constants.pkl') or '/code/' in name for name in names):
    raise UserError(
      f'{path} is a TorchScript program, which is not read; save its weights'
      ' with `torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)`.'
    )
  if 'model.weights.h5' in names:
    raise UserError(
      f"{path} is a '.keras' file, which numbers its weights instead of naming"
      " them; load it in Keras and save the model to a '.h5' file."
    )
  roots = [
    name.removesuffix('data.pkl')
    for name in names
    if name == 'data.pkl'
    or (name.endswith('/data.pkl') and name.count('/') == 1)
  ]
  if len(roots) != 1:
    raise UserError(
      f'{path} is a zip archive, but not one that torch.save writes: it has no'
      ' data.pkl.'
    )
  return roots[0]


class _Arrays:
  """The arrays of an archive's tensors, each made once."""

  def __init__(self, archive: StoredArchive, folder: str, byte_order: str):
    self._archive = archive
    self._folder = folder
    self._byte_order = byte_order
    self._storages: dict[str, np.ndarray] = {}
    self._arrays: dict[tuple, np.ndarray] = {}
    self._bytes_left = 2 * archive.size + _SMALL_BYTES

  def build(self, tensor: Tensor) -> np.ndarray:
    """Returns [*tensor.shape] of a tensor, in the type of its storage.

    Raises:
      _BadTensorError: it isn't within its storage.
    """
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    if (
      not isinstance(storage, Storage)
      or not isinstance(shape, tuple)
      or not isinstance(strides, tuple)
      or len(shape) != len(strides)
      or not _are_sizes([tensor.offset, *shape, *strides])
      or len(shape) > _MAX_DIMENSIONS
    ):
      raise _BadTensorError('is not described as a tensor; the file is damaged')
    if tensor.metadata:
      raise _BadTensorError(
        'is a conjugate or negative view; save it after .resolve_neg()'
      )
    # Two names may be of one tensor.
    key = (storage, tensor.offset, shape, strides)
    if key not in self._arrays:
      self._arrays[key] = self._make(tensor, self._read(storage))
    return self._arrays[key]

  def _read(self, storage: Storage) -> np.ndarray:
    """[N] of a storage, of which many tensors may be parts."""
    if storage.key not in self._storages:
      data = self._archive.read(f'{self._folder}{storage.key}')
      self._storages[storage.key] = _decode(
        data, storage.dtype, self._byte_order
      )
    values = self._storages[storage.key]
    if values.dtype != storage.dtype:
      raise _BadTensorError(
        f'is of type {storage.dtype}, and another tensor of the same storage of'
        f' type {values.dtype}; the file is damaged'
      )
    if len(values) != storage.num_elements:
      raise _BadTensorError(
        f'has a storage of {len(values)} elements where {storage.num_elements}'
        ' are stated; the file is damaged'
      )
    return values

  def _make(self, tensor: Tensor, values: np.ndarray) -> np.ndarray:
    shape = tensor.shape
    num_elements = math.prod(shape)
    if not num_elements:
      return np.zeros(shape, values.dtype)
    last = tensor.offset + sum(
      (size - 1) * stride for size, stride in zip(shape, tensor.strides)
    )
    if last >= len(values):
      raise _BadTensorError(
        f'of shape {shape} reaches beyond its storage of'
        f' {len(values)} elements; the file is damaged'
      )
    # Or a small file could ask for any amount of memory.
    if num_elements > len(values):
      raise _BadTensorError(
        f'of shape {shape} repeats the {len(values)} elements of its storage;'
        ' save it after .contiguous()'
      )
    # As float32, if it becomes that.
    integers = values.dtype.kind in 'iub'
    size = values.itemsize if integers else max(values.itemsize, 4)
    self._bytes_left -= num_elements * size
    if self._bytes_left < 0:
      raise _BadTensorError(
        'and tensors before it are parts of the same storages, and far larger'
        ' than these; save them after .clone()'
      )
    view = np.lib.stride_tricks.as_strided(
      values[tensor.offset :],
      shape,
      [stride * values.itemsize for stride in tensor.strides],
      writeable=False,
    )
    return np.asarray(view, order='C')


def _decode(data: bytes, dtype: np.dtype, byte_order: str) -> np.ndarray:
  """[N] of the data in this machine's byte order."""
  # By way of integers, as bfloat16 is only known in one order.
  integers = np.frombuffer(data, f'{byte_order}u{dtype.itemsize}')
  return integers.astype(f'=u{dtype.itemsize}', copy=False).view(dtype)


def _are_sizes(values: list) -> bool:
  return all(isinstance(value, int) and value >= 0 for value in values)
