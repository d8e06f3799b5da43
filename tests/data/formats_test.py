"""Every format of a picture, every mode of its pixels, on white."""

import io
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest

from coatnet_jax.data.decoding import CorruptImageError, decode_image


def save(image, name, **settings):
  file = io.BytesIO()
  image.save(file, name, **settings)
  return file.getvalue()


def with_opencv(suffix, pixels):
  return cv2.imencode(suffix, pixels)[1].tobytes()


def on_white(data):
  """What Pillow shows of a file on a white page."""
  image = PIL.Image.open(io.BytesIO(data)).convert('RGBA')
  page = PIL.Image.new('RGBA', image.size, 'white')
  page.alpha_composite(image)
  return np.asarray(page.convert('RGB'))


def chunk(kind, content):
  check = zlib.crc32(kind + content)
  return (
    struct.pack('>I', len(content)) + kind + content + struct.pack('>I', check)
  )


def grey_png(values, bit_depth, transparent):
  """Encodes one row of greys, of which one value is transparent."""
  width = len(values)
  if bit_depth == 16:
    row = struct.pack(f'>{width}H', *values)
  else:
    bits = ''.join(f'{value:0{bit_depth}b}' for value in values)
    row = int(bits.ljust(-(-len(bits) // 8) * 8, '0'), 2).to_bytes(
      -(-len(bits) // 8), 'big'
    )
  header = struct.pack('>IIBBBBB', width, 1, bit_depth, 0, 0, 0, 0)
  return b''.join(
    [
      b'\x89PNG\r\n\x1a\n',
      chunk(b'IHDR', header),
      chunk(b'tRNS', struct.pack('>H', transparent)),
      chunk(b'IDAT', zlib.compress(b'\0' + row)),
      chunk(b'IEND', b''),
    ]
  )


@pytest.fixture
def image(picture):
  return PIL.Image.fromarray(picture())


def transparent_files(image):
  pixels = np.asarray(image)
  alpha = image.convert('L')
  with_alpha = image.copy()
  with_alpha.putalpha(alpha)
  grey_alpha = PIL.Image.merge('LA', (alpha, alpha.point(lambda v: 255 - v)))
  first = tuple(int(value) for value in pixels[0, 0])
  palette = image.quantize(16)
  return {
    'grey with a value': save(alpha, 'PNG', transparency=int(pixels[0, 0, 0])),
    'grey with alpha': save(grey_alpha, 'PNG'),
    'black and white': save(alpha.convert('1'), 'PNG', transparency=0),
    'palette with one': save(palette, 'PNG', transparency=3),
    'palette with many': save(
      palette, 'PNG', transparency=bytes(range(0, 250, 16))
    ),
    'colours with one': save(image, 'PNG', transparency=first),
    'colours with alpha': save(with_alpha, 'PNG'),
    'GIF': save(palette, 'GIF', transparency=5),
    'WebP': save(with_alpha, 'WEBP', lossless=True),
    'TIFF': save(with_alpha, 'TIFF', compression='tiff_lzw'),
    'TIFF of grey': save(grey_alpha, 'TIFF'),
  }


@pytest.mark.parametrize(
  'kind', transparent_files(PIL.Image.new('RGB', (1, 1)))
)
def test_transparent_pixels_lie_on_white(image, kind):
  data = transparent_files(image)[kind]
  expected = on_white(data).astype(int)
  assert np.abs(decode_image(data) - expected).max() <= 1
  # White is seen somewhere that was not white.
  flat = np.asarray(PIL.Image.open(io.BytesIO(data)).convert('RGB'))
  assert np.abs(flat - expected).max() > 50


@pytest.mark.parametrize(
  ('bit_depth', 'values', 'transparent', 'expected'),
  [
    (1, [0, 1, 0, 1, 1], 0, [255, 255, 255, 255, 255]),
    (2, [0, 1, 2, 3], 1, [0, 255, 170, 255]),
    (4, [0, 5, 10, 15], 10, [0, 85, 255, 255]),
    (8, [7, 8, 9], 8, [7, 255, 9]),
    (16, [257, 514, 515, 65535], 514, [1, 255, 2, 255]),
  ],
)
def test_transparent_shade_of_every_depth(
  bit_depth, values, transparent, expected
):
  pixels = decode_image(grey_png(values, bit_depth, transparent))
  assert pixels[0, :, 0].tolist() == expected
  assert pixels[0, :, 2].tolist() == expected


def test_sixteen_bits_with_alpha_lie_on_white(picture):
  pixels = np.dstack([picture(), picture(seed=1)[..., :1]])
  expected = on_white(with_opencv('.png', pixels)).astype(int)
  for suffix in ('.png', '.tiff'):
    deep = with_opencv(suffix, pixels.astype(np.uint16) * 257)
    assert np.abs(decode_image(deep) - expected).max() <= 1


def opaque_files(image):
  pixels = np.asarray(image)[..., ::-1]
  deep = pixels.astype(np.uint16) * 257
  return {
    'TIFF': save(image, 'TIFF'),
    'TIFF, LZW': save(image, 'TIFF', compression='tiff_lzw'),
    'TIFF, deflate': save(image, 'TIFF', compression='tiff_adobe_deflate'),
    'TIFF, PackBits': save(image, 'TIFF', compression='packbits'),
    'TIFF, big': save(image, 'TIFF', big_tiff=True),
    'TIFF, 16 bits': with_opencv('.tiff', deep),
    'TIFF, CMYK': save(image.convert('CMYK'), 'TIFF'),
    'BMP': save(image, 'BMP'),
    'PNG, 16 bits': with_opencv('.png', deep),
    'WebP': save(image, 'WEBP', lossless=True),
  }


@pytest.mark.parametrize('kind', opaque_files(PIL.Image.new('RGB', (1, 1))))
def test_opaque_files_give_the_very_pixels(image, kind):
  data = opaque_files(image)[kind]
  difference = decode_image(data).astype(int) - np.asarray(image)
  assert np.abs(difference).max() <= 1


@pytest.mark.parametrize('name', ['PNG', 'TIFF'])
def test_sixteen_bits_of_grey_are_scaled(picture, name):
  grey = picture()[..., 0]
  data = save(PIL.Image.fromarray(grey.astype(np.uint16) * 257), name)
  expected = grey[..., None].repeat(3, axis=-1)
  np.testing.assert_array_equal(decode_image(data), expected)


@pytest.mark.parametrize('name', ['GIF', 'TIFF', 'WEBP', 'PNG'])
def test_of_several_frames_the_first_is_taken(picture, name):
  frames = [PIL.Image.fromarray(picture(seed=seed)) for seed in range(3)]
  if name == 'GIF':
    frames = [frame.quantize(32) for frame in frames]
  settings = {'lossless': True} if name == 'WEBP' else {}
  data = save(
    frames[0], name, save_all=True, append_images=frames[1:], **settings
  )
  expected = np.asarray(frames[0].convert('RGB')).astype(int)
  assert np.abs(decode_image(data) - expected).max() <= 1


@pytest.mark.parametrize(
  'kind', ['GIF', 'TIFF', 'TIFF, LZW', 'BMP', 'WebP', 'PNG, 16 bits']
)
def test_truncated_files_are_errors(image, kind):
  files = {**transparent_files(image), **opaque_files(image)}
  data = files[kind]
  for part in (0.2, 0.5, 0.9):
    with pytest.raises(CorruptImageError):
      decode_image(data[: int(part * len(data))])


@pytest.mark.parametrize(
  ('data', 'reason'),
  [
    (b'', 'empty'),
    (b'\n <!DOCTYPE html><html><body>404</body></html>', 'an HTML page'),
    (b'<html>not found</html>', 'an HTML page'),
    (b'<?xml version="1.0"?><svg></svg>', 'SVG'),
    (b'\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'HEIC .* convert it to JPEG'),
    (b'\0\0\0\x1cftypavif\0\0\0\0avifmif1', 'AVIF .* convert it to JPEG'),
    (b'%PDF-1.7', 'PDF'),
    (bytes(500), 'not an image'),
  ],
)
def test_what_is_no_picture_is_named(data, reason):
  with pytest.raises(CorruptImageError, match=reason):
    decode_image(data)


def test_float_pixels_are_refused_with_a_reason(image):
  with pytest.raises(CorruptImageError, match='32 bits'):
    decode_image(save(image.convert('F'), 'TIFF'))
