"""Names and small text files, in whatever encoding they come.

One way to show a name: as UTF-8, and a byte that is no part of it in hex.
The same bytes are the same text in a file's name and in a list of names.
"""

import codecs
import os
import pathlib
import re
import sys

from coatnet_jax.errors import UserError
from coatnet_jax.escapes import escape
from coatnet_jax.paths import describe_special_file

# UTF-32's mark of little-endian order begins like UTF-16's.
_BYTE_ORDER_MARKS = {
  codecs.BOM_UTF8: 'utf-8',
  codecs.BOM_UTF32_LE: 'utf-32-le',
  codecs.BOM_UTF32_BE: 'utf-32-be',
  codecs.BOM_UTF16_LE: 'utf-16-le',
  codecs.BOM_UTF16_BE: 'utf-16-be',
}


def printable(name: str | bytes | os.PathLike[str]) -> str:
  r"""Returns a file's name as text that every file and terminal takes.

  >>> print(printable(b'caf\xc3\xa9 \xff.jpg'))
  café \xff.jpg

  Args:
    name: name from the system: bytes, or a text in which those that it could
      not decode are surrogates.
  """
  try:
    data = os.fsencode(name)
  except UnicodeEncodeError:  # A text that is no name in this locale.
    data = os.fspath(name).encode('utf-8', 'backslashreplace')
  text = data.decode('utf-8', 'backslashreplace')
  # In a name a line's end is none.
  return escape(text).replace('\n', '\\x0a').replace('\t', '\\x09')


def decode_text(data: bytes) -> str:
  r"""Returns the text of a small file, without its byte-order mark.

  >>> decode_text(b'\xef\xbb\xbfcat'), decode_text('cat'.encode('utf-16'))
  ('cat', 'cat')

  Args:
    data: bytes in UTF-8, or in the encoding of their byte-order mark.
  """
  for mark, encoding in _BYTE_ORDER_MARKS.items():
    if data.startswith(mark):
      return data[len(mark) :].decode(encoding, 'backslashreplace')
  return data.decode('utf-8', 'backslashreplace')


def read_text(path: os.PathLike[str]) -> str:
  """Reads a small text file, in any of the encodings of `decode_text`.

  Args:
    path: path of the file.

  Raises:
    UserError: it cannot be read.
  """
  if kind := describe_special_file(pathlib.Path(path)):
    raise UserError(
      f'{printable(path)} cannot be read: it is {kind}, not a file.'
    )
  try:
    text = decode_text(pathlib.Path(path).read_bytes())
  except OSError as error:
    raise UserError(
      f'{printable(path)} cannot be read: {error.strerror}.'
    ) from error
  if '\0' in text:
    raise UserError(f'{printable(path)} cannot be read: it is not text.')
  return text


def read_lines(path: os.PathLike[str]) -> list[str]:
  """Reads the lines of a list: of names, for example.

  Ends of lines may be any system's. Space around a line goes, inside it stays;
  so do empty lines, but for those at the end of the file.

  Args:
    path: path of the file.

  Raises:
    UserError: it cannot be read.
  """
  return _split(read_text(path))


def split_lines(data: bytes) -> list[str]:
  r"""Returns the lines of a file that was read; see `read_lines`.

  >>> split_lines(b'cat \r\n\r\ndog\n')
  ['cat', '', 'dog']
  """
  return _split(decode_text(data))


def _split(text: str) -> list[str]:
  text = text.rstrip()
  if not text:
    return []
  return [line.strip() for line in re.split(r'\r\n|\r|\n', text)]


def read_names(
  path: os.PathLike[str], what: str, *, unique: bool = True
) -> tuple[str, ...]:
  """Reads a list with a name in each line.

  Args:
    path: path of the file.
    what: name of the list in a message: 'The class list'.
    unique: whether no two names may be the same.

  Raises:
    UserError: it cannot be read or is empty; a line is empty, or there twice.
  """
  names = read_lines(path)
  where = f'{what} {printable(path)}'
  if not names:
    raise UserError(f'{where} is empty; each line must be a name.')
  places: dict[str, int] = {}
  for number, name in enumerate(names, 1):
    if not name:
      raise UserError(
        f'{where} has nothing in line {number}; each line is one name, and its'
        ' number is the label.'
      )
    if unique and name in places:
      raise UserError(
        f'{where} has {name} twice, in lines {places[name]} and {number}; leave'
        ' one out.'
      )
    places[name] = number
  return tuple(names)


def use_utf8() -> None:
  """Lets this program read and write any text, whatever the locale is.

  Where the locale has another encoding than UTF-8, as POSIX's, the program is
  started anew in Python's UTF-8 mode: libraries open files in the locale's.
  What a stream has no character for, it shows by its number.
  """
  is_utf8 = sys.getfilesystemencoding().lower() in ('utf-8', 'utf8')
  if not is_utf8 and os.environ.get('PYTHONUTF8') != '1':
    os.environ['PYTHONUTF8'] = '1'
    os.execv(sys.executable, sys.orig_argv)
  for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, 'reconfigure'):
      stream.reconfigure(errors='backslashreplace')
