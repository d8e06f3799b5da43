"""How large a picture may be, told from its file before memory is taken.

A file of a few bytes can say that it has billions of pixels. What would take
too much memory or time to decode is refused here, and a JPEG that is too large
to be decoded whole is decoded at half its height and width.

All limits are in proportion to one number, config.data.max_image_pixels: a
plain JPEG may have as many pixels, and what takes longer, or more memory, has
to have fewer. With the default no picture takes more than 512 MiB, or more than
a second on one core of an AMD EPYC.
"""

import dataclasses

from coatnet_jax.data import picture_files

# The largest photographs have about as many; the default of
# config.data.max_image_pixels.
DEFAULT_MAX_PIXELS = 1 << 27
# What decoding may take, and a file may have, for each pixel that a picture may
# have.
BYTES_PER_PIXEL = 4
_NANOSECONDS_PER_PIXEL = 6
# What may be taken however low the limit is.
_LEAST_BYTES = 16 << 20
_LEAST_NANOSECONDS = 10_000_000

# Nanoseconds that decoding takes for a pixel and for a byte of the file, on one
# core of an AMD EPYC: `python -m tests.data.attack --largest`.
_JPEG = (4, 8)
_JPEG_BUFFERED = (6, 30)
_JPEG_CMYK = (24, 8)
_JPEG_UNUSUAL = (150, 100)
_PNG = (18, 6)
_PNG_ALPHA = (28, 6)
_GIF = (16, 8)
_BMP = (8, 1)
_BMP_RUNS = (150, 400)
_WEBP = (25, 40)
_WEBP_LOSSLESS = (25, 5)
_TIFF = (12, 1)
_TIFF_COMPRESSED = (25, 6)
_TIFF_FAX = (12, 50)
_TIFF_LZMA = (30, 40)
# What a row takes beside its pixels.
_ROW_NANOSECONDS = 60
# What another scan of a JPEG takes for a pixel.
_SCAN = 0.6

# Bytes for a pixel, at the peak. Those of JPEG: whole, with the coefficients of
# each channel, and at half its size; each is turned upright afterwards.
_JPEG_BYTES, _JPEG_CMYK_BYTES, _JPEG_HALF_BYTES = 7, 8, 3
_COEFFICIENT_BYTES = 2
# Pillow's own pixels, and ours.
_PILLOW_BYTES = 8
_WEBP_BYTES = 20

# TIFF's numbers of compressions.
_TIFF_UNCOMPRESSED = 1
_TIFF_OF_FAX = (2, 3, 4)
_TIFF_OF_LZMA = 34925
_TIFF_OF_JPEG = (6, 7)
# By how much tiles may be larger than their picture.
_MOST_PADDING = 4
_PADDING_PIXELS = 1 << 20


class TooLargeError(ValueError):
  """A picture takes too much memory or time to decode; the message says why."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a picture may take; see the module.

  Attributes:
    max_pixels: largest number of pixels: config.data.max_image_pixels.
  """

  max_pixels: int

  @property
  def max_bytes(self) -> int:
    """The largest memory that decoding one picture takes, in bytes."""
    return max(BYTES_PER_PIXEL * self.max_pixels, _LEAST_BYTES)

  def halve(self) -> 'Limits':
    """Returns limits that are half as large."""
    return Limits(self.max_pixels // 2)

  def check_jpeg(self, jpeg: picture_files.Jpeg, num_bytes: int) -> bool:
    """Checks a JPEG.

    Args:
      jpeg: what its markers say.
      num_bytes: size of the file.

    Returns:
      Whether it is too large to be decoded whole, and has to be decoded at half
      its height and width.

    Raises:
      TooLargeError: it is too large for that too.
    """
    is_cmyk = jpeg.num_channels > 3
    cost: tuple[float, int] = _JPEG_CMYK if is_cmyk else _JPEG
    if jpeg.is_buffered:
      per_pixel, per_byte = _JPEG_BUFFERED
      cost = per_pixel + _SCAN * jpeg.num_scans, per_byte
    if not jpeg.is_usual:
      cost = _JPEG_UNUSUAL
    self._check_time(jpeg.height, jpeg.width, num_bytes, cost, jpeg.num_scans)
    kept = _COEFFICIENT_BYTES * jpeg.num_channels if jpeg.is_buffered else 0
    pixels = jpeg.height * jpeg.width
    whole = max(_JPEG_CMYK_BYTES if is_cmyk else _JPEG_BYTES, kept + 4)
    if pixels * whole <= self.max_bytes:
      return False
    self._check_memory(jpeg.height, jpeg.width, kept + _JPEG_HALF_BYTES)
    return True

  def check_png(self, png: picture_files.Png) -> None:
    """Raises TooLargeError for a PNG, by what its chunks say."""
    cost = _PNG_ALPHA if png.has_alpha or png.bit_depth == 16 else _PNG
    self._check_time(png.height, png.width, len(png.pixels), cost)
    self._check_memory(png.height, png.width, _PILLOW_BYTES)

  def check_gif(self, gif: picture_files.Gif, num_bytes: int) -> None:
    """Raises TooLargeError for a GIF, by what its first frame says."""
    self._check_time(gif.height, gif.width, num_bytes, _GIF)
    self._check_memory(gif.height, gif.width, _PILLOW_BYTES)

  def check_bmp(self, bmp: picture_files.Bmp, num_bytes: int) -> None:
    """Raises TooLargeError for a BMP, by what its header says."""
    cost = _BMP_RUNS if bmp.has_runs else _BMP
    self._check_time(bmp.height, bmp.width, num_bytes, cost)
    self._check_memory(bmp.height, bmp.width, _PILLOW_BYTES)

  def check_webp(self, webp: picture_files.Webp, num_bytes: int) -> None:
    """Raises TooLargeError for a WebP, by what its chunks say."""
    cost = _WEBP if webp.is_lossy else _WEBP_LOSSLESS
    self._check_time(webp.height, webp.width, num_bytes, cost)
    self._check_memory(webp.height, webp.width, _WEBP_BYTES)

  def check_tiff(self, tiff: picture_files.Tiff, data: bytes) -> None:
    """Raises TooLargeError for a TIFF, by what its first directory says."""
    height, width = tiff.height, tiff.width
    if tiff.num_bytes > len(data):
      raise TooLargeError('a TIFF whose tags are longer than the file')
    if tiff.num_strips > picture_files.MAX_PARTS:
      raise TooLargeError(
        f'a TIFF of {tiff.num_strips:,} strips or tiles, more than'
        f' {picture_files.MAX_PARTS:,}: save it again with larger ones'
      )
    tile = tiff.tile_size
    if max(height, tile[0]) * max(width, tile[1]) > (
      _MOST_PADDING * height * width + _PADDING_PIXELS
    ):
      raise TooLargeError(
        f'a TIFF of {width:,} x {height:,} pixels with tiles of'
        f' {tile[1]:,} x {tile[0]:,}'
      )
    cost: tuple[float, int] = _TIFF_COMPRESSED
    num_scans = 1
    if tiff.compression == _TIFF_UNCOMPRESSED:
      cost = _TIFF
    elif tiff.compression in _TIFF_OF_FAX:
      cost = _TIFF_FAX
    elif tiff.compression == _TIFF_OF_LZMA:
      cost = _TIFF_LZMA
    elif tiff.compression in _TIFF_OF_JPEG:
      num_scans = -(-data.count(b'\xff\xda') // max(tiff.num_strips, 1))
      cost = cost[0] + _SCAN * num_scans, _JPEG_BUFFERED[1]
    self._check_time(height, width, len(data), cost, num_scans)
    self._check_memory(height, width, _PILLOW_BYTES)

  def _check_time(
    self,
    height: int,
    width: int,
    num_bytes: int,
    cost: tuple[float, float],
    num_scans: int = 1,
  ) -> None:
    """Raises TooLargeError for what has too many pixels, or takes too long."""
    if height * width > self.max_pixels:
      raise TooLargeError(
        f'{width:,} x {height:,} pixels, more than the {self.max_pixels:,} of'
        ' config.data.max_image_pixels: make it smaller'
      )
    nanoseconds = (
      height * (width * cost[0] + _ROW_NANOSECONDS) + num_bytes * cost[1]
    )
    allowed = max(_NANOSECONDS_PER_PIXEL * self.max_pixels, _LEAST_NANOSECONDS)
    if nanoseconds > allowed:
      scans = f', {num_scans:,} scans' * (num_scans > 1)
      raise TooLargeError(
        f'{width:,} x {height:,} pixels in {num_bytes:,} bytes{scans}, which'
        ' take too long to decode: make it smaller, or save it as a plain JPEG'
      )

  def _check_memory(self, height: int, width: int, per_pixel: float) -> None:
    """Raises TooLargeError for what takes too much memory."""
    largest = int(self.max_bytes / per_pixel)
    if height * width > largest:
      raise TooLargeError(
        f'{width:,} x {height:,} pixels, more than the {largest:,} of this kind'
        f' that are decoded in {self.max_bytes >> 20} MiB: make it smaller, or'
        ' save it as a plain JPEG'
      )
