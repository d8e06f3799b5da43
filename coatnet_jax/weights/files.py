"""Reading other people's weights files, whatever framework wrote them.

    weights = read_weights('coatnet_0_rw_224.safetensors')
    weights.tensors['stem.conv1.weight']  # [64, 3, 3, 3] float32

Neither torch nor TensorFlow is needed, and no file can run code. What the names
mean for a model of ours is decided elsewhere.
"""

import dataclasses
import errno
import os
import pathlib
from typing import BinaryIO, Literal

import ml_dtypes
import numpy as np
from safetensors import safe_open

from coatnet_jax.errors import UserError
from coatnet_jax.paths import describe_special_file, resolve_local_path
from coatnet_jax.texts import printable
from coatnet_jax.weights.keras_process import read_keras_file
from coatnet_jax.weights.limits import check_count, check_names
from coatnet_jax.weights.torch_file import LEGACY_MAGIC, read_torch_file

Format = Literal['safetensors', 'torch', 'keras']

_KINDS = 'a safetensors file, a PyTorch file or a Keras HDF5 file'
# safetensors' names of the types that become float32 or stay integers.
_SAFETENSORS_DTYPES = frozenset(
  ('F64', 'F32', 'F16', 'BF16', 'BOOL')
  + ('I64', 'I32', 'I16', 'I8', 'U64', 'U32', 'U16', 'U8')
)
# 10,000 tensors take 1 MB; the format allows 100.
_MAX_HEADER_BYTES = 16 * 2**20
# Characters.
_MAX_MESSAGE = 2000
# From which size on it is looked at whether a file was written, and in how
# many pieces at most.
_SPARSE_BYTES = 64 * 2**20
_MAX_PIECES = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsFile:
  """What a weights file holds.

  Attributes:
    tensors: arrays by name; float32, an integer type or bool. The arrays cannot
      be written to: two names may share one.
    metadata: other strings and numbers of the file, as text, by name.
    format: kind of the file.
    path: path of the file.
  """

  tensors: dict[str, np.ndarray]
  metadata: dict[str, str]
  format: Format
  path: pathlib.Path


def read_weights(path: str | pathlib.Path) -> WeightsFile:
  """Reads all tensors of a weights file.

  What the file is follows from its content, not its name. A PyTorch
  checkpoint's state dict is read; see `read_torch_file`. Names of a Keras
  file are '<layer>/<weight>'; see `read_keras_file`.

  Args:
    path: path of a safetensors file, of what `torch.save` writes, or of Keras'
      HDF5.

  Returns:
    The tensors; floating point of any width as float32.

  Raises:
    UserError: the file is missing, damaged or no weights file, its weights have
      no names, or it would run code.
  """
  path = resolve_local_path(path, 'the weights file')
  try:
    file_format = _find_format(path)
    tensors, metadata = _read(path, file_format)
  except UserError as error:
    # What it cites of the file may be anything, of any length.
    text = printable(str(error))
    if len(text) > _MAX_MESSAGE:
      text = f'{text[: _MAX_MESSAGE // 2]} ... {text[-_MAX_MESSAGE // 2 :]}'
    raise UserError(text) from error
  return WeightsFile(
    tensors=tensors, metadata=metadata, format=file_format, path=path
  )


def _read(
  path: pathlib.Path, file_format: Format
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """What is in a file; a UserError, whatever is wrong with it."""
  try:
    tensors, metadata = _READERS[file_format](path)
    if not tensors:
      raise UserError(f'{path} has no tensors in it; save the weights again.')
    check_count(len(tensors), path)
    check_names(tensors, path)
    # Two names may be of one array.
    converted: dict[int, np.ndarray] = {}
    for name, array in tensors.items():
      if id(array) not in converted:
        converted[id(array)] = _to_float32(array, name, path)
    return {n: converted[id(a)] for n, a in tensors.items()}, metadata
  except UserError:
    raise
  except MemoryError as error:
    raise UserError(
      f'{path} needs more memory than there is, or is damaged.'
    ) from error
  # Three libraries parse bytes that may be damaged anywhere, and what they
  # raise then is documented for none of them.
  except Exception as error:
    raise UserError(
      f'{path} is truncated or damaged ({_first_line(error)}); get it again.'
    ) from error


def _find_format(path: pathlib.Path) -> Format:
  """The format by the first bytes; a UserError that says what else it is."""
  if kind := describe_special_file(path):
    raise UserError(f'{path} is {kind}; give the weights file itself.')
  try:
    with path.open('rb') as file:
      start = file.read(512)
      size = file.seek(0, os.SEEK_END)
      if size > _SPARSE_BYTES:
        _check_written(file, size, path)
  except FileNotFoundError as error:
    raise UserError(
      f'There is no file {path}; give the path of a file of weights.'
    ) from error
  except OSError as error:
    raise UserError(f'{path} cannot be read: {_first_line(error)}.') from error
  if not size:
    raise UserError(f'{path} is empty; get it again.')
  if start.startswith(b'PK\x03\x04'):
    return 'torch'
  if start.startswith(b'\x89HDF\r\n\x1a\n'):
    return 'keras'
  # The length of the header in 8 bytes, little-endian, then JSON. 2^32 is far
  # above what the format allows and below what eight letters of a text give.
  if start[8:9] == b'{' and int.from_bytes(start[:8], 'little') < 2**32:
    return 'safetensors'
  raise UserError(f'{path} {_describe_foreign(start)}')


def _check_written(file: BinaryIO, size: int, path: pathlib.Path) -> None:
  """Raises UserError for a large file of which most was never written.

  It takes little of a disk, or of an archive, and reads as zeros without end.
  """
  written = end = 0
  for _ in range(_MAX_PIECES):
    try:
      start = os.lseek(file.fileno(), end, os.SEEK_DATA)
      end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
    except OSError as error:
      if error.errno == errno.ENXIO:  # There is no more.
        break
      return  # Nothing is known of it.
    written += end - start
    if written > size // 2:
      return
  raise UserError(
    f'{path} has {size:,} bytes, of which {written:,} were ever written, as'
    ' after a download that was broken off; get it again.'
  )


def _describe_foreign(start: bytes) -> str:
  """What a file is that starts with these bytes: the rest of a sentence."""
  text = start.lstrip(b'\xef\xbb\xbf \t\r\n').lower()
  if text.startswith((b'<!doctype', b'<html', b'<?xml', b'<head')):
    return (
      'is a web page, not a weights file: what it was downloaded from answered'
      ' with a page; get it again from the address of the file itself.'
    )
  if text.startswith(b'version https://git-lfs'):
    return (
      'is a pointer of Git LFS, not the weights file itself; get that with'
      ' `git lfs pull`.'
    )
  if text.startswith(b'{') and b'"weight_map"' in text:
    return (
      'is the list of the parts of weights that are in several files, which are'
      ' not read; save them as one file.'
    )
  if start[257:262] == b'ustar':
    return (
      'is a tar archive, which is not read, be it of PyTorch before 0.2 or'
      ' another one; unpack it, or convert it with a newer torch.'
    )
  if LEGACY_MAGIC in start[:32]:
    return (
      'is of the format of PyTorch before 1.6, which is not read; convert it'
      ' with a newer torch: `torch.save(torch.load(FILE), NEW_FILE)`.'
    )
  if start[:1] == b'\x80' and start[1:2] in (b'\2', b'\3', b'\4', b'\5'):
    return (
      'is a plain Python pickle, which can run code and is not read; save the'
      ' state dict with torch.save, or as safetensors.'
    )
  return f'is not {_KINDS}, or its start is damaged.'


def _read_safetensors(
  path: pathlib.Path,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  tensors = {}
  with path.open('rb') as file:
    length = int.from_bytes(file.read(8), 'little')
  if length > _MAX_HEADER_BYTES:
    raise UserError(
      f'{path} has a header of {length:,} bytes; at most'
      f' {_MAX_HEADER_BYTES:,} are read. It is damaged: get it again.'
    )
  with safe_open(path, framework='numpy') as file:
    names = file.keys()
    check_count(len(names), path)
    for name in names:
      dtype = file.get_slice(name).get_dtype()
      if dtype not in _SAFETENSORS_DTYPES:
        raise _unreadable_dtype(path, name, dtype)
      tensors[name] = file.get_tensor(name)
    return tensors, dict(file.metadata() or {})


_READERS = {
  'safetensors': _read_safetensors,
  'torch': read_torch_file,
  'keras': read_keras_file,
}


def _to_float32(array: np.ndarray, name: str, path: pathlib.Path) -> np.ndarray:
  """Floating point as float32, integers and bool as they are; read-only."""
  if array.dtype.kind == 'f' or array.dtype == ml_dtypes.bfloat16:
    with np.errstate(over='ignore'):
      array = array.astype(np.float32, order='C', copy=False)
  elif array.dtype.kind in 'iub':
    # A type of this machine's byte order.
    array = array.astype(array.dtype.newbyteorder('='), order='C', copy=False)
  else:
    raise _unreadable_dtype(path, name, str(array.dtype))
  if array.dtype.kind == 'f' and not np.isfinite(array).all():
    raise UserError(
      f'{path}: {name} has numbers that are infinite or none (NaN); get the'
      f' file again, or save it without {name}.'
    )
  array.setflags(write=False)
  return array


def _unreadable_dtype(path: pathlib.Path, name: str, dtype: str) -> UserError:
  return UserError(
    f'{path}: {name} is of type {dtype}; only floating point of 16 to 64 bits,'
    ' integers and bool are read.'
  )


def _first_line(error: Exception) -> str:
  """What went wrong, in one line."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  lines = str(error).splitlines()
  return lines[0][:200].rstrip('.') if lines else type(error).__name__
