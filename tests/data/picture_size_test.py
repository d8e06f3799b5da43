"""Pictures that exhaust a machine are refused by what their headers say."""

import io
import resource
import struct
import subprocess
import sys
import time

import cv2
import numpy as np
import PIL.Image
import pytest
import simplejpeg

from coatnet_jax.data import picture_size
from coatnet_jax.data.augmentation import (
  PreprocessingOptions,
  crop_for_evaluation,
  cut_to_proportions,
)
from coatnet_jax.data.decoding import CorruptImageError, decode_image
from configs import base
from tests.data.preparation.archive_examples import bomb


def _jpeg(height, width, **options):
  """Returns a small JPEG that says it is of another size."""
  with io.BytesIO() as file:
    PIL.Image.new('RGB', (16, 16), 'red').save(file, 'JPEG', **options)
    data = bytearray(file.getvalue())
  for marker in (b'\xff\xc0', b'\xff\xc2'):
    if (place := data.find(marker)) > 0:
      data[place + 5 : place + 9] = struct.pack('>HH', height, width)
  return bytes(data)


def _many_scans(number):
  """Returns a progressive JPEG of 4096 x 4096 whose last scan is repeated."""
  data = _jpeg(4096, 4096, progressive=True)
  last = data.rfind(b'\xff\xda')
  return data[:last] + data[last:-2] * number + data[-2:]


def _gif(height, width):
  with io.BytesIO() as file:
    PIL.Image.new('P', (4, 4)).save(file, 'GIF')
    data = bytearray(file.getvalue())
  data[6:10] = struct.pack('<HH', width, height)
  return bytes(data)


def _bmp(height, width):
  with io.BytesIO() as file:
    PIL.Image.new('RGB', (4, 4)).save(file, 'BMP')
    data = bytearray(file.getvalue())
  data[18:26] = struct.pack('<II', width, height)
  return bytes(data)


def _tiff(height, width):
  with io.BytesIO() as file:
    PIL.Image.new('L', (4, 4)).save(file, 'TIFF')
    data = bytearray(file.getvalue())
  (start,) = struct.unpack('<I', data[4:8])
  for entry in range(struct.unpack('<H', data[start : start + 2])[0]):
    place = start + 2 + 12 * entry
    (tag,) = struct.unpack('<H', data[place : place + 2])
    if tag in (256, 257):  # Width and height, as numbers of 32 bits.
      value = width if tag == 256 else height
      data[place + 2 : place + 12] = struct.pack('<HII', 4, 1, value)
  return bytes(data)


def _webp(height, width):
  """Returns an extended WebP with a canvas of that size."""
  with io.BytesIO() as file:
    PIL.Image.new('RGBA', (4, 4)).save(file, 'WEBP', lossless=True)
    data = bytearray(file.getvalue())
  chunk = b'VP8X' + struct.pack('<IB3x', 10, 0x10)
  chunk += struct.pack('<I', width - 1)[:3] + struct.pack('<I', height - 1)[:3]
  body = b'WEBP' + chunk + data[12:]
  return b'RIFF' + struct.pack('<I', len(body)) + body


def _list_bombs():
  sizes = [(65_000, 65_000), (20_000, 20_000), (1, 65_500), (65_500, 2_100)]
  for height, width in sizes:
    for make in (_jpeg, _gif, _bmp, _tiff):
      yield f'{make.__name__[1:]} {height} x {width}', make(height, width)
    yield f'png {height} x {width}', bomb(width, height)
    yield (
      f'progressive jpeg {height} x {width}',
      _jpeg(height, width, progressive=True),
    )
  yield 'webp', _webp(16_000, 16_000)
  yield 'png of 2**31 - 1', bomb(2**31 - 1, 2**31 - 1)
  yield 'png of a line', bomb(2**31 - 1, 1)
  yield 'tiff of 2**31 - 1', _tiff(2**31 - 1, 2**31 - 1)
  yield 'bmp of 2**31 - 1', _bmp(2**31 - 1, 2**31 - 1)
  yield 'jpeg of 500 scans', _many_scans(500)


BOMBS = dict(_list_bombs())

_DECODE_ALL = """
import pickle, resource, sys, time
from coatnet_jax.data.decoding import CorruptImageError, decode_image
pictures = pickle.load(sys.stdin.buffer)
decode_image(pictures.pop('warm up'))
for name, data in pictures.items():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  start, pixels = time.perf_counter(), None
  try:
    pixels = decode_image(data).shape
  except CorruptImageError as error:
    pixels = str(error)
  seconds = time.perf_counter() - start
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  print(name, after - before, f'{seconds:.3f}', pixels, sep='|')
"""


def _decode_apart(pictures):
  """Returns by name: KiB that it took, seconds, and the shape or error."""
  import pickle

  whole = cv2.imencode('.png', np.zeros((8, 8, 3), np.uint8))[1].tobytes()
  run = subprocess.run(
    [sys.executable, '-c', _DECODE_ALL],
    input=pickle.dumps({'warm up': whole, **pictures}),
    capture_output=True,
    check=True,
  )
  results = {}
  for line in run.stdout.decode().splitlines():
    name, kibibytes, seconds, what = line.split('|')
    results[name] = int(kibibytes), float(seconds), what
  return results


def test_no_bomb_takes_memory_or_time():
  assert len(BOMBS) >= 30
  results = _decode_apart(BOMBS)
  assert set(results) == set(BOMBS)
  for name, (kibibytes, seconds, what) in results.items():
    assert kibibytes < 512 << 10, (name, kibibytes, what)
    assert seconds < 1, (name, seconds, what)
  refused = [name for name, (*_, what) in results.items() if 'pixels' in what]
  for name in BOMBS:
    if '65000' in name or '20000' in name or '2**31 - 1' in name:
      assert name in refused, (name, results[name])
  assert 'jpeg of 500 scans' in refused


@pytest.mark.slow
def test_the_largest_that_are_decoded_take_no_more():
  """Whole pictures of nearly the largest size of each kind."""
  pictures = {}
  for name, height, width, mode, options in (
    ('JPEG', 11_500, 11_600, 'RGB', {}),
    ('JPEG progressive', 7_000, 7_000, 'RGB', {'progressive': True}),
    ('JPEG cmyk', 8_000, 8_000, 'CMYK', {}),
    ('PNG', 7_400, 8_000, 'RGB', {'compress_level': 1}),
    ('PNG alpha', 7_000, 7_400, 'RGBA', {'compress_level': 1}),
    ('TIFF', 7_000, 7_400, 'RGB', {}),
    ('BMP', 7_000, 7_400, 'RGB', {}),
    ('GIF', 5_000, 5_900, 'P', {}),
    ('WEBP', 5_000, 5_900, 'RGB', {'quality': 30, 'method': 0}),
  ):
    with io.BytesIO() as file:
      PIL.Image.new(mode, (width, height)).save(
        file, name.split()[0], **options
      )
      pictures[name] = file.getvalue()
  for name, (kibibytes, seconds, what) in _decode_apart(pictures).items():
    assert what.startswith('('), (name, what)
    assert kibibytes < 512 << 10, (name, kibibytes)
    print(name, kibibytes >> 10, 'MiB', seconds, 's', what)


def test_a_large_jpeg_is_decoded_at_half_its_size(monkeypatch):
  image = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8), (91, 61)
  )
  data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=95)
  assert decode_image(data).shape == (61, 91, 3)
  monkeypatch.setattr(picture_size, '_LARGEST_WHOLE_JPEG', 61 * 91 - 1)
  half = decode_image(data)
  assert half.shape == (31, 46, 3)
  expected = cv2.resize(image, (46, 31), interpolation=cv2.INTER_AREA)
  assert np.abs(half.astype(int) - expected).mean() < 6


def test_frames_and_scans_are_read_past_other_segments():
  """A thumbnail in a segment, and bytes in a scan, are no markers."""
  thumbnail = _jpeg(4000, 4000)
  for progressive in (False, True):
    plain = _jpeg(48, 31, progressive=progressive)
    segment = b'\xff\xe1' + struct.pack('>H', len(thumbnail) + 2) + thumbnail
    data = plain[:2] + segment + plain[2:]
    height, width, is_progressive, num_scans = picture_size._read_jpeg_frame(
      data
    )
    assert (height, width, is_progressive) == (48, 31, progressive)
    assert num_scans == (10 if progressive else 1)


@pytest.mark.parametrize('start', range(0, 700, 50))
def test_a_jpeg_that_ends_anywhere_has_a_size_or_none(start):
  data = _jpeg(48, 31, progressive=True)[:start]
  assert picture_size._read_jpeg_frame(data)[:2] in ((48, 31), (0, 0))


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
    decode_image(_jpeg(65_000, 65_000))
