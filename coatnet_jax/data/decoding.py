"""Image files to pixels: [H, W, 3] uint8 RGB, or an error for a damaged file.

What is in a file is decided by its first bytes, not by its name. An EXIF
orientation is ignored, for every format, as the published ImageNet pipelines
do: pixels come out in the order in which they are stored.
"""

import cv2
import numpy as np
import simplejpeg

from coatnet_jax.data.image_source import ImageSource

# Parallelism is over images (Grain's threads and processes); OpenCV's own
# threads would only compete with it.
cv2.setNumThreads(0)

_JPEG_START = b'\xff\xd8\xff'
# libjpeg's warnings for a file that ends, or a scan that breaks off, too
# early ('Premature end ...', '... premature end of data segment').
_TRUNCATION_WARNING = 'remature end'


class CorruptImageError(ValueError):
  """The bytes are not an image, or not a whole one."""


def decode_image(data: bytes, *, exact: bool = True) -> np.ndarray:
  """Decodes a JPEG, PNG, BMP, WebP or other file that OpenCV reads.

  Greyscale is repeated over the three channels, 16 bits are scaled to 8,
  CMYK is converted without a colour profile, and transparent pixels are
  composited on white.

  Args:
    data: the whole file.
    exact: whether a JPEG's pixels are those of libjpeg's own settings, as
      other programs have them; else they are made faster, by a coarser
      transform and with colours that are not interpolated.

  Returns:
    [H, W, 3] uint8 RGB.

  Raises:
    CorruptImageError: the file is empty, truncated or not an image.
  """
  if not data:
    raise CorruptImageError('the file is empty')
  if data.startswith(_JPEG_START):
    return _decode_jpeg(data, exact)
  return _decode_with_opencv(data)


def decode_example(
  source: ImageSource, index: int, *, exact: bool = True
) -> tuple[np.ndarray, int]:
  """Reads one example of a source and decodes it if it is encoded.

  Args:
    source: where to read.
    index: which example.
    exact: see decode_image.

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
  """Decodes a JPEG that may be grey, CMYK, or slightly off the standard."""
  try:
    is_cmyk = simplejpeg.decode_jpeg_header(data)[2] in ('CMYK', 'YCCK')
    image = simplejpeg.decode_jpeg(
      data,
      'CMYK' if is_cmyk else 'RGB',
      fastdct=not exact,
      fastupsample=not exact,
    )
  except ValueError as error:
    # Every warning of libjpeg is an error here, and one of missing data is
    # believed. OpenCV reads on after warnings, to the end of a whole file.
    if _TRUNCATION_WARNING in str(error):
      raise CorruptImageError(f'truncated JPEG: {error}') from error
    return _decode_with_opencv(data)
  return _cmyk_to_rgb(image) if is_cmyk else image


def _cmyk_to_rgb(image: np.ndarray) -> np.ndarray:
  """Converts [H, W, 4], stored inverted as Adobe does and others follow."""
  ink = image.astype(np.uint16)
  return ((ink[..., :3] * ink[..., 3:] + 127) // 255).astype(np.uint8)


def _decode_with_opencv(data: bytes) -> np.ndarray:
  """Decodes anything OpenCV can; see decode_image."""
  try:
    # Unchanged: with its alpha channel, and not turned as EXIF says.
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
  except cv2.error as error:
    raise CorruptImageError(f'not a readable image: {error}') from error
  if image is None:
    raise CorruptImageError('truncated, or not an image')
  if image.dtype == np.uint16:
    image = cv2.convertScaleAbs(image, alpha=1 / 257)
  if image.dtype != np.uint8:
    raise CorruptImageError(f'pixels are {image.dtype}, not integers')
  if image.ndim == 2:
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
  if image.shape[-1] == 4:
    return _composite_on_white(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA))
  return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _composite_on_white(image: np.ndarray) -> np.ndarray:
  """Flattens [H, W, 4] with straight (not premultiplied) alpha."""
  color, alpha = image[..., :3].astype(np.uint16), image[..., 3:]
  white = 255 * (255 - alpha.astype(np.uint16))
  return ((color * alpha + white + 127) // 255).astype(np.uint8)
