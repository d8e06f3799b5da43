"""Packages of the structure of the npm ones, with a few tiny pictures."""

import base64
import dataclasses
import gzip
import hashlib
import io
import json
import tarfile

import cv2
import numpy as np

from coatnet_jax.data.preparation.emoji import CLASSES, PACKAGES

SKIN_TONES = ('1F3FB', '1F3FF')


def picture(seed: int) -> bytes:
  """Returns a PNG of one colour, the left half transparent."""
  pixels = np.zeros((64, 64, 4), np.uint8)
  pixels[:, 32:] = *((37 * seed + 50 * i) % 256 for i in range(3)), 255
  return cv2.imencode('.png', pixels)[1].tobytes()


def emoji(unified: str, subcategory: str, skin_tones=()) -> dict:
  return {
    'unified': unified,
    'image': f'{unified.lower()}.png',
    'subcategory': subcategory,
    'skin_variations': {
      tone: {'image': f'{unified.lower()}-{tone.lower()}.png'}
      for tone in skin_tones
    },
  }


def create_table() -> list[dict]:
  """Returns an emoji.json: ten emoji of each class, and some with variants."""
  table = [
    emoji(f'{0x10000 + 100 * i + j:X}', subcategories[0])
    for i, subcategories in enumerate(CLASSES.values())
    for j in range(10)
  ]
  for thing in range(0x20000, 0x20020):
    for person in ('1F468', '1F469', '1F9D1'):
      unified = f'{person}-200D-{thing:X}'
      table.append(emoji(unified, 'person-role', SKIN_TONES))
  return [*table, emoji('1F3FB', 'skin-tone')]


def image_names(table: list[dict]) -> list[str]:
  return [
    row['image']
    for emoji in table
    for row in (emoji, *emoji['skin_variations'].values())
  ]


def write_package(folder, artist, table=None, leave_out=()):
  """Writes a package; returns it as EmojiPackage, and its path."""
  table = create_table() if table is None else table
  members = {'package/emoji.json': json.dumps(table).encode()}
  for i, name in enumerate(image_names(table)):
    if name not in leave_out:
      members[f'package/img/{artist}/64/{name}'] = picture(i)
  members[f'package/img/{artist}/sheets/32.png'] = b'not read'
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w') as archive:
    for name, data in members.items():
      info = tarfile.TarInfo(name)
      info.size = len(data)
      archive.addfile(info, io.BytesIO(data))
  data = gzip.compress(file.getvalue())
  package = next(p for p in PACKAGES if p.artist == artist)
  digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
  package = dataclasses.replace(package, integrity=digest)
  (folder / package.file_name).write_bytes(data)
  return package, folder / package.file_name
