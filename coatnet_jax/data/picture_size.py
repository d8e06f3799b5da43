"""How large a picture may be, told from its header before memory is taken.

A file of a few bytes can say that it has billions of pixels. What would take
more than `MAX_BYTES` to decode, at its peak, is refused; a JPEG is decoded at
half its size before that. A photograph of 100 million pixels is still decoded.
"""

import re

import PIL.Image

# Memory that decoding one picture may take, in bytes.
MAX_BYTES = 512 << 20
# A picture takes time too, wherever its bytes come from.
MAX_PIXELS = 1 << 27
# The scans of a progressive JPEG each go over the whole picture.
_MAX_SCANNED_PIXELS = 1 << 29
# Larger ones are decoded at half their height and width.
_LARGEST_WHOLE_JPEG = 1 << 26
_LARGEST_WHOLE_PROGRESSIVE_JPEG = 1 << 25
_LARGEST_PROGRESSIVE_JPEG = 1 << 26

# A JPEG's markers: those of frames, that of a scan, and those without length.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE_FRAMES = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SCAN, _END = 0xDA, 0xD9
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
# Ends what a scan holds: a marker that is no restart, and no byte of the data.
_AFTER_SCAN = re.compile(rb'\xff[^\x00\xff\xd0-\xd7]')
# Types of PNG without an alpha channel: grey, RGB and a palette.
_PNG_WITHOUT_ALPHA = (0, 2, 3)
# Where a PNG says that one of its colours is transparent: before its pixels.
_PNG_HEADERS_BYTES = 1 << 16


class TooLargeError(ValueError):
  """A picture takes too much memory or time to decode; the message says why."""


def check_jpeg(data: bytes) -> tuple[int, int]:
  """Checks the size that a JPEG says it has.

  Args:
    data: content of the file.

  Returns:
    The smallest height and width to decode it at, for `simplejpeg`: half of its
    own where it is large, and 0 to decode it whole.

  Raises:
    TooLargeError: it is too large.
  """
  height, width, is_progressive, num_scans = _read_jpeg_frame(data)
  pixels = height * width
  largest = _LARGEST_PROGRESSIVE_JPEG if is_progressive else MAX_PIXELS
  if pixels > largest:
    raise _too_large(height, width, largest)
  if is_progressive and pixels * num_scans > _MAX_SCANNED_PIXELS:
    raise TooLargeError(
      f'{width:,} x {height:,} pixels in {num_scans:,} scans, which take too'
      ' long to decode: save it again, as a plain JPEG'
    )
  whole = (
    _LARGEST_WHOLE_PROGRESSIVE_JPEG if is_progressive else _LARGEST_WHOLE_JPEG
  )
  return (0, 0) if pixels <= whole else (-(-height // 2), -(-width // 2))


def check_png(data: bytes) -> None:
  """Raises TooLargeError for a PNG that says it is too large."""
  width = int.from_bytes(data[16:20], 'big')
  height = int.from_bytes(data[20:24], 'big')
  bit_depth, color_type = (*data[24:26], 0, 0)[:2]
  has_alpha = color_type not in _PNG_WITHOUT_ALPHA
  has_alpha |= b'tRNS' in data[:_PNG_HEADERS_BYTES]
  channels = 4 if has_alpha else 3
  # As it is stored; scaled to 8 bits; as RGB; turned upright.
  per_pixel = channels * (3 if bit_depth == 16 else 1) + 3 + 3
  _check_bytes(height, width, per_pixel)


def check_pillow(image: PIL.Image.Image) -> None:
  """Raises TooLargeError for a picture that Pillow has opened, not loaded."""
  width, height = image.size
  # As Pillow holds it, converted, as an array, as RGB and turned upright.
  per_pixel = 10 if image.mode == 'RGB' and image.format != 'WEBP' else 18
  _check_bytes(height, width, per_pixel)


def _check_bytes(height: int, width: int, per_pixel: int) -> None:
  largest = min(MAX_PIXELS, MAX_BYTES // per_pixel)
  if height * width > largest:
    raise _too_large(height, width, largest)


def _too_large(height: int, width: int, largest: int) -> TooLargeError:
  return TooLargeError(
    f'{width:,} x {height:,} pixels, more than the {largest:,} of this kind'
    f' that are decoded in {MAX_BYTES >> 20} MiB: make it smaller'
  )


def _read_jpeg_frame(data: bytes) -> tuple[int, int, bool, int]:
  """Returns a JPEG's height and width, if it is progressive, and its scans.

  The largest of several frames counts, and zeros where there is none.
  """
  height = width = num_scans = 0
  is_progressive = False
  place = 2
  while place + 4 <= len(data):
    if data[place] != 0xFF:
      place += 1
      continue
    marker = data[place + 1]
    if marker == 0xFF or marker == 0x00 or marker in _WITHOUT_LENGTH:
      place += 1 if marker == 0xFF else 2
      continue
    if marker == _END:
      break
    if marker in _JPEG_FRAMES and place + 9 <= len(data):
      size = (
        int.from_bytes(data[place + 5 : place + 7], 'big'),
        int.from_bytes(data[place + 7 : place + 9], 'big'),
      )
      if size[0] * size[1] > height * width:
        height, width = size
      is_progressive |= marker in _PROGRESSIVE_FRAMES
    place += 2 + int.from_bytes(data[place + 2 : place + 4], 'big')
    if marker == _SCAN:
      num_scans += 1
      found = _AFTER_SCAN.search(data, place)
      if found is None:
        break
      place = found.start()
  return height, width, is_progressive, num_scans
