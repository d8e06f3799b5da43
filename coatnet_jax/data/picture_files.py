"""What lies in a picture's file around its pixels, read without a decoder.

A decoder does what a file says: it inflates the file's texts, goes over the
picture once for each scan, and makes a list of a million strips. What a decoder
would do is found out here first, in a time that is bounded by the number of the
file's parts, and what no decoder needs is cut out: texts, profiles, thumbnails.
"""

import dataclasses
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator

# A file has so many parts at most: markers, chunks, blocks, strips. Real ones
# have some thousands.
MAX_PARTS = 1 << 15

# A JPEG's markers: those of frames, that of a scan, that of the end. The search
# passes over what is no marker with a length.
_JPEG_MARKER = re.compile(rb'\xff[^\x00\x01\xff\xd0-\xd8]')
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE_FRAME = 0xC2
_USUAL_FRAMES = frozenset({0xC0, 0xC1, _PROGRESSIVE_FRAME})
_SCAN, _END = 0xDA, 0xD9
_EXIF_SEGMENT, _EXIF_START = 0xE1, b'Exif\0\0'
# Segments of cameras and programs, but for Adobe's, which says what CMYK is.
_JPEG_NOTES = frozenset((*range(0xE0, 0xEE), 0xEF, 0xFE))

PNG_START = b'\x89PNG\r\n\x1a\n'
# What of a PNG is decoded, and its orientation.
_PNG_PIXELS = (b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND')
_PNG_EXIF = b'eXIf'
# Types of PNG without an alpha channel: grey, RGB and a palette.
_PNG_GREY, _PNG_RGB, _PNG_PALETTE = 0, 2, 3

# A header of OS/2, in bytes, and what means that pixels are runs.
_BMP_SHORT_HEADER = 12
_BMP_RUN_LENGTHS = (1, 2)

_GIF_EXTENSION, _GIF_FRAME, _GIF_CONTROL = 0x21, 0x2C, 0xF9

# Of each of TIFF's types the bytes of a value, and how `struct` calls those
# that are whole numbers.
_TIFF_TYPES = {
  **{1: (1, 'B'), 2: (1, ''), 3: (2, 'H'), 4: (4, 'I'), 5: (8, '')},
  **{6: (1, ''), 7: (1, ''), 8: (2, ''), 9: (4, ''), 10: (8, '')},
  **{11: (4, ''), 12: (8, ''), 13: (4, 'I'), 16: (8, ''), 17: (8, '')},
  18: (8, ''),
}
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_COMPRESSION = 256, 257, 259
_TIFF_STRIPS, _TIFF_TILES = 273, 324
_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 322, 323


class UnusualFileError(ValueError):
  """A file that is damaged, or made to take time; the message says why."""


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


@dataclasses.dataclass(frozen=True)
class Jpeg:
  """What a JPEG's markers say.

  Attributes:
    height: height in pixels, of the largest of several frames; or 0.
    width: width in pixels, of that frame; or 0.
    num_channels: number of components, 4 of CMYK.
    num_scans: number of scans that a JPEG's data come in.
    is_buffered: whether the coefficients of the whole picture are kept, until
      the last scan.
    is_usual: whether the coding is Huffman's, by DCT.
    kept: start and end of the segments that a decoder needs.
    exif: block of EXIF; may be empty.
  """

  height: int
  width: int
  num_channels: int
  num_scans: int
  is_buffered: bool
  is_usual: bool
  kept: tuple[tuple[int, int], ...]
  exif: bytes


def read_jpeg(data: bytes) -> Jpeg:
  """Reads a JPEG's markers, to its end or to where it is damaged.

  Args:
    data: content of the file.

  Raises:
    UnusualFileError: it has too many.
  """
  height = width = num_channels = num_scans = num_markers = 0
  is_buffered, is_usual = False, True
  kept, exif = [(0, 2)], b''
  place = 2
  while (found := _JPEG_MARKER.search(data, place)) is not None:
    marker, content = data[found.end() - 1], found.end()
    if num_scans:  # What follows a scan's segment, to the next, is its pixels.
      kept.append((place, found.start()))
    if marker == _END:
      kept.append(found.span())
      break
    num_markers = _count_part(num_markers, 'JPEG')
    place = content + int.from_bytes(data[content : content + 2], 'big')
    if marker == _EXIF_SEGMENT and data.startswith(_EXIF_START, content + 2):
      exif = exif or data[content + 2 : place]
    if marker in _JPEG_NOTES:
      continue
    kept.append((found.start(), place))
    if marker in _JPEG_FRAMES and content + 8 <= len(data):
      _, _, frame_height, frame_width, channels = struct.unpack_from(
        '>HBHHB', data, content
      )
      if frame_height * frame_width > height * width:
        height, width = frame_height, frame_width
      num_channels = max(num_channels, channels)
      is_buffered |= marker == _PROGRESSIVE_FRAME
      is_usual &= marker in _USUAL_FRAMES
    elif marker == _SCAN:
      num_scans += 1
      # Of several scans, or of one that leaves channels to others.
      of_scan = data[content + 2] if content + 2 < len(data) else 0
      is_buffered |= num_scans > 1 or of_scan < num_channels
  else:
    kept.append((place, len(data)))
  return Jpeg(
    height,
    width,
    num_channels,
    num_scans,
    is_buffered,
    is_usual,
    tuple(kept),
    exif,
  )


def cut_jpeg_notes(data: bytes, jpeg: Jpeg) -> bytes:
  """Returns a JPEG with nothing but what a decoder needs.

  Args:
    data: content of the file.
    jpeg: what `read_jpeg` found in it.
  """
  view = memoryview(data)
  return b''.join(view[start:end] for start, end in jpeg.kept)


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
    num_chunks = _count_part(num_chunks, 'PNG')
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


@dataclasses.dataclass(frozen=True)
class Gif:
  """What a GIF says to its first frame.

  Attributes:
    height: height in pixels of what the frame is drawn on.
    width: width of that in pixels.
    pixels: the file, with nothing before the frame but how it is shown.
  """

  height: int
  width: int
  pixels: bytes


def read_gif(data: bytes) -> Gif:
  """Reads a GIF to its first frame.

  Args:
    data: content of the file.

  Raises:
    UnusualFileError: it is truncated, or has too many blocks.
  """
  flags = data[10] if len(data) > 10 else 0
  place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
  kept, num_blocks = [data[:place]], 0
  while place < len(data):
    num_blocks = _count_part(num_blocks, 'GIF')
    start, kind = place, data[place]
    if kind == _GIF_FRAME and place + 9 <= len(data):
      width, height = struct.unpack_from('<HH', data, 6)
      left, top, frame_width, frame_height = struct.unpack_from(
        '<4H', data, place + 1
      )
      return Gif(
        max(height, top + frame_height),
        max(width, left + frame_width),
        b''.join([*kept, memoryview(data)[place:]]),
      )
    place += 1
    if kind != _GIF_EXTENSION:  # Padding.
      continue
    is_control = data[place : place + 1] == bytes([_GIF_CONTROL])
    place += 1
    while place < len(data) and data[place]:
      num_blocks = _count_part(num_blocks, 'GIF')
      place += 1 + data[place]
    place += 1
    if is_control and place - start == 8:
      kept.append(data[start:place])
  raise UnusualFileError('truncated GIF: it has no frame')


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
    num_chunks = _count_part(num_chunks, 'WebP')
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


@dataclasses.dataclass(frozen=True)
class Tiff:
  """What the first directory of a TIFF says, or that of a block of EXIF.

  Attributes:
    values: by tag its value, where that is one whole number.
    num_strips: number of strips, or of tiles.
    num_bytes: number of bytes of all values.
  """

  values: dict[int, int]
  num_strips: int
  num_bytes: int

  @property
  def height(self) -> int:
    """Height in pixels, or 0."""
    return self.values.get(_TIFF_HEIGHT, 0)

  @property
  def width(self) -> int:
    """Width in pixels, or 0."""
    return self.values.get(_TIFF_WIDTH, 0)

  @property
  def compression(self) -> int:
    """How strips are compressed: 1 for not at all."""
    return self.values.get(_TIFF_COMPRESSION, 1)

  @property
  def tile_size(self) -> tuple[int, int]:
    """Height and width of a tile in pixels; zeros where there are none."""
    return (
      self.values.get(_TIFF_TILE_HEIGHT, 0),
      self.values.get(_TIFF_TILE_WIDTH, 0),
    )


def read_tiff(data: bytes) -> Tiff:
  """Reads the first directory of a TIFF, to its end or to the file's.

  Args:
    data: content of the file, or of EXIF from its TIFF header on.

  Raises:
    UnusualFileError: it has too many tags.
  """
  order = '<' if data[:2] == b'II' else '>'
  is_big = data[2:4] in (b'+\0', b'\0+')
  entry_size, inline = (20, 8) if is_big else (12, 4)
  values, num_strips, num_bytes = {}, 0, 0
  try:
    if is_big:
      (place,) = struct.unpack_from(order + 'Q', data, 8)
      (number,) = struct.unpack_from(order + 'Q', data, place)
      place += 8
    else:
      (place,) = struct.unpack_from(order + 'I', data, 4)
      (number,) = struct.unpack_from(order + 'H', data, place)
      place += 2
    for index in range(number):
      _count_part(index, 'TIFF')
      entry = place + index * entry_size
      tag, kind, count = struct.unpack_from(
        order + ('HHQ' if is_big else 'HHI'), data, entry
      )
      size, form = _TIFF_TYPES.get(kind, (0, ''))
      if tag in (_TIFF_STRIPS, _TIFF_TILES):
        num_strips = max(num_strips, count)
      num_bytes += count * size
      if form and count == 1:
        place_of_value = entry + entry_size - inline
        values[tag] = struct.unpack_from(order + form, data, place_of_value)[0]
  except (struct.error, OverflowError):
    pass  # Truncated: a decoder finds it out, with what it can read.
  return Tiff(values, num_strips, num_bytes)


def _count_part(number: int, kind: str) -> int:
  """Returns a number of parts and one more, if there may be one more."""
  if number >= MAX_PARTS:
    raise UnusualFileError(f'a {kind} of more than {MAX_PARTS:,} parts')
  return number + 1
