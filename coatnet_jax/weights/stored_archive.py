"""Zip archives as `torch.save` writes them: entries as they are, uncompressed.

What an archive asks for is bounded by its own size: the list of its entries is
short, and together they are no larger than the file.
"""

import io
import pathlib
import zipfile

from coatnet_jax.errors import UserError

# 20,000 storages. Python takes fifteen times as much, and long for some.
_MAX_DIRECTORY_BYTES = 2 * 2**20


class _Opened(io.FileIO):
  """A file of which no more than so many bytes are read at a time."""

  largest_read = _MAX_DIRECTORY_BYTES

  def read(self, size=-1):
    """Reads as a file does; ValueError for too many bytes."""
    if size > self.largest_read:
      raise ValueError('its list of entries is too long')
    return super().read(size)


class StoredArchive:
  """An archive that is open until its block ends.

  Attributes:
    names: names of its entries.
    size: bytes of the file.
  """

  def __init__(self, path: pathlib.Path):
    """Opens an archive.

    Raises:
      Exception: of many kinds, where it is damaged.
    """
    self._path = path
    self._file = _Opened(path)
    try:
      self._archive = zipfile.ZipFile(self._file)
      self._file.largest_read = self.size = self._file.seek(0, io.SEEK_END)
      entries = self._archive.infolist()
      self.names = {entry.filename for entry in entries}
      if len(self.names) < len(entries):
        raise ValueError('two of its entries have the same name')
      # Python looks for entries that overlap only from 3.11.8 on.
      if sum(entry.compress_size for entry in entries) > self.size:
        raise ValueError('its entries are larger than the file')
    except BaseException:
      self._file.close()
      raise

  def __enter__(self) -> 'StoredArchive':
    """Returns the archive."""
    return self

  def __exit__(self, *_):
    """Closes the file."""
    self._archive.close()
    self._file.close()

  def read(self, name: str) -> bytes:
    """Returns the bytes of an entry, whose checksum is verified.

    Raises:
      UserError: it is compressed.
      Exception: of many kinds, where it is damaged or not there.
    """
    entry = self._archive.getinfo(name)
    # As torch writes them; so an archive never unpacks to more than its size.
    if entry.compress_type != zipfile.ZIP_STORED:
      raise UserError(
        f'{self._path} is compressed, as torch.save writes no file; save it'
        ' again with torch.save, or as safetensors.'
      )
    if entry.file_size != entry.compress_size:
      raise ValueError('an entry has two sizes')
    return self._archive.read(entry)
