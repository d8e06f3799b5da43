import numpy as np
import pytest
import simplejpeg

from coatnet_jax.data.decoding import decode_image
from coatnet_jax.data.preparation.verification import (
  DEFAULT_MAX_PIXELS,
  DroppedImageError,
  encode_png,
  verify_image,
)
from tests.data.preparation.archive_examples import bomb, jpeg, other_format


def verify(data, encoding_format=None, max_pixels=DEFAULT_MAX_PIXELS):
  return verify_image(data, encoding_format, max_pixels)


@pytest.mark.parametrize(
  ('data', 'encoding_format'),
  [
    (jpeg(1), 'jpeg'),
    (jpeg(1), None),
    (other_format('JPEG', 'L'), 'jpeg'),
    (other_format('PNG'), None),
    (other_format('PNG', 'RGBA'), None),
    (other_format('PNG', 'L'), 'png'),
  ],
)
def test_good_images_stay_as_they_are(data, encoding_format):
  verified = verify(data, encoding_format)
  assert (verified.data, verified.change) == (data, '')


@pytest.mark.parametrize(
  ('data', 'encoding_format', 'change', 'start'),
  [
    (other_format('PNG'), 'jpeg', 'PNG encoded as JPEG', b'\xff\xd8'),
    (other_format('BMP'), 'jpeg', 'BMP encoded as JPEG', b'\xff\xd8'),
    (other_format('WEBP'), 'jpeg', 'WEBP encoded as JPEG', b'\xff\xd8'),
    (other_format('TIFF'), 'jpeg', 'TIFF encoded as JPEG', b'\xff\xd8'),
    (other_format('GIF', 'L'), None, 'GIF encoded as PNG', b'\x89PNG'),
    (other_format('BMP'), None, 'BMP encoded as PNG', b'\x89PNG'),
    (
      other_format('JPEG', 'CMYK'),
      None,
      'CMYK JPEG encoded as JPEG',
      b'\xff\xd8',
    ),
  ],
)
def test_other_formats_are_encoded_anew(data, encoding_format, change, start):
  verified = verify(data, encoding_format)
  assert verified.change == change
  assert verified.data.startswith(start)
  # What comes out is left alone, and looks like what went in.
  assert verify(verified.data, encoding_format).change == ''
  if not data.startswith(b'GIF'):
    difference = decode_image(verified.data).astype(int) - decode_image(data)
    assert np.abs(difference).max() <= 3


def test_pixels_survive_png():
  image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
  np.testing.assert_array_equal(decode_image(encode_png(image)), image)


@pytest.mark.parametrize(
  ('data', 'reason'),
  [
    (b'', 'empty file'),
    (b'not an image at all', 'not an image'),
    (jpeg(1)[:100], 'not an image, or its header is damaged'),
    (jpeg(1, 64)[:-200], 'truncated JPEG'),
    (other_format('PNG')[:-30], 'truncated'),
    (other_format('GIF', 'L')[:-8], 'truncated GIF'),
    (bomb(20_000, 9_000), '20000 x 9000 pixels, more than 100,000,000'),
    (bomb(), '60000 x 60000 pixels, more than 100,000,000'),
  ],
)
def test_bad_images_are_dropped(data, reason):
  with pytest.raises(DroppedImageError, match=reason):
    verify(data)


def test_the_limit_of_pixels_is_of_every_format():
  image = simplejpeg.encode_jpeg(np.zeros((30, 40, 3), np.uint8))
  assert verify(image, max_pixels=1200).data == image
  with pytest.raises(DroppedImageError, match='40 x 30 pixels, more than 1,19'):
    verify(image, max_pixels=1199)
