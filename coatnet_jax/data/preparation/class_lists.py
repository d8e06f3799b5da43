"""Which classes a data set has, and in which order: a label is the position.

Lists that are not in a package here are derived from the archive itself: the
names of its members, sorted, as all published ImageNet models number them.
"""

import importlib.util
import pathlib
import re

from coatnet_jax.data.known_datasets import get_known_dataset
from coatnet_jax.errors import UserError
from coatnet_jax.texts import printable, read_lines, read_names

# ImageNet-21K-P is the classes of winter 2021 with at least so many images.
P_MIN_IMAGES = 500
_SYNSET = re.compile(r'n\d{8}', re.ASCII)


def read_class_list(path: pathlib.Path) -> tuple[str, ...]:
  """Reads a file with the name of a class in each line.

  Args:
    path: file with a class per line. Where every line begins with a synset,
      what follows it in the line is ignored.

  Returns:
    The names in the order of the lines.

  Raises:
    UserError: there is no such file, it is empty, or a line is empty or there
      twice.
  """
  names = read_names(path, 'The class list')
  firsts = [name.split()[0] for name in names]
  if not all(_SYNSET.fullmatch(first) for first in firsts):
    return names
  if len(set(firsts)) < len(firsts):
    twice = next(first for first in firsts if firsts.count(first) > 1)
    raise UserError(
      f'The class list {printable(path)} has {twice} twice; leave one out.'
    )
  return tuple(firsts)


def read_imagenet2012_classes() -> tuple[str, ...]:
  """Returns the 1,000 synsets, sorted; TFDS has them."""
  return read_class_list(_find_imagenet2012_folder() / 'labels.txt')


def read_imagenet2012_validation_labels() -> tuple[str, ...]:
  """Returns the synsets of the 50,000 validation images, sorted by name."""
  path = _find_imagenet2012_folder() / 'validation_labels.txt'
  return tuple(read_lines(path))


def derive_imagenet21k_classes(
  name: str, class_sizes: dict[str, int]
) -> tuple[str, ...]:
  """Derives the class list of an ImageNet-21k release from its archive.

  Args:
    name: 'imagenet21k_fall11', 'imagenet21k_winter21' or 'imagenet21k_p'.
    class_sizes: number of images of each class in the archive.

  Returns:
    The synsets, sorted.

  Raises:
    UserError: they are not as many as the release is known to have, or not
      synsets.
  """
  for class_name in class_sizes:
    if not _SYNSET.fullmatch(class_name):
      raise UserError(
        f'The archive has a member {class_name}.tar, which is not named after'
        ' a synset like n01440764; if that is meant, give the names of the'
        ' classes by --classes=FILE.'
      )
  min_images = P_MIN_IMAGES if name == 'imagenet21k_p' else 0
  found = [key for key, size in class_sizes.items() if size >= min_images]
  expected = get_known_dataset(name).num_classes
  if len(found) != expected:
    having = f' with at least {min_images} images' if min_images else ''
    raise UserError(
      f'The archive has {len(found):,} classes{having} and {name} has'
      f' {expected:,}: it is another release or a part of one; give the'
      ' classes by --classes=FILE to prepare it all the same.'
    )
  return tuple(sorted(found))


def _find_imagenet2012_folder() -> pathlib.Path:
  package = importlib.util.find_spec('tensorflow_datasets')
  root = pathlib.Path(package.submodule_search_locations[0])
  return root / 'datasets' / 'imagenet2012'
