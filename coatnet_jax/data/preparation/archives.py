"""Members of tar archives by their place in the file, without unpacking.

An archive in an archive is a part of the same file, so an image is found by
one offset however deep it lies, and any number of processes can read.
"""

import dataclasses
import io
import pathlib
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from coatnet_jax.errors import UserError
from coatnet_jax.paths import describe_special_file

_BLOCK_SIZE = 512
# A name and what else is said of a member.
_MAX_HEADER_BYTES = 1 << 20
# First bytes: the kind of file, and the program that undoes it.
_COMPRESSED = {
  b'\x1f\x8b': ('gzip', 'gunzip'),
  b'BZh': ('bzip2', 'bunzip2'),
  b'\xfd7zXZ': ('xz', 'unxz'),
  b'\x28\xb5\x2f\xfd': ('zstd', 'unzstd'),
  b'PK': ('zip', 'unzip'),
}


@dataclasses.dataclass(frozen=True)
class Member:
  """A file in an archive.

  Attributes:
    name: path in the archive.
    offset: place of the first byte in the outermost file.
    size: size of the member in bytes.
  """

  name: str
  offset: int
  size: int

  @property
  def base_name(self) -> str:
    """The last part of the path."""
    return self.name.rsplit('/', 1)[-1]


class _Slice(io.RawIOBase):
  """A part of an open file, as a file of its own."""

  def __init__(self, file, offset: int, size: int):
    self._file, self._offset, self._size = file, offset, size
    self._position = 0
    # Of the header that is being read.
    self.header_bytes_left = _MAX_HEADER_BYTES

  def readable(self):
    return True

  def seekable(self):
    return True

  def tell(self):
    return self._position

  def seek(self, position, whence=io.SEEK_SET):
    start = (0, self._position, self._size)[whence]
    self._position = max(start + position, 0)
    return self._position

  def read(self, size=-1):
    # Only headers are read here; one that says that it is long is not believed.
    if not 0 <= size <= self.header_bytes_left:
      raise tarfile.ReadError('a header of more than a MiB')
    self.header_bytes_left -= size
    size = min(size, max(self._size - self._position, 0))
    self._file.seek(self._offset + self._position)
    data = self._file.read(size)
    self._position += len(data)
    return data


def list_members(
  path: pathlib.Path, within: Member | None = None
) -> Iterator[Member]:
  """Yields the files of a tar archive in their order.

  Args:
    path: path of the archive.
    within: member of it that is an archive itself and is to be listed.

  Yields:
    The files; directories are left out.

  Raises:
    UserError: the file is missing, compressed, no tar archive or truncated,
      or a member is a link or a device or has a path that leads outside.
  """
  with _open(path) as file:
    what = f'{within.name} in {path}' if within else str(path)
    if within is None:
      within = Member('', 0, file.seek(0, io.SEEK_END))
    part = _Slice(file, within.offset, within.size)
    _check_start(part, what)
    yield from _scan(part, within, what)


def _open(path: pathlib.Path) -> BinaryIO:
  if kind := describe_special_file(path):
    raise UserError(f'{path} is {kind}, not a file.')
  try:
    return open(path, 'rb')
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error.strerror}.') from error


def _check_start(part: _Slice, what: str) -> None:
  start = part.read(_BLOCK_SIZE)
  part.seek(0)
  for magic, (kind, program) in _COMPRESSED.items():
    if start.startswith(magic):
      raise UserError(
        f'{what} is compressed by {kind}; decompress it first, by {program}, to'
        ' the plain tar archive, whose members are read where they lie.'
      )
  if len(start) < _BLOCK_SIZE:
    raise UserError(f'{what} is empty or truncated; get the archive again.')


def _scan(part: _Slice, within: Member, what: str) -> Iterator[Member]:
  """Yields the members of a tar archive; raises a UserError if it is broken."""
  end = 0
  for info in _read_headers(part, what):
    end = info.offset_data + -(-info.size // _BLOCK_SIZE) * _BLOCK_SIZE
    _check_member(info, what)
    if info.offset_data + info.size > within.size:
      raise UserError(
        f'{what} is truncated: {info.name} goes beyond its end; get it again.'
      )
    if info.isfile():
      yield Member(info.name, within.offset + info.offset_data, info.size)
  part.seek(end)
  # tarfile takes the end of the file, or of what it understands, for the end
  # of the archive; that is a block of zeros.
  if part.read(_BLOCK_SIZE) != bytes(_BLOCK_SIZE):
    raise UserError(
      f'{what} is truncated or damaged: it has no end; get it again.'
    )


def _read_headers(part: _Slice, what: str) -> Iterator[tarfile.TarInfo]:
  try:
    archive = tarfile.TarFile(fileobj=part)
  except Exception as error:  # As below.
    raise UserError(f'{what} is not a tar archive; get it again.') from error
  while True:
    try:
      info = archive.next()
    except Exception as error:  # tarfile raises nearly anything.
      raise UserError(
        f'{what} is truncated or damaged ({error}); get it again.'
      ) from error
    if info is None:
      return
    # It keeps what it has read, which is 14 million members.
    archive.members = []
    part.header_bytes_left = _MAX_HEADER_BYTES
    yield info


def _check_member(info: tarfile.TarInfo, what: str) -> None:
  if info.size < 0:
    raise UserError(
      f'{what} is damaged: {info.name!r} has {info.size:,} bytes; get it again.'
    )
  if info.name.startswith('/') or '..' in info.name.split('/'):
    raise UserError(
      f'{what} has a member {info.name!r}, a path that leads outside; it is'
      ' not one of the published archives.'
    )
  if not (info.isfile() or info.isdir()) or info.issparse():
    raise UserError(
      f'{what} has a member {info.name!r} that is a link or another special'
      ' file; it is not one of the published archives.'
    )
