"""Reading a file whole, in bounds and without waiting for a pipe."""

import os
import stat


class NotAPictureFileError(ValueError):
  """A device, or a file that is far too large; the message says why."""


def read_file(path: os.PathLike[str], max_bytes: int) -> bytes:
  """Reads a file; never waits for a pipe that nobody writes to.

  Args:
    path: path of the file; also of a pipe that somebody writes to.
    max_bytes: largest size of the file in bytes.

  Raises:
    NotAPictureFileError: it is a device or a socket, or larger.
    OSError: it cannot be read.
  """
  # Without it, to open a pipe waits until somebody writes to it.
  with open(path, 'rb', opener=_open_without_waiting) as file:
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode):
      size = status.st_size
      data = file.read() if size <= max_bytes else b''
    elif stat.S_ISFIFO(status.st_mode):
      os.set_blocking(file.fileno(), True)
      data = file.read(max_bytes + 1)
      size = len(data)
    else:
      raise NotAPictureFileError('it is a device, not a file')
  if size > max_bytes:
    raise NotAPictureFileError(f'the file has more than {max_bytes:,} bytes')
  return data


def _open_without_waiting(path: str, flags: int) -> int:
  return os.open(path, flags | os.O_NONBLOCK)
