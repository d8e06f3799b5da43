"""What a JPEG's markers say, and the file without what no decoder needs."""

import dataclasses
import re
import struct

from coatnet_jax.data.picture_files.parts import count_part

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
    num_markers = count_part(num_markers, 'JPEG')
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
