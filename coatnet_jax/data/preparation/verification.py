"""One image file as it came to the bytes that are kept of it.

What decodes here decodes in training: both use `decoding.decode_image`.
"""

import dataclasses

import cv2
import numpy as np
import simplejpeg

from coatnet_jax.data.decoding import (
  CorruptImageError,
  decode_image,
  read_header,
)
from coatnet_jax.data.picture_size import DEFAULT_MAX_PIXELS as DECODED_PIXELS

# 10,000 x 10,000: 300 MB of pixels. The largest of ImageNet have 20 million.
DEFAULT_MAX_PIXELS = 100_000_000
_JPEG_QUALITY = 95


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
  try:
    header = read_header(data)
    if header.width * header.height > max_pixels:
      raise DroppedImageError(
        f'{header.width} x {header.height} pixels, more than {max_pixels:,}'
      )
    pixels = decode_image(data, max_pixels=max(max_pixels, DECODED_PIXELS))
  except CorruptImageError as error:
    raise DroppedImageError(str(error)) from error
  found = header.name.lower()
  allowed = (encoding_format,) if encoding_format else ('jpeg', 'png')
  if found in allowed and not header.is_cmyk:
    return VerifiedImage(data)
  target = encoding_format or ('jpeg' if found == 'jpeg' else 'png')
  kind = 'CMYK JPEG' if header.is_cmyk else header.name
  return VerifiedImage(
    _encode(pixels, target), f'{kind} encoded as {target.upper()}'
  )


def encode_png(pixels: np.ndarray) -> bytes:
  """Encodes [H, W] or [H, W, 3] uint8 RGB."""
  if pixels.ndim == 3:
    pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
  return cv2.imencode('.png', pixels)[1].tobytes()


def _encode(pixels: np.ndarray, encoding_format: str) -> bytes:
  if encoding_format == 'png':
    return encode_png(pixels)
  return simplejpeg.encode_jpeg(
    np.ascontiguousarray(pixels), quality=_JPEG_QUALITY, colorsubsampling='444'
  )
