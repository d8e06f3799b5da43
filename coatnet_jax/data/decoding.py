"""Image files to pixels: [H, W, 3] uint8 RGB, or an error for a damaged file.

What is in a file is decided by its first bytes, not by its name. An EXIF
orientation is followed, for every format and wherever the bytes lie, so that
a picture is the same to training, evaluation and prediction. The published
ImageNet pipelines ignore it, which concerns a few of ImageNet's files.
"""

import io
import warnings

import cv2
import numpy as np
import PIL.Image
import simplejpeg

from coatnet_jax.data import picture_size
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.data.orientation import (
  read_exif_orientation,
  read_jpeg_orientation,
  read_pillow_orientation,
  turn_upright,
)

# Parallelism is over images (Grain's threads and processes); OpenCV's own
# threads would only compete with it.
cv2.setNumThreads(0)
# An image has at most twice as many pixels, the number that OpenCV takes too.
PIL.Image.MAX_IMAGE_PIXELS = 2**29
# What Pillow finds odd is either decoded or an error here.
warnings.filterwarnings('ignore', module=r'PIL\.')

_JPEG_START = b'\xff\xd8\xff'
_PNG_START = b'\x89PNG\r\n\x1a\n'
# What Pillow decodes: first bytes, and its name of the format.
_PILLOW_FORMATS = {
  b'GIF8': 'GIF',
  b'BM': 'BMP',
  b'RIFF': 'WEBP',
  b'II*\0': 'TIFF',
  b'MM\0*': 'TIFF',
  b'II+\0': 'TIFF',
  b'MM\0+': 'TIFF',
}
# What is often named .jpg and is none of these: bytes, and where.
_KNOWN_OTHERS = (
  (4, b'ftypavi', 'an AVIF picture'),
  (4, b'ftyphe', 'a HEIC picture'),
  (4, b'ftypmif1', 'a HEIC picture'),
  (4, b'ftypmsf1', 'a HEIC picture'),
  (4, b'ftyp', 'a video, or a picture stored as one'),
  (0, b'\xff\x0a', 'a JPEG XL picture'),
  (4, b'JXL ', 'a JPEG XL picture'),
  (4, b'jP  ', 'a JPEG 2000 picture'),
  (0, b'\xff\x4f\xff\x51', 'a JPEG 2000 picture'),
  (0, b'8BPS', 'a Photoshop picture'),
  (0, b'%PDF', 'a PDF document'),
)
_CONVERT = 'convert it to JPEG or PNG'
# libjpeg's warnings for a file that ends, or a scan that breaks off, too
# early ('Premature end ...', '... premature end of data segment').
_TRUNCATION_WARNING = 'remature end'
_GREY_PNG = 0
# Rows that are composited at a time, so that it takes little memory.
_STRIP_ROWS = 64


class CorruptImageError(ValueError):
  """The bytes are not an image, or not a whole one; the message says why."""


def decode_image(data: bytes, *, exact: bool = True) -> np.ndarray:
  """Decodes a JPEG, PNG, GIF, BMP, WebP or TIFF.

  The first of several frames is taken. Pixels are turned as EXIF says.
  Greyscale is repeated over the three channels, 16 bits are scaled to 8,
  CMYK is converted without a colour profile, and transparent pixels are
  composited on white.

  Args:
    data: content of the whole file.
    exact: whether a JPEG's pixels are those of libjpeg's own settings, as
      other programs have them; else they are made faster, by a coarser
      transform and with colours that are not interpolated.

  Returns:
    [H, W, 3] uint8 RGB.

  Raises:
    CorruptImageError: the file is empty, truncated or not an image; or it takes
      more memory or time than `picture_size` allows.
  """
  if not data:
    raise CorruptImageError('the file is empty')
  try:
    return _decode(data, exact)
  except picture_size.TooLargeError as error:
    raise CorruptImageError(str(error)) from error


def _decode(data: bytes, exact: bool) -> np.ndarray:
  if data.startswith(_JPEG_START):
    pixels = _decode_jpeg(data, exact)
    return turn_upright(pixels, read_jpeg_orientation(data))
  if data.startswith(_PNG_START):
    return _decode_png(data)
  for start, name in _PILLOW_FORMATS.items():
    if data.startswith(start):
      return _decode_with_pillow(data, name)
  raise CorruptImageError(describe_other(data) or 'not an image')


def decode_example(
  source: ImageSource, index: int, *, exact: bool = True
) -> tuple[np.ndarray, int]:
  """Reads one example of a source and decodes it if it is encoded.

  Args:
    source: images, encoded or as pixels.
    index: index of the example in the source.
    exact: whether a JPEG's pixels are libjpeg's own; see `decode_image`.

  Returns:
    The image, [H, W, 3] uint8 RGB, and its label.

  Raises:
    CorruptImageError: the image cannot be decoded.
  """
  example = source[index]
  image = example['image']
  if not isinstance(image, np.ndarray):
    image = decode_image(image, exact=exact)
  return image, int(example['label'])


def _decode_jpeg(data: bytes, exact: bool) -> np.ndarray:
  """Returns [H, W, 3] uint8 RGB, also of grey, CMYK and non-standard files."""
  smallest = picture_size.check_jpeg(data)
  try:
    is_cmyk = simplejpeg.decode_jpeg_header(data)[2] in ('CMYK', 'YCCK')
    image = simplejpeg.decode_jpeg(
      data,
      'CMYK' if is_cmyk else 'RGB',
      fastdct=not exact,
      fastupsample=not exact,
      min_height=smallest[0],
      min_width=smallest[1],
    )
  except ValueError as error:
    # Every warning of libjpeg is an error here, and one of missing data is
    # believed. OpenCV reads on after warnings, to the end of a whole file.
    if _TRUNCATION_WARNING in str(error):
      raise CorruptImageError(f'truncated JPEG: {error}') from error
    return _convert_to_rgb(_decode_with_opencv(data, 'JPEG'))
  return _convert_cmyk(image) if is_cmyk else image


def _convert_cmyk(image: np.ndarray) -> np.ndarray:
  """Makes [H, W, 3] uint8 RGB of [H, W, 4] uint8, inverted as Adobe does."""
  result = np.empty((*image.shape[:2], 3), np.uint8)
  for top in range(0, len(image), _STRIP_ROWS):
    ink, black = _split_channels(image[top : top + _STRIP_ROWS])
    result[top : top + _STRIP_ROWS] = cv2.multiply(ink, black, scale=1 / 255)
  return result


def _split_channels(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the first three channels, and the fourth in the place of each."""
  return np.ascontiguousarray(image[..., :3]), cv2.merge([image[..., 3]] * 3)


def _decode_png(data: bytes) -> np.ndarray:
  """Returns [H, W, 3] uint8 RGB: by OpenCV, with what that leaves out."""
  picture_size.check_png(data)
  stored = _decode_with_opencv(data, 'PNG')
  chunks = _read_png_chunks(data)
  pixels = _convert_to_rgb(stored)
  bit_depth, color_type = data[24], data[25]
  if color_type == _GREY_PNG and len(chunks.get(b'tRNS', b'')) >= 2:
    # One shade stands for what is transparent.
    shade = int.from_bytes(chunks[b'tRNS'][:2], 'big')
    if bit_depth < 8:
      shade = shade * 255 // (2**bit_depth - 1)
    pixels[stored == shade] = 255
  return turn_upright(pixels, read_exif_orientation(chunks.get(b'eXIf', b'')))


def _read_png_chunks(data: bytes) -> dict[bytes, bytes]:
  """Returns the contents of the chunks that OpenCV does not follow."""
  chunks, place = {}, len(_PNG_START)
  while place + 8 <= len(data):
    size = int.from_bytes(data[place : place + 4], 'big')
    kind = data[place + 4 : place + 8]
    if kind in (b'tRNS', b'eXIf'):
      chunks[kind] = data[place + 8 : place + 8 + size]
    if kind == b'IEND':
      break
    place += size + 12
  return chunks


def _decode_with_opencv(data: bytes, kind: str) -> np.ndarray:
  """Returns [H, W] or [H, W, C] uint8 or uint16 as it is stored: BGR, alpha."""
  try:
    # Unchanged: with its alpha channel, and not turned as EXIF says.
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
  except cv2.error as error:
    raise CorruptImageError(f'damaged {kind}: {error}') from error
  if image is None:
    raise CorruptImageError(f'truncated or damaged {kind}')
  return image


def _convert_to_rgb(image: np.ndarray) -> np.ndarray:
  """Makes [H, W, 3] uint8 RGB of what `_decode_with_opencv` returns."""
  if image.dtype == np.uint16:
    image = cv2.convertScaleAbs(image, alpha=1 / 257)
  if image.ndim == 2:
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
  if image.shape[-1] == 4:
    cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA, dst=image)
    return _composite_on_white(image)
  return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _decode_with_pillow(data: bytes, name: str) -> np.ndarray:
  """Returns the first frame, [H, W, 3] uint8 RGB; see `decode_image`."""
  try:
    with PIL.Image.open(io.BytesIO(data), formats=(name,)) as image:
      picture_size.check_pillow(image)
      image.load()
      pixels = _convert_pillow(image)
      orientation = read_pillow_orientation(image)
  except (CorruptImageError, picture_size.TooLargeError):
    raise
  except PIL.Image.DecompressionBombError as error:
    raise CorruptImageError(f'too large: {error}') from error
  except Exception as error:  # Damaged files raise nearly anything.
    raise CorruptImageError(
      f'truncated {name}, or a damaged or unusual one: {error}'
    ) from error
  return turn_upright(pixels, orientation)


def _convert_pillow(image: PIL.Image.Image) -> np.ndarray:
  """Returns [H, W, 3] uint8 of a loaded image."""
  if image.mode.startswith('I;16'):
    grey = np.asarray(image).astype(np.uint16)
    return _convert_to_rgb(grey)
  if image.mode in ('I', 'F'):
    raise CorruptImageError(
      'pixels have 32 bits, of which 8 cannot be told: convert it to 8 or 16'
    )
  if image.has_transparency_data:
    return _composite_on_white(np.asarray(image.convert('RGBA')))
  return np.array(image if image.mode == 'RGB' else image.convert('RGB'))


def _composite_on_white(image: np.ndarray) -> np.ndarray:
  """Makes [H, W, 3] of [H, W, 4], uint8, with alpha not premultiplied."""
  result = np.empty((*image.shape[:2], 3), np.uint8)
  for top in range(0, len(image), _STRIP_ROWS):
    color, alpha = _split_channels(image[top : top + _STRIP_ROWS])
    # 255 - alpha * (255 - color) / 255, which rounds to the same.
    dark = cv2.multiply(cv2.bitwise_not(color), alpha, scale=1 / 255)
    result[top : top + _STRIP_ROWS] = cv2.bitwise_not(dark)
  return result


def describe_other(data: bytes) -> str | None:
  """Says what a file is that is no picture of a known format; None if unknown.

  >>> describe_other(b'<!DOCTYPE html><html>')
  'an HTML page, not an image: get the file again'

  Args:
    data: content of the whole file, or its start.
  """
  for place, content, what in _KNOWN_OTHERS:
    if data.startswith(content, place):
      return f'{what}, which is not read: {_CONVERT}'
  start = data[:512].lstrip().lower()
  if start.startswith((b'<!doctype', b'<html', b'<head', b'<body')):
    return 'an HTML page, not an image: get the file again'
  if b'<svg' in start:
    return f'an SVG drawing, which is not read: {_CONVERT}'
  return None
