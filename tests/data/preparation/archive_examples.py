"""Archives of the published structure, with tiny images."""

import hashlib
import io
import pathlib
import tarfile
import zlib

import cv2
import numpy as np
import PIL.Image
import simplejpeg

SYNSETS = tuple(f'n{10_000_000 + 37 * i}' for i in range(50))


def hash_files(directory: pathlib.Path) -> dict[str, str]:
  """Returns the SHA-256 of every file in a folder and below, by its path."""
  return {
    path.relative_to(directory).as_posix(): hashlib.sha256(
      path.read_bytes()
    ).hexdigest()
    for path in directory.rglob('*')
    if path.is_file()
  }


def jpeg(seed: int, size: int = 16) -> bytes:
  rng = np.random.default_rng(seed)
  image = cv2.resize(
    rng.integers(0, 256, (4, 5, 3), np.uint8), (size + seed % 5, size)
  )
  return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=90)


def write_folder(directory: pathlib.Path, **num_images: int) -> pathlib.Path:
  """Writes pictures of the classes 'a' to 'd' by turns.

  Args:
    directory: directory of the splits.
    **num_images: number of pictures by the name of each split.

  Returns:
    The directory.
  """
  for split, number in num_images.items():
    for index in range(number):
      path = directory / split / 'abcd'[index % 4] / f'{index}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(jpeg(index, 32))
  return directory


def other_format(format_name: str, mode: str = 'RGB') -> bytes:
  file = io.BytesIO()
  PIL.Image.new(mode, (20, 18), 77 if mode == 'L' else None).save(
    file, format_name
  )
  return file.getvalue()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
  """Returns a PNG of a few kB that says it has 3.6 billion pixels."""

  def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data).to_bytes(4, 'big')
    return len(data).to_bytes(4, 'big') + kind + data + checksum

  header = width.to_bytes(4, 'big') + height.to_bytes(4, 'big')
  return (
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', header + bytes((1, 0, 0, 0, 0)))
    + chunk(b'IDAT', zlib.compress(bytes(60_000)))
    + chunk(b'IEND', b'')
  )


# What is not as its name says, by the number of its class.
ODD = {
  3: {
    'truncated': jpeg(1, 64)[:-120],
    'empty': b'',
    'text': b'<html>404</html>',
  },
  7: {'png': other_format('PNG'), 'cmyk': other_format('JPEG', 'CMYK')},
  11: {'bomb': bomb(), 'gif': other_format('GIF', 'L')},
}
DROPPED = {'truncated': 3, 'empty': 3, 'text': 3, 'bomb': 11}
CHANGED = {'png': 7, 'cmyk': 7, 'gif': 11}


def tar(files: dict[str, bytes], edit=lambda info: None) -> bytes:
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w') as archive:
    for name, data in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(data)
      edit(info)
      archive.addfile(info, io.BytesIO(data))
  return file.getvalue()


def class_files(label: int, count: int = 4) -> dict[str, bytes]:
  synset = SYNSETS[label]
  files = {f'{synset}_{i}.JPEG': jpeg(100 * label + i) for i in range(count)}
  for kind, data in ODD.get(label, {}).items():
    files[f'{synset}_{kind}.JPEG'] = data
  return files


def class_archives(count: int = 4, num_classes: int = 50) -> dict[str, bytes]:
  return {
    f'{SYNSETS[i]}.tar': tar(class_files(i, count)) for i in range(num_classes)
  }


def all_images(count: int = 4) -> dict[str, bytes]:
  found = {}
  for label in range(len(SYNSETS)):
    found |= class_files(label, count)
  return found
