"""Pictures that exhaust a machine are refused by what their headers say."""

import resource
import struct
import time

import cv2
import numpy as np
import PIL.Image
import pytest
import simplejpeg

from coatnet_jax.data import picture_files, picture_size
from coatnet_jax.data.augmentation import (
  PreprocessingOptions,
  crop_for_evaluation,
  cut_to_proportions,
)
from coatnet_jax.data.decoding import CorruptImageError, decode_image
from configs import base
from tests.data.attack import bombs, seeds


def test_a_large_jpeg_is_decoded_at_half_its_size(monkeypatch):
  image = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8), (91, 61)
  )
  data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=95)
  assert decode_image(data).shape == (61, 91, 3)
  # Each pixel takes 7 bytes, and may take 4: what is whole, and what is not.
  monkeypatch.setattr(picture_size, '_LEAST_BYTES', 0)
  whole = decode_image(data, max_pixels=61 * 91 * 7 // 4 + 1)
  np.testing.assert_array_equal(whole, decode_image(data))
  half = decode_image(data, max_pixels=61 * 91 * 7 // 4 - 1)
  assert half.shape == (31, 46, 3)
  expected = cv2.resize(image, (46, 31), interpolation=cv2.INTER_AREA)
  assert np.abs(half.astype(int) - expected).mean() < 6


def test_frames_and_scans_are_read_past_other_segments():
  """A thumbnail in a segment, and bytes in a scan, are no markers."""
  thumbnail = bombs.jpeg(4000, 4000)
  for progressive in (False, True):
    plain = bombs.jpeg(48, 31, progressive=progressive)
    segment = b'\xff\xe1' + struct.pack('>H', len(thumbnail) + 2) + thumbnail
    data = plain[:2] + segment + plain[2:]
    found = picture_files.read_jpeg(data)
    assert (found.height, found.width) == (48, 31)
    assert found.is_buffered == progressive
    assert found.num_scans == (10 if progressive else 1)
    assert picture_files.cut_jpeg_notes(data, found) == (
      picture_files.cut_jpeg_notes(plain, picture_files.read_jpeg(plain))
    )


@pytest.mark.parametrize('start', range(0, 700, 50))
def test_a_jpeg_that_ends_anywhere_has_a_size_or_none(start):
  found = picture_files.read_jpeg(bombs.jpeg(48, 31, progressive=True)[:start])
  assert (found.height, found.width) in ((48, 31), (0, 0))


@pytest.mark.parametrize('shape', [(2, 60_000), (60_000, 2), (3, 4000)])
@pytest.mark.parametrize('eval_resize', ['cover', 'timm', 'keras_cv', 'squash'])
def test_a_line_is_evaluated_in_little_memory(shape, eval_resize):
  options = base.get_config().preprocessing
  options.update(image_size=(224, 224), eval_resize=eval_resize)
  preprocessing = PreprocessingOptions(**options)
  image = np.zeros((*shape, 3), np.uint8)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  start = time.perf_counter()
  assert crop_for_evaluation(image, preprocessing).shape == (224, 224, 3)
  assert time.perf_counter() - start < 1
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  assert after - before < 256 << 10


def test_what_is_cut_out_is_the_middle():
  image = np.arange(3 * 200, dtype=np.uint8).reshape(3, 200, 1).repeat(3, -1)
  np.testing.assert_array_equal(cut_to_proportions(image), image[:, 52:148])
  assert cut_to_proportions(image[:, :96]).shape == (3, 96, 3)
  np.testing.assert_array_equal(
    cut_to_proportions(image.swapaxes(0, 1)), image[:, 52:148].swapaxes(0, 1)
  )


def test_it_is_an_error_of_the_picture():
  with pytest.raises(CorruptImageError, match=r'65,000 x 65,000 pixels, more'):
    decode_image(bombs.jpeg(65_000, 65_000))


@pytest.mark.parametrize('name', ['PNG', 'JPEG', 'GIF', 'BMP', 'WEBP', 'TIFF'])
def test_a_picture_has_at_most_as_many_pixels_as_the_key_says(name):
  data = seeds.save(PIL.Image.new('RGB', (40, 30)), name)
  assert decode_image(data, max_pixels=1200).shape == (30, 40, 3)
  message = (
    r'40 x 30 pixels, more than the 1,199 of config\.data\.max_image_pix'
  )
  with pytest.raises(CorruptImageError, match=message):
    decode_image(data, max_pixels=1199)


def test_a_file_of_very_many_parts_is_not_gone_through():
  segments = b'\xff\xe1\0\2' * (picture_files.MAX_PARTS + 1)
  with pytest.raises(CorruptImageError, match='of more than 32,768 parts'):
    decode_image(bombs.with_segments(segments))
