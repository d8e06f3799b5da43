"""Writes checkpoints as `torch.save` does, without torch."""

import collections
import dataclasses
import io
import pathlib
import pickle
import zipfile
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class _Global:
  """A name that is written as such."""

  module: str
  name: str


@dataclasses.dataclass(frozen=True)
class _Storage:
  """The bytes of an array."""

  key: str
  size: int
  kind: str


class _Pickler(pickle._Pickler):
  """Writes arrays as torch writes tensors, and keeps them."""

  def __init__(self, file):
    super().__init__(file, 2)
    self.arrays = []

  def persistent_id(self, value):
    if not isinstance(value, _Storage):
      return None
    storage_type = _Global('torch', value.kind)
    return ('storage', storage_type, value.key, 'cpu', value.size)

  def save(self, value, *args, **kwargs):
    if isinstance(value, _Global):
      self.write(b'c%s\n%s\n' % (value.module.encode(), value.name.encode()))
    elif isinstance(value, np.ndarray):
      kind = 'LongStorage' if value.dtype == np.int64 else 'FloatStorage'
      storage = _Storage(str(len(self.arrays)), value.size, kind)
      self.arrays.append(np.asarray(value, order='C'))
      strides = [s // value.itemsize for s in self.arrays[-1].strides]
      self.save(_Global('torch._utils', '_rebuild_tensor_v2'))
      hooks = collections.OrderedDict()
      self.save((storage, 0, value.shape, tuple(strides), False, hooks))
      self.write(pickle.REDUCE)
    else:
      super().save(value, *args, **kwargs)


def write_torch_file(path: pathlib.Path, content: Any) -> None:
  """Writes values, in which arrays of float32 and int64 are tensors."""
  buffer = io.BytesIO()
  pickler = _Pickler(buffer)
  pickler.dump(content)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', buffer.getvalue())
    for key, array in enumerate(pickler.arrays):
      archive.writestr(f'archive/data/{key}', array.tobytes())
