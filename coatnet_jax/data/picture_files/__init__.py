"""What lies in a picture's file around its pixels, read without a decoder.

A decoder does what a file says: it inflates the file's texts, goes over the
picture once for each scan, and makes a list of a million strips. What a decoder
would do is found out here first, in a time that is bounded by the number of the
file's parts, and what no decoder needs is cut out: texts, profiles, thumbnails.
"""

from coatnet_jax.data.picture_files.bmp import Bmp, read_bmp
from coatnet_jax.data.picture_files.gif import Gif, read_gif
from coatnet_jax.data.picture_files.jpeg import Jpeg, cut_jpeg_notes, read_jpeg
from coatnet_jax.data.picture_files.parts import MAX_PARTS, UnusualFileError
from coatnet_jax.data.picture_files.png import PNG_START, Png, read_png
from coatnet_jax.data.picture_files.reading import (
  NotAPictureFileError,
  read_file,
)
from coatnet_jax.data.picture_files.tiff import Tiff, read_tiff
from coatnet_jax.data.picture_files.webp import Webp, read_webp

__all__ = [
  'MAX_PARTS',
  'PNG_START',
  'Bmp',
  'Gif',
  'Jpeg',
  'NotAPictureFileError',
  'Png',
  'Tiff',
  'UnusualFileError',
  'Webp',
  'cut_jpeg_notes',
  'read_bmp',
  'read_file',
  'read_gif',
  'read_jpeg',
  'read_png',
  'read_tiff',
  'read_webp',
]
