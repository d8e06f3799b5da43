"""What a BMP's header says."""

import dataclasses
import struct

# A header of OS/2, in bytes, and what means that pixels are runs.
_BMP_SHORT_HEADER = 12
_BMP_RUN_LENGTHS = (1, 2)


@dataclasses.dataclass(frozen=True)
class Bmp:
  """What a BMP's header says.

  Attributes:
    height: height of the picture in pixels.
    width: width of the picture in pixels.
    has_runs: whether pixels are compressed, as runs of the same one.
  """

  height: int
  width: int
  has_runs: bool


def read_bmp(data: bytes) -> Bmp:
  """Reads a BMP's header; zeros where it is truncated.

  Args:
    data: content of the file.
  """
  data = data[:34].ljust(34, b'\0')
  (header_size,) = struct.unpack_from('<I', data, 14)
  if header_size == _BMP_SHORT_HEADER:
    width, height = struct.unpack_from('<HH', data, 18)
    return Bmp(height, width, False)
  width, height = struct.unpack_from('<ii', data, 18)
  (compression,) = struct.unpack_from('<I', data, 30)
  # A negative height is of rows from the top.
  return Bmp(abs(height), abs(width), compression in _BMP_RUN_LENGTHS)
