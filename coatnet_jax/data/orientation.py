"""Which way up a picture is: EXIF's orientation, read and followed.

Cameras store pixels as the sensor has them, and note here how it was held.
"""

import cv2
import numpy as np
import PIL.Image

_UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_EXIF_START = b'Exif\0\0'
_START_OF_SCAN = 0xDA
_APP1 = 0xE1


def read_jpeg_orientation(data: bytes) -> int:
  """Reads the orientation of a JPEG; 1, upright, where it has none.

  Only the markers before the pixels are looked at, which takes microseconds.

  Args:
    data: content of the whole file.

  Returns:
    1 to 8.
  """
  place = 2
  while data[place : place + 1] == b'\xff' and place + 4 <= len(data):
    marker = data[place + 1]
    if marker == 0xFF:  # Padding.
      place += 1
      continue
    if marker == _START_OF_SCAN:
      break
    end = place + 2 + int.from_bytes(data[place + 2 : place + 4], 'big')
    if marker == _APP1 and data.startswith(_EXIF_START, place + 4):
      return read_exif_orientation(data[place + 4 : end])
    place = end
  return _UPRIGHT


def read_exif_orientation(exif: bytes) -> int:
  """Reads the orientation of a block of EXIF; 1 where it is damaged.

  Args:
    exif: block of EXIF, from its TIFF header on, or from 'Exif' before that.

  Returns:
    1 to 8.
  """
  try:
    found = PIL.Image.Exif()
    found.load(exif)
    return _find_orientation(found)
  except Exception:  # What is damaged raises nearly anything.
    return _UPRIGHT


def read_pillow_orientation(image: PIL.Image.Image) -> int:
  """Reads the orientation of an image of Pillow's; 1 where it has none.

  Args:
    image: loaded image. Pillow turns a TIFF as it loads it, after which the
      TIFF has no orientation.

  Returns:
    1 to 8.
  """
  try:
    return _find_orientation(image.getexif())
  except Exception:  # As above.
    return _UPRIGHT


def _find_orientation(exif: PIL.Image.Exif) -> int:
  """Returns 1 to 8: what EXIF says, or 1 where that means nothing."""
  value = exif.get(_ORIENTATION_TAG)
  is_known = isinstance(value, int) and _UPRIGHT < value <= 8
  return value if is_known else _UPRIGHT


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
