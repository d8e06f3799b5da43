"""One image file as it came to the bytes that are kept of it.

What decodes here decodes in training: both use `decoding.decode_image`.
"""

import dataclasses
import io

import cv2
import numpy as np
import PIL.Image
import simplejpeg

from coatnet_jax.data.decoding import (
  CorruptImageError,
  decode_image,
  describe_other,
)

# 10,000 x 10,000: 300 MB of pixels. The largest of ImageNet have 20 million.
DEFAULT_MAX_PIXELS = 100_000_000
_JPEG_QUALITY = 95
# Formats that are not looked for are not opened: Pillow knows dozens.
_FORMATS = ('JPEG', 'PNG', 'BMP', 'GIF', 'WEBP', 'TIFF')


class DroppedImageError(ValueError):
  """An image that cannot be kept; the message says why."""


@dataclasses.dataclass(frozen=True)
class VerifiedImage:
  """What is kept of an image.

  Attributes:
    data: content of the file.
    change: reason for encoding it anew, and the new format; '' where it is as
      it was.
  """

  data: bytes
  change: str = ''


def verify_image(
  data: bytes, encoding_format: str | None, max_pixels: int
) -> VerifiedImage:
  """Decodes an image, and encodes it anew where it has to be.

  Args:
    data: content of the file.
    encoding_format: format that the file has to have, 'jpeg' or 'png'; None for
      either, though a CMYK file may not stay.
    max_pixels: largest number of pixels of an image that is decoded.

  Returns:
    The same bytes if they will do, with the orientation that EXIF notes;
    otherwise, turned upright, a JPEG of quality 95 without chroma subsampling,
    or a PNG where both or only PNG are allowed.

  Raises:
    DroppedImageError: the file is damaged, no image or too large.
  """
  if not data:
    raise DroppedImageError('empty file')
  found, mode, (width, height) = _read_header(data)
  if width * height > max_pixels:
    raise DroppedImageError(
      f'{width} x {height} pixels, more than {max_pixels:,}'
    )
  try:
    pixels = decode_image(data)
  except CorruptImageError as error:
    raise DroppedImageError(str(error)) from error
  allowed = (encoding_format,) if encoding_format else ('jpeg', 'png')
  if found in allowed and mode != 'CMYK':
    return VerifiedImage(data)
  target = encoding_format or ('jpeg' if found == 'jpeg' else 'png')
  kind = 'CMYK JPEG' if mode == 'CMYK' and found == 'jpeg' else found.upper()
  return VerifiedImage(
    _encode(pixels, target), f'{kind} encoded as {target.upper()}'
  )


def encode_png(pixels: np.ndarray) -> bytes:
  """Encodes [H, W] or [H, W, 3] uint8 RGB."""
  if pixels.ndim == 3:
    pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
  return cv2.imencode('.png', pixels)[1].tobytes()


def _read_header(data: bytes) -> tuple[str, str, tuple[int, int]]:
  """Returns format in lower case, Pillow's mode, and (width, height)."""
  if (other := describe_other(data)) is not None:
    raise DroppedImageError(other)
  try:
    with PIL.Image.open(io.BytesIO(data), formats=_FORMATS) as image:
      return image.format.lower().replace('mpo', 'jpeg'), image.mode, image.size
  except PIL.Image.DecompressionBombError as error:
    # Pillow's error is for twice the limit that decoding.py sets.
    limit = 2 * PIL.Image.MAX_IMAGE_PIXELS
    raise DroppedImageError(f'more than {limit:,} pixels') from error
  except Exception as error:  # Damaged headers raise nearly anything.
    raise DroppedImageError('not an image, or its header is damaged') from error


def _encode(pixels: np.ndarray, encoding_format: str) -> bytes:
  if encoding_format == 'png':
    return encode_png(pixels)
  return simplejpeg.encode_jpeg(
    np.ascontiguousarray(pixels), quality=_JPEG_QUALITY, colorsubsampling='444'
  )
