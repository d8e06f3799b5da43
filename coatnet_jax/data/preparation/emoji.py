"""Emoji of two artists as two data sets of the same classes and splits.

The npm packages emoji-datasource-google and emoji-datasource-twitter have each
emoji of Unicode as a PNG of 64x64 pixels with transparency, and a list with
Unicode's subcategory of each. The classes are ours: subcategories put together
so that each has some dozens of emoji that look alike. What an emoji is of,
which files show it, and on which side of the split it is are the same in both,
so that a model of one can be tested on the other.
"""

import base64
import dataclasses
import hashlib
import json
import pathlib
import tarfile
import zlib

import numpy as np

from coatnet_jax.data.decoding import CorruptImageError, decode_image
from coatnet_jax.data.image_source import format_count
from coatnet_jax.data.preparation.examples import (
  Examples,
  PreparationSource,
  hold_out_fraction,
)
from coatnet_jax.data.preparation.verification import encode_png
from coatnet_jax.errors import UserError

VERSION = '16.0.0'
# Part of the emoji, chosen by hashes: a little more of some classes, and a
# little less of others.
EVAL_FRACTION = 0.2

# Unicode's subcategories of each class. Left out are those of skin tones.
CLASSES = {
  'activity': ('arts & crafts', 'award-medal', 'event', 'game', 'sport'),
  'animal': (
    *('animal-amphibian', 'animal-bird', 'animal-bug', 'animal-mammal'),
    *('animal-marine', 'animal-reptile'),
  ),
  'clock': ('time',),
  'clothing': ('clothing',),
  'device': (
    *('computer', 'light & video', 'music', 'musical-instrument', 'phone'),
    'sound',
  ),
  'face': (
    *('face-affection', 'face-concerned', 'face-costume', 'face-glasses'),
    *('face-hand', 'face-hat', 'face-negative', 'face-neutral-skeptical'),
    *('face-sleepy', 'face-smiling', 'face-tongue', 'face-unwell'),
    *('cat-face', 'monkey-face'),
  ),
  'family': ('family',),
  'flag': ('country-flag', 'flag', 'subdivision-flag'),
  'food': (
    *('dishware', 'drink', 'food-asian', 'food-fruit', 'food-prepared'),
    *('food-sweet', 'food-vegetable'),
  ),
  'hand': (
    *('body-parts', 'hand-fingers-closed', 'hand-fingers-open'),
    *('hand-fingers-partial', 'hand-prop', 'hand-single-finger', 'hands'),
  ),
  'heart': ('emotion', 'heart'),
  'letter': ('alphanum', 'currency', 'keycap', 'punctuation', 'math'),
  'moving_person': ('person-activity', 'person-resting', 'person-sport'),
  'office': ('book-paper', 'mail', 'money', 'office', 'writing'),
  'person': ('person', 'person-gesture', 'person-symbol'),
  'place': (
    *('hotel', 'place-building', 'place-geographic', 'place-map'),
    *('place-other', 'place-religious'),
  ),
  'plant': ('plant-flower', 'plant-other'),
  'role': ('person-fantasy', 'person-role'),
  'shape': ('geometric', 'other-symbol'),
  'sign': (
    *('arrow', 'av-symbol', 'gender', 'religion', 'transport-sign'),
    *('warning', 'zodiac'),
  ),
  'tool': ('household', 'lock', 'medical', 'other-object', 'science', 'tool'),
  'vehicle': ('transport-air', 'transport-ground', 'transport-water'),
  'weather': ('sky & weather',),
}
_LEFT_OUT = ('skin-tone',)

# Man and woman, who are taken for a person (1F9D1) of the same doings.
_PERSONS = {'1F468': '1F9D1', '1F469': '1F9D1'}
# What else tells variants of an emoji apart: joiner, selector, female and male
# sign, five skin tones.
_VARIANT_MARKS = {
  *('200D', 'FE0F', '2640', '2642'),
  *('1F3FB', '1F3FC', '1F3FD', '1F3FE', '1F3FF'),
}


@dataclasses.dataclass(frozen=True)
class EmojiPackage:
  """A package of the npm registry.

  Attributes:
    name: name of the package.
    artist: artist's name in the names of its files.
    integrity: base64 of its SHA-512, as npm has it in lock files.
    licence: licence of the pictures.
  """

  name: str
  artist: str
  integrity: str
  licence: str

  @property
  def file_name(self) -> str:
    """What `npm pack` calls it."""
    return f'{self.name}-{VERSION}.tgz'


PACKAGES = (
  EmojiPackage(
    'emoji-datasource-google',
    'google',
    'ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJ'
    'CoT8DlPhfQ3A==',
    'Apache-2.0',
  ),
  EmojiPackage(
    'emoji-datasource-twitter',
    'twitter',
    '7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg'
    '8jBbuL2eyELQ==',
    'CC-BY-4.0',
  ),
)


class EmojiSource(PreparationSource):
  """All emoji of a package, composited on white, as RGB PNG."""

  encoding_format = 'png'
  image_shape = (64, 64, 3)

  def __init__(self, package: EmojiPackage, path: pathlib.Path):
    """Reads the package.

    Args:
      package: description of the package.
      path: path of its file.

    Raises:
      UserError: it is missing or another file.
    """
    self.name = f'emoji_{package.artist}'
    self.description = (
      f'Emoji of {package.name} {VERSION}, {package.licence}, on white.'
    )
    self.class_names = tuple(CLASSES)
    self.content = _check_integrity(path, package)
    table, self._files = _read_package(path, package)
    self.splits = split_emoji(table, self._files)

  def read(self, examples, index):
    """Returns one image as PNG; see PreparationSource."""
    data = self._files[examples.names[index].decode()]
    try:
      return encode_png(decode_image(data))
    except CorruptImageError:
      return data


def split_emoji(
  table: list[dict], files: dict[str, bytes]
) -> dict[str, Examples]:
  """Gives each picture its label and its side of the split.

  An emoji's skin tones, and man, woman and person of the same doings, are all
  on one side, which the hash of what they have in common decides.

  Args:
    table: content of emoji.json.
    files: pictures by name.

  Returns:
    The pictures of 'train' and 'validation'.

  Raises:
    UserError: a subcategory is not known, or a picture is missing.
  """
  labels = {
    subcategory: label
    for label, subcategories in enumerate(CLASSES.values())
    for subcategory in subcategories
  }
  rows = []
  for emoji in sorted(table, key=lambda emoji: emoji['image']):
    if emoji['subcategory'] in _LEFT_OUT:
      continue
    if emoji['subcategory'] not in labels:
      raise UserError(f'{emoji["subcategory"]!r} is in no class of emoji.')
    label = labels[emoji['subcategory']]
    for variant in (emoji, *emoji.get('skin_variations', {}).values()):
      rows.append((variant['image'], label, _remove_variant(emoji['unified'])))
  missing = [name for name, _, _ in rows if name not in files]
  if missing:
    raise UserError(
      f'The package lacks {format_count(len(missing), "picture")} of its own'
      f' list, {missing[0]} among them; get it again.'
    )
  names, numbers, groups = zip(*rows)
  examples = Examples(
    names=np.array([name.encode() for name in names]),
    labels=np.array(numbers, np.int32),
    files=np.zeros(len(rows), np.int32),
    offsets=np.arange(len(rows)),
    sizes=np.array([len(files[name]) for name in names], np.int64),
  )
  by_group = dataclasses.replace(
    examples, names=np.array([group.encode() for group in groups])
  )
  train, held_out = hold_out_fraction(by_group, EVAL_FRACTION)
  return {
    'train': examples.select(train.offsets),
    'validation': examples.select(held_out.offsets),
  }


def _remove_variant(unified: str) -> str:
  """Returns what the variants of an emoji have in common of its code."""
  parts = [_PERSONS.get(part, part) for part in unified.split('-')]
  return '-'.join(part for part in parts if part not in _VARIANT_MARKS)


def _check_integrity(path: pathlib.Path, package: EmojiPackage) -> str:
  """Returns the SHA-512, or raises a UserError if it is another one."""
  try:
    with open(path, 'rb') as file:
      digest = hashlib.file_digest(file, 'sha512').digest()
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error.strerror}.') from error
  found = base64.b64encode(digest).decode()
  if found != package.integrity:
    raise UserError(
      f'{path} is not {package.name} {VERSION}: its SHA-512 is {found}, not'
      f' {package.integrity}; get it again.'
    )
  return found


def _read_package(
  path: pathlib.Path, package: EmojiPackage
) -> tuple[list[dict], dict[str, bytes]]:
  """Returns emoji.json and the pictures by file name, all in memory."""
  folder = f'package/img/{package.artist}/64/'
  table, files = None, {}
  try:
    with tarfile.open(path) as archive:
      for member in archive:
        if member.name == 'package/emoji.json':
          table = json.load(archive.extractfile(member))
        elif member.isfile() and member.name.startswith(folder):
          name = member.name.removeprefix(folder)
          files[name] = archive.extractfile(member).read()
  except (tarfile.TarError, EOFError, zlib.error) as error:
    raise UserError(f'{path} is not a package of npm: {error}.') from error
  if not table or not files:
    raise UserError(
      f'{path} has no emoji.json, or no pictures in {folder}; get it again.'
    )
  return table, files
