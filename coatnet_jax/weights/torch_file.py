"""Reading state dicts as `torch.save` writes them, without torch.

The file is a zip archive: `data.pkl`, a pickle of the values in which tensors
only refer to their storages, and `data/<key>`, the bytes of a storage. A pickle
names functions to call. Here only the few names that a state dict needs are
known, and each stands for an inert class of this module, so that no code of the
file, of torch or of the standard library runs. A file with another name is
refused before that is looked up.
"""

import dataclasses
import io
import math
import pathlib
import pickle
import pickletools
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

from coatnet_jax.errors import UserError
from coatnet_jax.weights.torch_checkpoint import choose_state_dict

# How the format before torch 1.6 starts: a pickled number in these bytes.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, 'little')


class _Inert:
  """Stands for a value that is not read, and refuses or forgets its state.

  With `__setstate__` there is nothing by which a pickle could set an attribute,
  of an instance or of the class.
  """

  __slots__ = ()

  def __new__(cls, *_args):
    return super().__new__(cls)

  def __setstate__(self, state):
    """Forgets the state."""


class _StateDict(dict):
  """Stands for an OrderedDict. Its state is the versions of torch's modules."""

  __slots__ = ()

  def __setstate__(self, state):
    """Forgets the state."""


@dataclasses.dataclass(frozen=True)
class _StorageType(_Inert):
  """Stands for a class of storages."""

  dtype: np.dtype


@dataclasses.dataclass(frozen=True)
class _Storage(_Inert):
  """A reference to `data/<key>`."""

  dtype: np.dtype
  key: str
  num_elements: int


class _Tensor(_Inert):
  """Stands for torch._utils._rebuild_tensor_v2; offset, stride in elements."""

  __slots__ = ('metadata', 'offset', 'shape', 'storage', 'strides')

  def __init__(
    self,
    storage,
    offset,
    shape,
    strides,
    _requires_grad,
    _hooks,
    metadata=None,
  ):
    self.storage = storage
    self.offset = offset
    self.shape = shape
    self.strides = strides
    self.metadata = metadata


class _Parameter(_Inert):
  """Stands for torch._utils._rebuild_parameter: the tensor it is given."""

  __slots__ = ()

  def __new__(cls, tensor, _requires_grad, _hooks):
    return tensor


_STORAGE_DTYPES = {
  'DoubleStorage': np.float64,
  'FloatStorage': np.float32,
  'HalfStorage': np.float16,
  'BFloat16Storage': ml_dtypes.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
  'ShortStorage': np.int16,
  'CharStorage': np.int8,
  'ByteStorage': np.uint8,
  'BoolStorage': np.bool_,
}
# All that a file may name. The training options, a Namespace, stand beside the
# state dict in the checkpoints of many scripts.
_GLOBALS = {
  ('collections', 'OrderedDict'): _StateDict,
  ('torch._utils', '_rebuild_tensor_v2'): _Tensor,
  ('torch._utils', '_rebuild_parameter'): _Parameter,
  ('torch', 'Size'): _Inert,
  ('torch', 'device'): _Inert,
  ('argparse', 'Namespace'): _Inert,
  **{
    ('torch', name): _StorageType(np.dtype(dtype))
    for name, dtype in _STORAGE_DTYPES.items()
  },
}
# What pickles of protocol 2 to 4 consist of. Others either can't occur or let a
# few damaged bytes ask for any amount of memory.
_OPCODES = frozenset(
  (  # noqa: SIM905, a name a line is no clearer
    'PROTO FRAME STOP MARK POP POP_MARK DUP'
    ' NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT'
    ' BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES'
    ' EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS'
    ' EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_SET ADDITEMS FROZENSET'
    ' BINGET LONG_BINGET BINPUT LONG_BINPUT MEMOIZE'
    ' GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD BINPERSID'
  ).split()
)


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
  with zipfile.ZipFile(path) as archive:
    root = _find_root(archive, path)
    content = _unpickle(_read(archive, f'{root}data.pkl', path), path)
    state_dict, metadata = choose_state_dict(content, _Tensor, path)
    byte_order = '<'
    if f'{root}byteorder' in archive.namelist():
      order = _read(archive, f'{root}byteorder', path).strip()
      byte_order = {b'little': '<', b'big': '>'}[order]

    # Many tensors may be parts of one storage.
    storages: dict[str, bytes] = {}

    def read_storage(storage: _Storage) -> np.ndarray:
      if storage.key not in storages:
        name = f'{root}data/{storage.key}'
        storages[storage.key] = _read(archive, name, path)
      return _decode(storages[storage.key], storage.dtype, byte_order)

    tensors = {}
    for name, tensor in state_dict.items():
      try:
        tensors[name] = _build(tensor, read_storage)
      except _BadTensorError as error:
        raise UserError(f'{path}: {name} {error}.') from error
  return tensors, metadata


class _BadTensorError(Exception):
  """The rest of a sentence on a tensor."""


def _find_root(archive: zipfile.ZipFile, path: pathlib.Path) -> str:
  """The folder of the archive that all is in, '' or with a slash."""
  names = archive.namelist()
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


def _read(archive: zipfile.ZipFile, name: str, path: pathlib.Path) -> bytes:
  # As torch writes them; so an archive never unpacks to more than its size.
  if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
    raise UserError(
      f'{path} is compressed, as torch.save writes no file; save it again with'
      ' torch.save, or as safetensors.'
    )
  return archive.read(name)


def _unpickle(data: bytes, path: pathlib.Path) -> Any:
  """Values of the pickle, with inert objects for what it names."""

  def check_global(module: str, name: str) -> Any:
    if (module, name) not in _GLOBALS:
      raise UserError(
        f'{path} refers to {module}.{name}, which no plain state dict does and'
        ' which could run code, so the file is not read; save'
        ' model.state_dict() alone with torch.save, or as safetensors.'
      )
    return _GLOBALS[module, name]

  class Unpickler(pickle.Unpickler):
    """Knows no names but _GLOBALS, and storages as persistent objects."""

    def find_class(self, module_name, global_name):
      """Returns an inert object, or raises UserError."""
      return check_global(module_name, global_name)

    def persistent_load(self, pid):
      """Returns the _Storage of ('storage', type, key, device, elements)."""
      kind, storage_type, key, _, num_elements = pid
      if (
        kind != 'storage'
        or not isinstance(storage_type, _StorageType)
        or not isinstance(key, str)
        or not _are_sizes([num_elements])
      ):
        raise ValueError('a storage is not described as one')
      return _Storage(storage_type.dtype, key, num_elements)

  for opcode, argument, _ in pickletools.genops(data):
    if opcode.name in ('GLOBAL', 'INST'):
      check_global(*argument.split(' ', 1))
    if opcode.name not in _OPCODES:
      raise UserError(
        f'{path} holds other things than a state dict (pickle opcode'
        f' {opcode.name}), so it is not read; save model.state_dict() alone'
        ' with torch.save, or as safetensors.'
      )
    # The memo is an array as long as its largest index.
    if opcode.name == 'LONG_BINPUT' and argument > len(data):
      raise ValueError('an index is out of range')
  return Unpickler(io.BytesIO(data)).load()


def _decode(data: bytes, dtype: np.dtype, byte_order: str) -> np.ndarray:
  """[N] of the data in this machine's byte order."""
  # By way of integers, as bfloat16 is only known in one order.
  integers = np.frombuffer(data, f'{byte_order}u{dtype.itemsize}')
  return integers.astype(f'=u{dtype.itemsize}', copy=False).view(dtype)


def _build(tensor: _Tensor, read_storage) -> np.ndarray:
  """The array of a tensor; _BadTensorError if it isn't within its storage."""
  storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
  if (
    not isinstance(storage, _Storage)
    or not isinstance(shape, tuple)
    or not isinstance(strides, tuple)
    or len(shape) != len(strides)
    or not _are_sizes([tensor.offset, *shape, *strides])
  ):
    raise _BadTensorError('is not described as a tensor; the file is damaged')
  if tensor.metadata:
    raise _BadTensorError(
      'is a conjugate or negative view; save it after .resolve_neg()'
    )
  values = read_storage(storage)
  if len(values) != storage.num_elements:
    raise _BadTensorError(
      f'has a storage of {len(values)} elements where {storage.num_elements}'
      ' are stated; the file is damaged'
    )
  num_elements = math.prod(shape)
  if not num_elements:
    return np.zeros(shape, storage.dtype)
  last = tensor.offset + sum(
    (size - 1) * stride for size, stride in zip(shape, strides)
  )
  if last >= len(values):
    raise _BadTensorError(
      f'of shape {shape} reaches beyond its storage of {len(values)} elements;'
      ' the file is damaged'
    )
  # Or a small file could ask for any amount of memory.
  if num_elements > len(values):
    raise _BadTensorError(
      f'of shape {shape} repeats the {len(values)} elements of its storage;'
      ' save it after .contiguous()'
    )
  view = np.lib.stride_tricks.as_strided(
    values[tensor.offset :],
    shape,
    [stride * values.itemsize for stride in strides],
    writeable=False,
  )
  return np.asarray(view, order='C')


def _are_sizes(values: list) -> bool:
  return all(isinstance(value, int) and value >= 0 for value in values)
