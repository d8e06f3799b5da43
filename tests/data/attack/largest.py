"""The largest pictures that are decoded, of each kind, plain and of noise."""

from collections.abc import Collection, Iterator

import cv2
import numpy as np
import PIL.Image

from coatnet_jax.data.decoding import CorruptImageError, decode_image
from tests.data.attack.seeds import save

# Format, mode and settings of each kind.
KINDS = {
  'jpeg': ('JPEG', 'RGB', {'quality': 90}),
  'jpeg best': ('JPEG', 'RGB', {'quality': 98, 'subsampling': 0}),
  'jpeg progressive': ('JPEG', 'RGB', {'quality': 90, 'progressive': True}),
  'jpeg cmyk': ('JPEG', 'CMYK', {'quality': 90}),
  'png': ('PNG', 'RGB', {'compress_level': 4}),
  'png alpha': ('PNG', 'RGBA', {'compress_level': 1}),
  'png palette': ('PNG', 'P', {}),
  'gif': ('GIF', 'P', {}),
  'bmp': ('BMP', 'RGB', {}),
  'webp': ('WEBP', 'RGB', {'quality': 90, 'method': 0}),
  'webp lossless': (
    'WEBP',
    'RGBA',
    {'lossless': True, 'quality': 0, 'method': 0},
  ),
  'tiff': ('TIFF', 'RGB', {}),
  'tiff lzw': ('TIFF', 'RGBA', {'compression': 'tiff_lzw'}),
  'tiff deflate': ('TIFF', 'RGB', {'compression': 'tiff_adobe_deflate'}),
  'tiff jpeg': ('TIFF', 'RGB', {'compression': 'jpeg'}),
  'tiff lzma': ('TIFF', 'RGB', {'compression': 'lzma'}),
  'tiff fax': ('TIFF', '1', {'compression': 'group4'}),
}
# Sides of a square tile that pictures are made of, in pixels.
_TILE = 512


def _create_pixels(side: int, content: str) -> np.ndarray:
  """Returns [side, side, 3] uint8: smooth, noise, or of one colour."""
  rng = np.random.default_rng(0)
  if content == 'flat':
    return np.full((side, side, 3), 77, np.uint8)
  size = _TILE if content == 'noise' else _TILE // 16
  tile = rng.integers(0, 256, (size, size, 3), np.uint8)
  tile = cv2.resize(tile, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)
  count = -(-side // _TILE)
  return np.tile(tile, (count, count, 1))[:side, :side]


def _is_decoded(data: bytes) -> bool:
  try:
    decode_image(data)
  except CorruptImageError:
    return False
  return True


def list_largest(
  kinds: Collection[str] = tuple(KINDS),
  contents: Collection[str] = ('flat', 'smooth', 'noise'),
) -> Iterator[tuple[str, bytes]]:
  """Yields the largest pictures of each kind that are decoded.

  Args:
    kinds: names in `KINDS`.
    contents: what is to be seen, of `_create_pixels`.
  """
  for content in contents:
    for kind in kinds:
      name, mode, settings = KINDS[kind]
      side = 11_500
      while side > 300:
        image = PIL.Image.fromarray(_create_pixels(side, content))
        if mode == 'RGBA':
          image.putalpha(image.convert('L'))
        elif mode == 'P':
          image = image.quantize(256, method=PIL.Image.Quantize.FASTOCTREE)
        try:
          data = save(image.convert(mode), name, **settings)
        except (OSError, ValueError):
          data = b''  # Too large to be encoded.
        if _is_decoded(data):
          yield f'{kind}, {content}, {side} x {side}', data
          break
        side = int(side * 0.9)
