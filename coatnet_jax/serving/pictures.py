"""Pictures that strangers send: how large they may be, what is needed of them.

Threads decode, and no picture takes more of them than `data/picture_size.py`
allows. Small pictures have threads of their own, so that a large one, which
takes some tenths of a second, keeps none of them waiting.
"""

import asyncio
import concurrent.futures
import re
from typing import NamedTuple

import cv2
import numpy as np

from coatnet_jax.data.augmentation import (
  PreprocessingOptions,
  crop_for_evaluation,
)
from coatnet_jax.data.decoding import decode_image, find_format, read_header
from coatnet_jax.data.image_source import CorruptImageError
from coatnet_jax.data.picture_size import TooLargeError
from coatnet_jax.serving.failures import RequestError
from coatnet_jax.serving.limits import Limits
from coatnet_jax.serving.uploads import Contents, Upload, find_contents

# What is small, in pixels and in bytes of the file.
_SMALL_PIXELS = 4_000_000
_SMALL_BYTES = 4 << 20
_NUM_THREADS = 2
# Longer side of what is shown, in pixels: smaller pictures are enlarged.
_SHOWN_SIDES = (320, 800)
# What Python calls an object in a library's message.
_OBJECT = re.compile(r'\s*<[^>]*>')


class ReadPicture(NamedTuple):
  """What is needed of a picture.

  Attributes:
    crop: what the model sees, [H, W, 3] uint8.
    shown: whole picture for the eye, [h, w, 3] uint8; None where it is not
      asked for.
    fields: other fields of the form that it came in, by name.
  """

  crop: np.ndarray
  shown: np.ndarray | None
  fields: dict[str, str]


class PictureReader:
  """Reads pictures in threads of its own."""

  def __init__(self, preprocessing: PreprocessingOptions, limits: Limits):
    """Starts no thread yet.

    Args:
      preprocessing: size, crop and interpolation of what the model sees.
      limits: limits of the server.
    """
    self._preprocessing = preprocessing
    self._max_pixels = limits.max_pixels
    self._small = concurrent.futures.ThreadPoolExecutor(
      _NUM_THREADS, 'small pictures'
    )
    self._large = concurrent.futures.ThreadPoolExecutor(1, 'large pictures')

  async def read(self, upload: Upload, *, is_shown: bool) -> ReadPicture:
    """Reads the picture of a request.

    Args:
      upload: body of the request.
      is_shown: whether the whole picture is needed, too.

    Raises:
      RequestError: there is none, or it is too large or damaged.
    """
    loop = asyncio.get_running_loop()
    contents, is_small = await loop.run_in_executor(
      self._small, find_and_check, upload, self._max_pixels
    )
    return await loop.run_in_executor(
      self._small if is_small else self._large, self._decode, contents, is_shown
    )

  def close(self) -> None:
    """Ends the threads, once they have done what they were given."""
    self._small.shutdown(wait=False)
    self._large.shutdown(wait=False)

  def _decode(self, contents: Contents, is_shown: bool) -> ReadPicture:
    try:
      picture = decode_image(contents.picture, max_pixels=self._max_pixels)
    except CorruptImageError as error:
      raise explain(error) from error
    crop = crop_for_evaluation(picture, self._preprocessing)
    shown = fit_to_page(picture) if is_shown else None
    return ReadPicture(crop, shown, contents.fields)


def find_and_check(upload: Upload, max_pixels: int) -> tuple[Contents, bool]:
  """Returns what is in a request, and whether its picture is a small one.

  Args:
    upload: body of the request.
    max_pixels: largest number of pixels.

  Raises:
    RequestError: there is none, or its header says that it is none that is
      read: another type, too many pixels, damage.
  """
  contents = find_contents(upload)
  data = contents.picture
  if not data:
    raise RequestError(400, 'The file is empty; send a picture.')
  try:
    find_format(data)
  except CorruptImageError as error:
    raise RequestError(
      415,
      f'The file cannot be read: {error}. Send a JPEG, PNG, WebP, GIF, BMP or'
      ' TIFF.',
    ) from error
  try:
    header = read_header(data)
  except CorruptImageError as error:
    raise explain(error) from error
  pixels = header.height * header.width
  if pixels > max_pixels:
    raise RequestError(
      413,
      f'The picture has {header.width:,} x {header.height:,} pixels; at most'
      f' {max_pixels:,} are read, so make it smaller.',
    )
  return contents, pixels <= _SMALL_PIXELS and len(data) <= _SMALL_BYTES


def explain(error: CorruptImageError) -> RequestError:
  """Returns the answer for a picture that cannot be decoded.

  Args:
    error: error of `decode_image`.
  """
  reason = _OBJECT.sub('', str(error)).rstrip('.')
  if isinstance(error.__cause__, TooLargeError):
    return RequestError(413, f'The picture is too large: {reason}.')
  return RequestError(422, f'The picture cannot be decoded: {reason}.')


def fit_to_page(picture: np.ndarray) -> np.ndarray:
  """Returns a picture in a size to be looked at.

  >>> fit_to_page(np.zeros((28, 28, 3), np.uint8)).shape
  (336, 336, 3)
  >>> fit_to_page(np.zeros((3000, 4000, 3), np.uint8)).shape
  (600, 800, 3)

  Args:
    picture: [H, W, 3] uint8.

  Returns:
    [h, w, 3] uint8: each pixel as a square of several, or the whole reduced.
  """
  least, most = _SHOWN_SIDES
  height, width = picture.shape[:2]
  longer = max(height, width)
  if longer < least:
    factor = -(-least // longer)
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
  if longer <= most:
    return picture
  scale = most / longer
  size = max(1, round(width * scale)), max(1, round(height * scale))
  return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
