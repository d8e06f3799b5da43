"""Small files that say that they are large, and files of very many parts."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import PIL.Image

from tests.data.attack.seeds import bmp_runs, chunk, png, save
from tests.data.preparation.archive_examples import bomb


def jpeg(height: int, width: int, **options) -> bytes:
  """Returns a small JPEG that says it is of another size."""
  data = bytearray(
    save(PIL.Image.new('RGB', (16, 16), 'red'), 'JPEG', **options)
  )
  for marker in (b'\xff\xc0', b'\xff\xc2'):
    if (place := data.find(marker)) > 0:
      data[place + 5 : place + 9] = struct.pack('>HH', height, width)
  return bytes(data)


def many_scans(height: int, width: int, number: int) -> bytes:
  """Returns a progressive JPEG whose last scan is repeated."""
  data = jpeg(height, width, progressive=True)
  last = data.rfind(b'\xff\xda')
  return data[:last] + data[last:-2] * number + data[-2:]


def gif(height: int, width: int) -> bytes:
  data = bytearray(save(PIL.Image.new('P', (4, 4)), 'GIF'))
  data[6:10] = struct.pack('<HH', width, height)
  return bytes(data)


def bmp(height: int, width: int) -> bytes:
  data = bytearray(save(PIL.Image.new('RGB', (4, 4)), 'BMP'))
  data[18:26] = struct.pack('<II', width, height)
  return bytes(data)


def tiff(height: int, width: int, changes=(), **options) -> bytes:
  """Returns a TIFF that says it is of another size."""
  data = bytearray(save(PIL.Image.new('L', (4, 4)), 'TIFF', **options))
  (start,) = struct.unpack('<I', data[4:8])
  values = {256: width, 257: height, **dict(changes)}
  for entry in range(struct.unpack('<H', data[start : start + 2])[0]):
    place = start + 2 + 12 * entry
    (tag,) = struct.unpack('<H', data[place : place + 2])
    if tag in values:  # As a number of 32 bits.
      data[place + 2 : place + 12] = struct.pack('<HII', 4, 1, values[tag])
  return bytes(data)


def tiff_of(entries: dict[int, tuple[int, int, int]], rest: bytes) -> bytes:
  """Returns a TIFF of (type, count, value) by tag; `rest` begins at byte 8."""
  start = 8 + len(rest)
  directory = b''.join(
    struct.pack('<HHII', tag, *entry) for tag, entry in sorted(entries.items())
  )
  number = struct.pack('<H', len(entries))
  head = b'II*\0' + struct.pack('<I', start)
  return head + rest + number + directory + bytes(4)


def tiff_with_tile(tile: int) -> bytes:
  """Returns a TIFF of 16 x 16 pixels whose tiles are large, as LZW."""
  content = zlib.compress(bytes(100_000))
  return tiff_of(
    {
      256: (4, 1, 16), 257: (4, 1, 16), 258: (3, 1, 8), 259: (3, 1, 8),
      262: (3, 1, 1), 277: (3, 1, 1), 322: (4, 1, tile), 323: (4, 1, tile),
      324: (4, 1, 8), 325: (4, 1, len(content)),
    },
    content,
  )  # fmt: skip


def tiff_of_strips(number: int) -> bytes:
  """Returns a TIFF of so many strips of one row."""
  places = struct.pack('<I', 8) * number
  sizes = struct.pack('<I', 1) * number
  return tiff_of(
    {
      256: (4, 1, 1), 257: (4, 1, number), 258: (3, 1, 8), 259: (3, 1, 1),
      262: (3, 1, 1), 273: (4, number, 8), 277: (3, 1, 1), 278: (4, 1, 1),
      279: (4, number, 8 + len(places)),
    },
    places + sizes,
  )  # fmt: skip


def tags_of_everything(number: int, size: int) -> bytes:
  """Returns a TIFF each of whose tags has all of the file's bytes."""
  entries = {30_000 + index: (7, size, 8) for index in range(number)}
  entries |= {256: (4, 1, 4), 257: (4, 1, 4), 273: (4, 1, 8), 279: (4, 1, 16)}
  return tiff_of(entries, bytes(size))


def webp(height: int, width: int) -> bytes:
  """Returns an extended WebP with a canvas of that size."""
  data = save(PIL.Image.new('RGBA', (4, 4)), 'WEBP', lossless=True)
  canvas = b'VP8X' + struct.pack('<IB3x', 10, 0x10)
  canvas += struct.pack('<I', width - 1)[:3] + struct.pack('<I', height - 1)[:3]
  body = b'WEBP' + canvas + data[12:]
  return b'RIFF' + struct.pack('<I', len(body)) + body


def webp_with_frames(number: int) -> bytes:
  """Returns an animated WebP, the last of whose frames is repeated."""
  frames = [PIL.Image.new('RGB', (32, 32), color) for color in ('red', 'blue')]
  data = save(frames[0], 'WEBP', save_all=True, append_images=frames[1:])
  last = data[data.rfind(b'ANMF') :]
  body = data[8:] + last * number
  return b'RIFF' + struct.pack('<I', len(body)) + body


def webp_with_chunks(number: int) -> bytes:
  data = save(PIL.Image.new('RGB', (8, 8)), 'WEBP')
  body = b'WEBP' + (b'ABCD' + bytes(4)) * number + data[12:]
  return b'RIFF' + struct.pack('<I', len(body)) + body


def with_segments(content: bytes) -> bytes:
  """Returns a JPEG with bytes after its start."""
  data = jpeg(16, 16)
  return data[:2] + content + data[2:]


def exif_of_everything() -> bytes:
  """Returns EXIF of 64 kB whose 5,000 tags have 5 kB each."""
  number = 5000
  tags = struct.pack('<H', number) + b''.join(
    struct.pack('<HHII', index, 7, 60_000, 8) for index in range(number)
  )
  return b'II*\0' + struct.pack('<I', 8) + tags + bytes(4)


def empty_deflate_blocks(size: int) -> bytes:
  """Returns zlib's bytes that say nothing for long, and then one row."""
  # Blocks of a fixed code that hold its end alone: ten bits each.
  packed = np.packbits(
    np.tile(np.array([0, 1, 0, 0, 0, 0, 0, 0, 0, 0], np.uint8), size // 10 * 8),
    bitorder='little',
  ).tobytes()
  return zlib.compress(b'')[:2] + packed + zlib.compress(bytes(4))[2:]


def list_bombs() -> Iterator[tuple[str, Callable[[], bytes]]]:
  """Yields the names of pictures, and functions that make them."""
  sizes = [(65_000, 65_000), (20_000, 20_000), (1, 65_500), (65_500, 2_100)]
  for height, width in sizes:
    for make in (jpeg, gif, bmp, tiff):
      yield (
        f'{make.__name__} {height} x {width}',
        lambda make=make, size=(height, width): make(*size),
      )
    yield (
      f'png {height} x {width}',
      lambda size=(width, height): bomb(*size),
    )
    yield (
      f'progressive jpeg {height} x {width}',
      lambda size=(height, width): jpeg(*size, progressive=True),
    )
  yield 'png 1 x 2**31 - 1', lambda: bomb(2**31 - 1, 1)
  yield 'png 2**31 - 1', lambda: bomb(2**31 - 1, 2**31 - 1)
  yield 'tiff 2**31 - 1', lambda: tiff(2**31 - 1, 2**31 - 1)
  yield 'bmp 2**31 - 1', lambda: bmp(2**31 - 1, 2**31 - 1)
  yield 'webp 16000', lambda: webp(16_000, 16_000)
  yield 'jpeg of 500 scans', lambda: many_scans(4096, 4096, 500)
  yield 'jpeg of 60 scans', lambda: many_scans(4096, 2048, 50)
  yield 'jpeg of 20,000 scans', lambda: many_scans(64, 64, 20_000)
  yield 'png line', lambda: png(30_000_000, 1, color=0)
  yield (
    'png text of 1 GiB',
    lambda: png(4, 4, chunks=[chunk(b'zTXt', b'a\0\0' + _deflated_zeros())]),
  )
  yield (
    'png profile of 1 GiB',
    lambda: png(4, 4, chunks=[chunk(b'iCCP', b'a\0\0' + _deflated_zeros())]),
  )
  yield (
    'png text of 1 GiB, iTXt',
    lambda: png(
      4, 4, chunks=[chunk(b'iTXt', b'a\0\1\0\0\0' + _deflated_zeros())]
    ),
  )
  yield (
    'png of 2,000,000 chunks',
    lambda: png(4, 4, chunks=[chunk(b'tEXt', b'a\0')] * 2_000_000),
  )
  yield (
    'png pixels of 1 GiB',
    lambda: png(4, 4, idat=_deflated_zeros()),
  )
  yield (
    'png of empty blocks',
    lambda: png(4, 4, color=0, idat=empty_deflate_blocks(5_000_000)),
  )
  yield (
    'png exif',
    lambda: png(4, 4, chunks=[chunk(b'eXIf', b'Exif\0\0' * 2_000_000)]),
  )
  yield (
    'png exif of everything',
    lambda: png(
      4, 4, chunks=[chunk(b'eXIf', tags_of_everything(30_000, 10**6))]
    ),
  )
  yield (
    'gif comment of 10 MB',
    lambda: _gif_with(b'\x21\xfe' + (b'\xff' + bytes(255)) * 40_000 + b'\0'),
  )
  yield (
    'gif of 2,000,000 extensions',
    lambda: _gif_with(b'\x21\xfe\0' * 2_000_000),
  )
  yield (
    'gif of 30,000 frames',
    lambda: (
      (data := gif(400, 400))[:-1]
      + data[data.index(b'\x2c') : -1] * 30_000
      + b';'
    ),
  )
  yield (
    'jpeg of 3,000,000 segments',
    lambda: with_segments(b'\xff\xe1\0\2' * 3_000_000),
  )
  yield 'jpeg of rubbish', lambda: with_segments(b'\xff\0' * 10_000_000)
  yield 'jpeg of padding', lambda: with_segments(b'\xff' * 20_000_000)
  yield (
    'jpeg exif of everything',
    lambda: with_segments(
      b'\xff\xe1'
      + struct.pack('>H', 8 + len(exif_of_everything()))
      + b'Exif\0\0'
      + exif_of_everything()
    ),
  )
  yield (
    'jpeg arithmetic',
    lambda: jpeg(8000, 8000).replace(b'\xff\xc0', b'\xff\xc9'),
  )
  yield (
    'jpeg lossless',
    lambda: jpeg(8000, 8000).replace(b'\xff\xc0', b'\xff\xc3'),
  )
  yield (
    'jpeg of one channel a scan',
    lambda: jpeg(11_000, 11_000).replace(
      b'\xff\xda\0\x0c\3\1\0\2\x11\3\x11', b'\xff\xda\0\x08\1\1\0'
    ),
  )
  yield (
    'bmp runs of short rows',
    lambda: bmp_runs(7000, 7000, b'\1\1\0\0' * 7000),
  )
  yield 'tiff tiles of 30,000', lambda: tiff_with_tile(30_000)
  yield 'tiff of 3,000,000 strips', lambda: tiff_of_strips(3_000_000)
  yield 'tiff tags of everything', lambda: tags_of_everything(30_000, 10**6)
  for compression in ('tiff_lzw', 'tiff_adobe_deflate', 'zstd', 'lzma'):
    yield (
      f'tiff {compression} 7000',
      lambda name=compression: tiff(7000, 7000, {278: 7000}, compression=name),
    )
  yield 'webp of 300,000 frames', lambda: webp_with_frames(300_000)
  yield 'webp of 3,000,000 chunks', lambda: webp_with_chunks(3_000_000)


def _gif_with(blocks: bytes) -> bytes:
  """Returns a GIF with blocks before its frame."""
  data = gif(4, 4)
  place = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
  return data[:place] + blocks + data[place:]


def _deflated_zeros() -> bytes:
  """Returns a GiB of zeros, compressed to a MB."""
  packer, file = zlib.compressobj(9), io.BytesIO()
  for _ in range(64):
    file.write(packer.compress(bytes(1 << 24)))
  return file.getvalue() + packer.flush()
