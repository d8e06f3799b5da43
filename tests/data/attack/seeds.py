"""Small whole pictures of every kind that is read, and their mutations."""

import io
import struct
import zlib

import cv2
import numpy as np
import PIL.Image


def save(image: PIL.Image.Image, name: str, **settings) -> bytes:
  file = io.BytesIO()
  image.save(file, name, **settings)
  return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
  """Returns a chunk of a PNG."""
  check = zlib.crc32(kind + content)
  return (
    struct.pack('>I', len(content)) + kind + content + struct.pack('>I', check)
  )


def png(
  height: int,
  width: int,
  *,
  bits=8,
  color=2,
  interlaced=0,
  chunks=(),
  idat=None,
) -> bytes:
  """Returns a PNG of zeros, with further chunks before its pixels."""
  channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
  header = struct.pack('>IIBBBBB', width, height, bits, color, 0, 0, interlaced)
  if idat is None:
    rows = bytearray()
    # Adam7's passes, or one of all rows: first row and column, and their steps.
    passes = (
      (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4),
      (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1),
    ) if interlaced else ((0, 0, 1, 1),)  # fmt: skip
    for top, left, down, right in passes:
      num_rows = -(-(height - top) // down)
      columns = -(-(width - left) // right)
      if num_rows > 0 and columns > 0:
        rows += bytes(num_rows * (1 + -(-columns * channels * bits // 8)))
    idat = zlib.compress(bytes(rows))
  palette = [chunk(b'PLTE', bytes(range(48)))] if color == 3 else []
  return b''.join([
    b'\x89PNG\r\n\x1a\n', chunk(b'IHDR', header), *chunks, *palette,
    chunk(b'IDAT', idat), chunk(b'IEND', b''),
  ])  # fmt: skip


def mend_png(data: bytes) -> bytes:
  """Returns a PNG whose chunks have the sums of what they hold."""
  mended, place = bytearray(data), 8
  while place + 12 <= len(data):
    size = int.from_bytes(data[place : place + 4], 'big')
    end = place + 8 + size
    if end + 4 > len(data):
      break
    check = zlib.crc32(data[place + 4 : end])
    mended[end : end + 4] = struct.pack('>I', check)
    place = end + 4
  return bytes(mended)


def create_seeds() -> dict[str, bytes]:
  """Returns pictures by name; the name begins with the format."""
  rng = np.random.default_rng(0)
  pixels = cv2.resize(
    rng.integers(0, 256, (6, 8, 3), np.uint8), (64, 48), interpolation=2
  )
  image = PIL.Image.fromarray(pixels)
  other = PIL.Image.fromarray(pixels[::-1])
  with_alpha = image.copy()
  with_alpha.putalpha(image.convert('L'))
  palette = image.quantize(16)
  exif = PIL.Image.Exif()
  exif.update({0x0112: 6, 0x010F: 'maker', 0x0131: 'program'})
  deep = cv2.imencode('.png', pixels.astype(np.uint16) * 257)[1].tobytes()
  text = zlib.compress(bytes(3000))
  tiff = {
    f'tiff {name}': save(image, 'TIFF', compression=name)
    for name in (
      *('tiff_lzw', 'tiff_adobe_deflate', 'packbits'),
      *('jpeg', 'lzma', 'zstd'),
    )
  }
  restarts = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[
    1
  ].tobytes()
  return {
    'jpeg': save(image, 'JPEG', exif=exif, icc_profile=bytes(400)),
    'jpeg 444': save(image, 'JPEG', subsampling=0, comment='a' * 40),
    'jpeg progressive': save(image, 'JPEG', progressive=True),
    'jpeg grey': save(image.convert('L'), 'JPEG'),
    'jpeg cmyk': save(image.convert('CMYK'), 'JPEG'),
    'jpeg restarts': restarts,
    'jpeg mpo': save(image, 'MPO', save_all=True, append_images=[other]),
    'png': save(image, 'PNG', exif=exif, icc_profile=bytes(400)),
    'png alpha': save(with_alpha, 'PNG'),
    'png palette': save(palette, 'PNG', transparency=3),
    'png bits': save(image.convert('1'), 'PNG', transparency=0),
    'png grey': save(image.convert('L'), 'PNG', transparency=77),
    'png deep': deep,
    'png interlaced': png(
      20, 33, interlaced=1, color=6, chunks=[chunk(b'zTXt', b'a\0\0' + text)]
    ),
    'png apng': save(image, 'PNG', save_all=True, append_images=[other]),
    'gif': save(palette, 'GIF', transparency=5, comment=b'a' * 40),
    'gif interlaced': save(palette, 'GIF', interlace=1),
    'gif animated': save(
      palette, 'GIF', save_all=True, append_images=[other.quantize(16)]
    ),
    'bmp': save(image, 'BMP'),
    'bmp palette': save(palette, 'BMP'),
    'bmp alpha': save(with_alpha, 'BMP'),
    'bmp runs': bmp_runs(16, 32, b'\x08\x01\x08\x02\x00\x00' * 16 + b'\0\1'),
    'webp': save(image, 'WEBP', exif=exif),
    'webp alpha': save(with_alpha, 'WEBP', quality=70),
    'webp lossless': save(with_alpha, 'WEBP', lossless=True),
    'webp animated': save(image, 'WEBP', save_all=True, append_images=[other]),
    'tiff': save(image, 'TIFF', exif=exif),
    'tiff big': save(with_alpha, 'TIFF', big_tiff=True),
    'tiff cmyk': save(image.convert('CMYK'), 'TIFF'),
    'tiff bits': save(image.convert('1'), 'TIFF', compression='group4'),
    'tiff deep': cv2.imencode('.tiff', pixels.astype(np.uint16) * 257)[
      1
    ].tobytes(),
    **tiff,
  }


def bmp_runs(height: int, width: int, runs: bytes) -> bytes:
  """Returns a BMP of 8 bits whose pixels are these runs."""
  head = struct.pack(
    '<IiiHHIIiiII', 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0
  )
  colors = bytes(range(256)) * 4
  start = 14 + len(head) + len(colors)
  return (
    b'BM'
    + struct.pack('<IHHI', start + len(runs), 0, 0, start)
    + head
    + colors
    + runs
  )


def mutate(data: bytes, rng: np.random.Generator, others: list[bytes]) -> bytes:
  """Returns a picture with some bits, bytes or lengths of it changed."""
  kind = rng.integers(8)
  found = bytearray(data)

  def place():  # Headers are small, and more is to be broken there.
    end = min(len(found), 200) if rng.random() < 0.5 else len(found)
    return int(rng.integers(end))

  if kind <= 1:
    for _ in range(rng.choice([1, 1, 2, 8])):
      found[place()] ^= 1 << int(rng.integers(8))
  elif kind == 2:
    for _ in range(rng.choice([1, 3, 20])):
      found[place()] = int(rng.integers(256))
  elif kind == 3:
    del found[place() :]
  elif kind == 4:
    first = place()
    del found[first : first + int(rng.choice([1, 4, 12, 100]))]
  elif kind == 5:
    first, length = place(), int(rng.choice([1, 16, 300]))
    part = found[first : first + length]
    found[first:first] = part * int(rng.choice([1, 2, 40]))
  elif kind == 6:
    other = others[int(rng.integers(len(others)))]
    first, start = place(), int(rng.integers(len(other)))
    length = int(rng.choice([2, 16, 300]))
    found[first : first + length] = other[start : start + length]
  else:  # A number that says a length, or how many.
    size = int(rng.choice([1, 2, 4]))
    number = int(rng.choice([0, 1, 255, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1]))
    order = 'big' if rng.random() < 0.5 else 'little'
    first = place()
    found[first : first + size] = (number % 256**size).to_bytes(size, order)
  if found.startswith(b'\x89PNG') and rng.random() < 0.7:
    return mend_png(bytes(found))
  return bytes(found)
