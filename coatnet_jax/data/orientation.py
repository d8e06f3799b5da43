"""Which way up a picture is: EXIF's orientation, read and followed.

Cameras store pixels as the sensor has them, and note here how it was held.
"""

import re

import cv2
import numpy as np
import PIL.Image

from coatnet_jax.data.picture_files import (
  UnusualFileError,
  read_jpeg,
  read_tiff,
)

_UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_EXIF_START = b'Exif\0\0'


def read_jpeg_orientation(data: bytes) -> int:
  """Reads the orientation of a JPEG; 1, upright, where it has none.

  Args:
    data: content of the whole file.

  Returns:
    1 to 8.
  """
  try:
    return read_exif_orientation(read_jpeg(data).exif)
  except UnusualFileError:
    return _UPRIGHT


def read_exif_orientation(exif: bytes) -> int:
  """Reads the orientation of a block of EXIF; 1 where it is damaged.

  Args:
    exif: block of EXIF, from its TIFF header on, or from 'Exif' before that.

  Returns:
    1 to 8.
  """
  exif = exif.removeprefix(_EXIF_START).removeprefix(_EXIF_START)
  try:
    value = read_tiff(exif).values.get(_ORIENTATION_TAG, _UPRIGHT)
  except UnusualFileError:
    return _UPRIGHT
  return value if _UPRIGHT < value <= 8 else _UPRIGHT


def read_pillow_orientation(image: PIL.Image.Image) -> int:
  """Reads the orientation of an image of Pillow's; 1 where it has none.

  Args:
    image: opened image, with EXIF or the XMP that editors write. Pillow turns a
      TIFF as it loads it.

  Returns:
    1 to 8.
  """
  if image.format == 'TIFF':
    return _UPRIGHT
  orientation = read_exif_orientation(image.info.get('exif', b''))
  found = _XMP_ORIENTATION.search(image.info.get('xmp', b''))
  if orientation != _UPRIGHT or found is None:
    return orientation
  return int(found[1])


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
  """Returns [H, W, C] as it is to be seen, from [h, w, C] as it is stored.

  >>> pixels = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
  >>> turn_upright(pixels, 6).reshape(3, 2).tolist()
  [[3, 0], [4, 1], [5, 2]]

  Args:
    pixels: [h, w, C] uint8, as stored.
    orientation: EXIF's number, 1 to 8; 5 to 8 exchange height and width.
  """
  if orientation in (5, 6, 7, 8):
    pixels = cv2.transpose(pixels)
  if orientation in (2, 6):
    return cv2.flip(pixels, 1)
  if orientation in (4, 8):
    return cv2.flip(pixels, 0)
  if orientation in (3, 7):
    return cv2.flip(pixels, -1)
  return pixels
