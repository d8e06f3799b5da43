"""What a PNG's chunks say, and the file without those no decoder needs."""

import dataclasses
import struct
import zlib

from coatnet_jax.data.picture_files.parts import UnusualFileError, count_part

PNG_START = b'\x89PNG\r\n\x1a\n'
# What of a PNG is decoded, and its orientation.
_PNG_PIXELS = (b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND')
_PNG_EXIF = b'eXIf'
# Types of PNG without an alpha channel: grey, RGB and a palette.
_PNG_GREY, _PNG_RGB, _PNG_PALETTE = 0, 2, 3


@dataclasses.dataclass(frozen=True)
class Png:
  """What a PNG's chunks say.

  Attributes:
    height: height of the picture in pixels.
    width: width of the picture in pixels.
    bit_depth: bits of a channel.
    is_grey: whether pixels are shades without an alpha channel.
    has_alpha: whether pixels may be transparent.
    transparent: content of tRNS, which says what is transparent; may be empty.
    exif: block of EXIF; may be empty.
    pixels: the file, without the chunks that no decoder needs.
  """

  height: int
  width: int
  bit_depth: int
  is_grey: bool
  has_alpha: bool
  transparent: bytes
  exif: bytes
  pixels: bytes


def read_png(data: bytes) -> Png:
  """Reads a PNG's chunks, and compares those of its pixels with their sums.

  Args:
    data: content of the file.

  Raises:
    UnusualFileError: it is truncated or damaged, or has too many chunks.
  """
  view = memoryview(data)
  found: dict[bytes, bytes] = {}
  kept, kept_bytes, num_chunks = [view[:8]], 8, 0
  place = len(PNG_START)
  while b'IEND' not in found:
    num_chunks = count_part(num_chunks, 'PNG')
    size = int.from_bytes(view[place : place + 4], 'big')
    kind, end = data[place + 4 : place + 8], place + size + 12
    if end > len(data):
      raise UnusualFileError('truncated PNG')
    if kind in _PNG_PIXELS or kind == _PNG_EXIF:
      content = view[place + 8 : end - 4]
      check = zlib.crc32(content, zlib.crc32(kind))
      if check != int.from_bytes(view[end - 4 : end], 'big'):
        raise UnusualFileError(
          f'damaged PNG: its {kind.decode()} is not what was written'
        )
      if kind != b'IDAT':
        found.setdefault(kind, bytes(content))
      if kind in _PNG_PIXELS:
        kept.append(view[place:end])
        kept_bytes += end - place
    place = end
  header = found.get(b'IHDR', b'')
  if len(header) != 13:
    raise UnusualFileError('damaged PNG: it has no header')
  width, height, bit_depth, color_type = struct.unpack_from('>IIBB', header)
  transparent = found.get(b'tRNS', b'')
  is_whole = kept_bytes == len(data)
  return Png(
    height,
    width,
    bit_depth,
    color_type == _PNG_GREY,
    bool(transparent) or color_type not in (_PNG_GREY, _PNG_RGB, _PNG_PALETTE),
    transparent,
    found.get(_PNG_EXIF, b''),
    data if is_whole else b''.join(kept),
  )
