import io
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
import simplejpeg

from coatnet_jax.data.decoding import CorruptImageError, decode_image


def assert_close(actual, expected, tolerance):
  assert actual.dtype == np.uint8
  assert actual.shape == expected.shape
  difference = np.abs(actual.astype(int) - expected.astype(int))
  assert difference.max() <= tolerance


def jpeg_variants(picture, encode):
  image = picture()
  return {
    'baseline': encode('.jpg', image),
    'progressive': encode('.jpg', image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    'restarts': encode('.jpg', image, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    'grey': encode('.jpg', image[..., 0]),
    'cmyk': cmyk_jpeg(image),
  }


def cmyk_jpeg(image):
  """Encodes as Adobe does: inverted, with the black in its own channel."""
  black = image.max(axis=-1, keepdims=True)
  ink = np.where(black == 0, 255, 255.0 * image / np.maximum(black, 1))
  cmyk = np.concatenate([ink.round().astype(np.uint8), black], axis=-1)
  return simplejpeg.encode_jpeg(cmyk, 98, 'CMYK')


@pytest.mark.parametrize('suffix', ['.png', '.bmp'])
def test_lossless_files_give_the_very_pixels(picture, encode, suffix):
  image = picture()
  np.testing.assert_array_equal(decode_image(encode(suffix, image)), image)


@pytest.mark.parametrize('suffix', ['.jpg', '.webp'])
def test_lossy_files_give_nearly_the_pixels(picture, encode, suffix):
  quality = {
    '.jpg': cv2.IMWRITE_JPEG_QUALITY,
    '.webp': cv2.IMWRITE_WEBP_QUALITY,
  }
  image = picture()
  decoded = decode_image(encode(suffix, image, quality[suffix], 98))
  assert decoded.shape == image.shape
  assert np.abs(decoded.astype(int) - image).mean() < 10


def test_channels_are_red_green_blue(encode):
  red = np.zeros((16, 16, 3), np.uint8)
  red[..., 0] = 255
  for suffix in ('.jpg', '.png', '.bmp', '.webp'):
    image = decode_image(encode(suffix, red))
    assert image[..., 0].min() > 240
    assert image[..., 1:].max() < 15


def test_cmyk_jpeg_becomes_rgb(picture):
  image = picture()
  assert_close(decode_image(cmyk_jpeg(image)), image, tolerance=12)


def test_odd_jpeg_is_decoded_in_spite_of_a_warning(picture, encode):
  data = encode('.jpg', picture(), cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
  # Bytes that belong nowhere, before the second restart marker.
  place = data.index(b'\xff\xd1')
  odd = data[:place] + bytes(3) + data[place:]
  with pytest.raises(ValueError, match='extraneous bytes'):
    simplejpeg.decode_jpeg(odd)
  difference = decode_image(odd).astype(int) - decode_image(data)
  assert np.abs(difference).mean() < 10


def test_odd_cmyk_jpeg_is_no_negative(picture):
  file = io.BytesIO()
  image = PIL.Image.fromarray(picture()).convert('CMYK')
  image.save(file, 'JPEG', restart_marker_blocks=2)
  data = file.getvalue()
  place = data.index(b'\xff\xd1')
  odd = data[:place] + bytes(3) + data[place:]
  difference = decode_image(odd).astype(int) - decode_image(data)
  assert np.abs(difference).mean() < 12


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_grey_is_repeated_over_the_channels(picture, encode, suffix):
  image = decode_image(encode(suffix, picture()[..., 0]))
  assert_close(image, picture()[..., :1].repeat(3, axis=-1), tolerance=12)
  np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_sixteen_bits_become_eight(picture, encode):
  image = picture()
  for deep in (image, image[..., 0]):
    data = encode('.png', deep.astype(np.uint16) * 257)
    expected = deep if deep.ndim == 3 else deep[..., None].repeat(3, axis=-1)
    np.testing.assert_array_equal(decode_image(data), expected)


def test_bytes_after_the_end_do_no_harm(picture, encode):
  for suffix in ('.jpg', '.png'):
    data = encode(suffix, picture())
    image = decode_image(data + b'trailing rubbish')
    np.testing.assert_array_equal(image, decode_image(data))


@pytest.mark.parametrize(
  'kind', ['baseline', 'progressive', 'restarts', 'grey', 'cmyk']
)
def test_truncated_jpeg_is_an_error(picture, encode, kind):
  data = jpeg_variants(picture, encode)[kind]
  decode_image(data)
  cuts = [1, 2, 3, 20, *range(25, len(data), len(data) // 40)]
  for cut in [*cuts, len(data) - 3, len(data) - 2, len(data) - 1]:
    with pytest.raises(CorruptImageError):
      decode_image(data[:cut])


@pytest.mark.parametrize('suffix', ['.png', '.bmp', '.webp'])
def test_other_truncated_file_is_an_error(picture, encode, suffix):
  data = encode(suffix, picture())
  decode_image(data)
  cuts = [1, 8, 9, 33, 41, *range(50, len(data), len(data) // 20)]
  for cut in [*cuts, len(data) - 12, len(data) - 4, len(data) - 1]:
    with pytest.raises(CorruptImageError):
      decode_image(data[:cut])


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_file_with_a_thumbnail_is_still_truncated(picture, encode, suffix):
  # The whole small JPEG inside must not pass for the end of the large one.
  data = encode('.jpg', picture())
  thumbnail = encode(suffix, picture(8, 8))
  size = (len(thumbnail) + 2).to_bytes(2, 'big')
  data = data[:2] + b'\xff\xe1' + size + thumbnail + data[2:]
  decode_image(data)
  with pytest.raises(CorruptImageError):
    decode_image(data[: len(data) // 2])


def test_jpeg_with_missing_data_inside_is_an_error(picture, encode):
  data = encode('.jpg', picture(), cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
  # The end of one piece, before the second restart marker.
  place = data.index(b'\xff\xd1')
  with pytest.raises(CorruptImageError, match='premature end of data segment'):
    decode_image(data[: place - 6] + data[place:])


def test_damaged_png_is_an_error(picture, encode):
  data = bytearray(encode('.png', picture()))
  data[len(data) // 2] ^= 0xFF
  with pytest.raises(CorruptImageError):
    decode_image(bytes(data))


@pytest.mark.parametrize(
  'data',
  [b'', b'\0', b'no image', b'\xff\xd8\xff', b'<html>' * 100, bytes(1000)],
)
def test_other_bytes_are_an_error(data):
  with pytest.raises(CorruptImageError):
    decode_image(data)


def test_a_png_whose_pixels_have_changed_is_damaged():
  written, found = (
    zlib.compress(b'\0' + bytes([value] * 24), 0) for value in (77, 76)
  )
  encoded = io.BytesIO()
  PIL.Image.new('RGB', (8, 1), (77, 77, 77)).save(encoded, 'PNG')
  start, rest = encoded.getvalue().split(b'IDAT')
  end = rest[-12:]

  def put_together(pixels):
    size, check = len(written), zlib.crc32(b'IDAT' + written)
    return (
      start[:-4]
      + struct.pack('>I', size)
      + b'IDAT'
      + pixels
      + struct.pack('>I', check)
      + end
    )

  assert (decode_image(put_together(written)) == 77).all()
  with pytest.raises(CorruptImageError, match='IDAT is not what was written'):
    decode_image(put_together(found))
