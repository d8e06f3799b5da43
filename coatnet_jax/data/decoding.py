"""Image files to pixels: [H, W, 3] uint8 RGB, or an error for a damaged file.

What is in a file is decided by its first bytes, not by its name. An EXIF
orientation is followed, for every format and wherever the bytes lie, so that
a picture is the same to training, evaluation and prediction. The published
ImageNet pipelines ignore it, which concerns a few of ImageNet's files.
"""

import contextlib
import ctypes
import dataclasses
import io
import logging
import warnings
from collections.abc import Iterator

import cv2
import numpy as np
import PIL._imaging
import PIL.Image
import simplejpeg

from coatnet_jax.data import picture_files
from coatnet_jax.data.image_source import CorruptImageError, ImageSource
from coatnet_jax.data.orientation import (
  read_exif_orientation,
  read_pillow_orientation,
  turn_upright,
)
from coatnet_jax.data.picture_size import (
  DEFAULT_MAX_PIXELS,
  Limits,
  TooLargeError,
)

# Parallelism is over images (Grain's threads and processes); OpenCV's own
# threads would only compete with it.
cv2.setNumThreads(0)
# `picture_size` has limits of its own, for each file.
PIL.Image.MAX_IMAGE_PIXELS = None
# What Pillow finds odd is either decoded or an error here.
warnings.filterwarnings('ignore', module=r'PIL\.')
logging.getLogger('PIL').setLevel(logging.CRITICAL)


def _silence_libtiff() -> None:
  """Keeps the TIFF library that Pillow uses from writing to stderr itself.

  What is wrong with a file is said once, by our own error. libjpeg and libwebp
  are silent in simplejpeg and Pillow, and PNG is Pillow's own.
  """
  try:
    library = ctypes.CDLL(PIL._imaging.__file__)
    library.TIFFSetErrorHandler(None)
    library.TIFFSetWarningHandler(None)
  except (AttributeError, OSError):
    pass  # A Pillow without it, or one that hides it.


_silence_libtiff()

# First bytes, and the format's name, which is Pillow's.
_FORMATS = {
  b'\xff\xd8\xff': 'JPEG',
  picture_files.PNG_START: 'PNG',
  b'GIF8': 'GIF',
  b'BM': 'BMP',
  b'RIFF': 'WEBP',
  b'II*\0': 'TIFF',
  b'MM\0*': 'TIFF',
  b'II+\0': 'TIFF',
  b'MM\0+': 'TIFF',
}
_READERS = {
  'PNG': picture_files.read_png,
  'GIF': picture_files.read_gif,
  'BMP': picture_files.read_bmp,
  'WEBP': picture_files.read_webp,
  'TIFF': picture_files.read_tiff,
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
# Pixels that are converted at a time, so that it takes little memory.
_STRIP_PIXELS = 1 << 18


def decode_image(
  data: bytes, *, exact: bool = True, max_pixels: int = DEFAULT_MAX_PIXELS
) -> np.ndarray:
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
    max_pixels: largest number of pixels: config.data.max_image_pixels.

  Returns:
    [H, W, 3] uint8 RGB.

  Raises:
    CorruptImageError: the file is empty, truncated or not an image; or it takes
      more memory or time than `picture_size` allows.
  """
  if not data:
    raise CorruptImageError('the file is empty')
  try:
    return _decode(data, exact, Limits(max_pixels))
  except (TooLargeError, picture_files.UnusualFileError) as error:
    raise CorruptImageError(str(error)) from error


def _decode(data: bytes, exact: bool, limits: Limits) -> np.ndarray:
  name = find_format(data)
  if name == 'JPEG':
    return _decode_jpeg(data, exact, limits)
  if name == 'PNG':
    return _decode_png(data, limits)
  return _decode_with_pillow(data, name, limits)


def find_format(data: bytes) -> str:
  """Returns the format of a file by its first bytes: 'JPEG', 'PNG', 'GIF', ...

  Args:
    data: content of the file, or its start.

  Raises:
    CorruptImageError: it is of none that is read.
  """
  for start, name in _FORMATS.items():
    if data.startswith(start):
      return name
  raise CorruptImageError(describe_other(data) or 'not an image')


@dataclasses.dataclass(frozen=True)
class Header:
  """What a file says of itself, before its pixels are decoded.

  Attributes:
    name: format: 'JPEG', 'PNG', 'GIF', 'BMP', 'WEBP' or 'TIFF'.
    height: height in pixels, as stored.
    width: width in pixels, as stored.
    is_cmyk: whether it is a JPEG of four inks.
  """

  name: str
  height: int
  width: int
  is_cmyk: bool = False


def read_header(data: bytes) -> Header:
  """Reads what a file says of itself.

  Args:
    data: content of the whole file.

  Raises:
    CorruptImageError: the file is not an image, or its header is damaged.
  """
  name = find_format(data)
  try:
    if name == 'JPEG':
      jpeg = picture_files.read_jpeg(data)
      header = Header(name, jpeg.height, jpeg.width, jpeg.num_channels == 4)
    else:
      found = _READERS[name](data)
      header = Header(name, found.height, found.width)
  except picture_files.UnusualFileError as error:
    raise CorruptImageError(str(error)) from error
  if not header.height or not header.width:
    raise CorruptImageError('not an image, or its header is damaged')
  return header


def decode_example(
  source: ImageSource, index: int, *, exact: bool = True
) -> tuple[np.ndarray, int | np.ndarray]:
  """Reads one example of a source and decodes it if it is encoded.

  Args:
    source: images, encoded or as pixels.
    index: index of the example in the source.
    exact: whether a JPEG's pixels are libjpeg's own; see `decode_image`.

  Returns:
    The image, [H, W, 3] uint8 RGB, and its label; [K] float32 of a source that
    has several.

  Raises:
    CorruptImageError: the image cannot be read or decoded.
  """
  example = source[index]
  image = example['image']
  if not isinstance(image, np.ndarray):
    image = decode_image(image, exact=exact, max_pixels=source.max_image_pixels)
  label = example['label']
  return image, label if isinstance(label, np.ndarray) else int(label)


def _decode_jpeg(data: bytes, exact: bool, limits: Limits) -> np.ndarray:
  """Returns [H, W, 3] uint8 RGB, upright."""
  jpeg = picture_files.read_jpeg(data)
  pixels = _read_jpeg(data, jpeg, exact, limits)
  return turn_upright(pixels, read_exif_orientation(jpeg.exif))


def _read_jpeg(
  data: bytes, jpeg: picture_files.Jpeg, exact: bool, limits: Limits
) -> np.ndarray:
  """Returns [H, W, 3] uint8 RGB, also of grey, CMYK and non-standard files."""
  smallest = 0, 0
  if limits.check_jpeg(jpeg, len(data)):
    smallest = -(-jpeg.height // 2), -(-jpeg.width // 2)
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
    # believed. Pillow reads on after warnings, to the end of a whole file.
    if _TRUNCATION_WARNING in str(error):
      raise CorruptImageError(f'truncated JPEG: {error}') from error
    # It has been decoded once, and twice may take no longer.
    if limits.halve().check_jpeg(jpeg, len(data)):
      raise CorruptImageError(f'damaged JPEG: {error}') from error
    return _read_damaged_jpeg(data, jpeg)
  return _convert_cmyk(image) if is_cmyk else image


def _read_damaged_jpeg(data: bytes, jpeg: picture_files.Jpeg) -> np.ndarray:
  """Returns [H, W, 3] uint8 RGB of a JPEG that libjpeg warns of."""
  data = picture_files.cut_jpeg_notes(data, jpeg)
  with _open_with_pillow(data, 'JPEG', jpeg.height * jpeg.width) as image:
    image.load()
    if image.mode != 'CMYK':
      return _convert_pillow(image)
    inverted = 255 if 'adobe' in image.info else 0
    return _convert_cmyk(np.asarray(image) ^ np.uint8(inverted))


def _convert_cmyk(image: np.ndarray) -> np.ndarray:
  """Makes [H, W, 3] uint8 RGB of [H, W, 4] uint8, inverted as Adobe does."""
  result = np.empty((*image.shape[:2], 3), np.uint8)
  for rows in _list_strips(*image.shape[:2]):
    ink, black = _split_channels(image[rows])
    result[rows] = cv2.multiply(ink, black, scale=1 / 255)
  return result


def _list_strips(height: int, width: int) -> Iterator[slice]:
  """Yields the rows of a picture, some at a time."""
  count = max(1, _STRIP_PIXELS // width)
  for top in range(0, height, count):
    yield slice(top, min(top + count, height))


def _split_channels(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the first three channels, and the fourth in the place of each."""
  return np.ascontiguousarray(image[..., :3]), cv2.merge([image[..., 3]] * 3)


def _decode_png(data: bytes, limits: Limits) -> np.ndarray:
  """Returns [H, W, 3] uint8 RGB, by Pillow, with what that leaves out."""
  png = picture_files.read_png(data)
  limits.check_png(png)
  with _open_with_pillow(png.pixels, 'PNG', png.height * png.width) as image:
    transparent = image.info.get('transparency')
    if png.bit_depth == 16 and isinstance(transparent, tuple):
      # Pillow scales the pixels to 8 bits, and not what is transparent.
      image.info['transparency'] = tuple(value >> 8 for value in transparent)
    pixels = _convert_pillow(image)
    if png.is_grey and transparent is not None:
      _whiten_shade(pixels, image, png.bit_depth, transparent)
  return turn_upright(pixels, read_exif_orientation(png.exif))


def _decode_with_pillow(data: bytes, name: str, limits: Limits) -> np.ndarray:
  """Returns the first frame, [H, W, 3] uint8 RGB; see `decode_image`."""
  num_bytes = len(data)
  if name == 'GIF':
    found = picture_files.read_gif(data)
    limits.check_gif(found, num_bytes)
    data = found.pixels
  elif name == 'BMP':
    found = picture_files.read_bmp(data)
    limits.check_bmp(found, num_bytes)
  elif name == 'WEBP':
    found = picture_files.read_webp(data)
    limits.check_webp(found, num_bytes)
  else:
    found = picture_files.read_tiff(data)
    limits.check_tiff(found, data)
  with _open_with_pillow(data, name, found.height * found.width) as image:
    pixels = _convert_pillow(image)
    orientation = read_pillow_orientation(image)
  return turn_upright(pixels, orientation)


@contextlib.contextmanager
def _open_with_pillow(
  data: bytes, name: str, num_pixels: int
) -> Iterator[PIL.Image.Image]:
  """Opens a file; what is raised while it is open says that it is damaged.

  Args:
    data: content of the file.
    name: format of the file.
    num_pixels: number of its pixels, which has been checked.
  """
  try:
    with PIL.Image.open(io.BytesIO(data), formats=(name,)) as image:
      if image.width * image.height > num_pixels:
        raise CorruptImageError(f'damaged {name}: it says two sizes')
      yield image
  except (CorruptImageError, TooLargeError):
    raise
  except Exception as error:  # Damaged files raise nearly anything.
    raise CorruptImageError(
      f'truncated {name}, or a damaged or unusual one: {error}'
    ) from error


def _convert_pillow(image: PIL.Image.Image) -> np.ndarray:
  """Loads an image and returns it as [H, W, 3] uint8 RGB."""
  image.load()
  if image.mode in ('I', 'F'):
    raise CorruptImageError(
      'pixels have 32 bits, of which 8 cannot be told: convert it to 8 or 16'
    )
  width, height = image.size
  result = np.empty((height, width, 3), np.uint8)
  for rows in _list_strips(height, width):
    result[rows] = _convert_strip(_cut_rows(image, rows))
  return result


def _cut_rows(image: PIL.Image.Image, rows: slice) -> PIL.Image.Image:
  return image.crop((0, rows.start, image.width, rows.stop))


def _convert_strip(image: PIL.Image.Image) -> np.ndarray:
  """Returns [h, W, 3] uint8 RGB of some rows."""
  if image.mode.startswith('I;16'):
    grey = np.asarray(image).astype(np.uint16)
    grey = cv2.convertScaleAbs(grey, alpha=1 / 257)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
  if image.has_transparency_data:
    return _composite_on_white(np.asarray(image.convert('RGBA')))
  return np.asarray(image if image.mode == 'RGB' else image.convert('RGB'))


def _composite_on_white(image: np.ndarray) -> np.ndarray:
  """Makes [h, W, 3] of [h, W, 4], uint8, with alpha not premultiplied."""
  color, alpha = _split_channels(image)
  # 255 - alpha * (255 - color) / 255, which rounds to the same.
  dark = cv2.multiply(cv2.bitwise_not(color), alpha, scale=1 / 255)
  return cv2.bitwise_not(dark)


def _whiten_shade(
  pixels: np.ndarray, image: PIL.Image.Image, bit_depth: int, shade: int
) -> None:
  """Makes the pixels white that have a shade which stands for none.

  Args:
    pixels: [H, W, 3] uint8 to be changed.
    image: loaded picture whose pixels are shades of grey.
    bit_depth: bits of a shade in the file.
    shade: shade that is transparent, in so many bits.
  """
  if bit_depth < 8:
    shade = shade * 255 // (2**bit_depth - 1)
  for rows in _list_strips(*pixels.shape[:2]):
    strip = _cut_rows(image, rows)
    shades = np.asarray(strip.convert('L') if strip.mode == '1' else strip)
    pixels[rows][shades == shade] = 255


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
