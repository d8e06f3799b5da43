"""What a WebP's chunks say."""

import dataclasses
import struct
from collections.abc import Iterator

from coatnet_jax.data.picture_files.parts import count_part


@dataclasses.dataclass(frozen=True)
class Webp:
  """What a WebP's chunks say.

  Attributes:
    height: height of the canvas in pixels, or 0.
    width: width of the canvas in pixels, or 0.
    is_lossy: whether the first frame may be lossy.
  """

  height: int
  width: int
  is_lossy: bool


def read_webp(data: bytes) -> Webp:
  """Reads the first chunks of a WebP, to those of its pixels.

  Args:
    data: content of the file.

  Raises:
    UnusualFileError: it has too many chunks.
  """
  height = width = num_chunks = 0
  for kind, place in _walk_webp(data):
    num_chunks = count_part(num_chunks, 'WebP')
    if kind == b'VP8X':
      width = 1 + int.from_bytes(data[place + 4 : place + 7], 'little')
      height = 1 + int.from_bytes(data[place + 7 : place + 10], 'little')
    elif kind == b'VP8L':
      bits = int.from_bytes(data[place + 1 : place + 5], 'little')
      height = max(height, 1 + (bits >> 14 & 0x3FFF))
      width = max(width, 1 + (bits & 0x3FFF))
      return Webp(height, width, is_lossy=False)
    elif kind == b'VP8 ':
      frame = data[place + 6 : place + 10].ljust(4, b'\0')
      frame_width, frame_height = struct.unpack('<HH', frame)
      # The two highest bits say how it is to be enlarged.
      height = max(height, frame_height & 0x3FFF)
      width = max(width, frame_width & 0x3FFF)
      break
    elif kind == b'ANMF':
      break
  return Webp(height, width, is_lossy=True)


def _walk_webp(data: bytes) -> Iterator[tuple[bytes, int]]:
  """Yields the kind and the place of the content of each chunk."""
  place = 12
  while place + 8 <= len(data):
    size = int.from_bytes(data[place + 4 : place + 8], 'little')
    yield data[place : place + 4], place + 8
    place += 8 + size + size % 2
