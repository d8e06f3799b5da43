"""Which files of a directory are images, and which of its folders are classes.

Nothing is read but names. What is not used is counted, to be said.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable

from coatnet_jax.errors import UserError
from coatnet_jax.texts import printable

IMAGE_SUFFIXES = (
  *('.jpg', '.jpeg', '.jpe', '.jfif', '.jif', '.jfi', '.pjpeg', '.pjp'),
  *('.jpg_large', '.jpg_orig', '.png', '.apng', '.gif', '.bmp', '.dib'),
  *('.webp', '.tif', '.tiff', '.mpo'),
)
# Images that the decoder does not read.
_TO_CONVERT = (
  *('.heic', '.heif', '.hif', '.avif', '.jxl', '.jp2', '.j2k', '.svg'),
  *('.psd', '.ico', '.tga', '.ppm', '.pgm', '.pnm', '.exr', '.hdr'),
  *('.cr2', '.cr3', '.nef', '.arw', '.dng', '.raf', '.orf', '.rw2'),
)
# Pipes, sockets, devices, and links to nothing or in a circle.
_NO_FILE = 'not files but pipes, devices or broken links'
# What the folders of splits are usually called.
_SPLIT_NAMES = (
  *('train', 'training', 'val', 'valid', 'validation', 'test', 'testing'),
  *('eval', 'evaluation', 'dev'),
)


class LeftOut:
  """Files that are not used, by reason: how many, and an example of each."""

  def __init__(self):
    """Starts with none."""
    self._found: dict[str, tuple[int, str]] = {}

  def add(self, reason: str, path: str) -> None:
    """Counts a file.

    Args:
      reason: words that follow the number of files in a message: 'hidden'.
      path: path of the file, as an example.
    """
    count, example = self._found.get(reason, (0, path))
    self._found[reason] = (count + 1, example)

  def add_all(self, folder: str, other: 'LeftOut') -> None:
    """Adds what was left out of a folder in this one."""
    for reason, (count, example) in other._found.items():
      before, first = self._found.get(reason, (0, f'{folder}/{example}'))
      self._found[reason] = (before + count, first)

  def describe(self) -> str:
    """Returns how many and why, in one line; '' for none."""
    parts = [
      f'{count:,} {reason} ({printable(example)}{", ..." * (count > 1)})'
      for reason, (count, example) in self._found.items()
    ]
    return f'left out: {", ".join(parts)}' if parts else ''


@dataclasses.dataclass(frozen=True)
class ClassFolders:
  """The images of a directory that has one folder per class.

  Attributes:
    directory: directory of the class folders.
    files: images of every class, by the folder's name, as paths in that folder;
      classes in the order of their labels, files sorted.
    left_out: line that says which files of the directory are not used, and why.
  """

  directory: pathlib.Path
  files: dict[str, list[str]]
  left_out: str

  @property
  def num_images(self) -> int:
    """The number of all images."""
    return sum(len(names) for names in self.files.values())


def list_images(folder: pathlib.Path, left_out: LeftOut) -> list[str]:
  """Lists the images in a folder and below, links to folders followed.

  Args:
    folder: folder to be searched.
    left_out: counter of the files that are not used, which is added to.

  Returns:
    Their paths in the folder, sorted.

  Raises:
    UserError: a folder cannot be read.
  """
  found, seen = [], set()
  top = os.path.realpath(folder)
  waiting = ['']
  while waiting:
    within = waiting.pop()
    # A link may lead back to where it lies, or to what that lies in.
    real = os.path.realpath(folder / within)
    if real in seen or top.startswith(os.path.join(real, '')):
      continue
    seen.add(real)
    is_hidden = f'{os.sep}.' in f'{os.sep}{within}'
    folders = []
    for entry in _scan(folder / within):
      path = os.path.join(within, entry.name)
      if is_folder(entry):
        folders.append(path)
      elif not is_image(entry.name):
        _count_other(entry.name, path, left_out)
      elif is_hidden:
        left_out.add('hidden', path)
      elif _is_file(entry):
        found.append(path)
      else:
        left_out.add(_NO_FILE, path)
    waiting += reversed(folders)
  return sorted(found)


def list_files(folder: pathlib.Path) -> list[str]:
  """Returns the names of the files right in a folder, sorted; none if missing.

  Args:
    folder: path of the folder.

  Raises:
    UserError: it cannot be read.
  """
  if not os.path.isdir(folder):  # Also where it can be no path.
    return []
  return [entry.name for entry in _scan(folder) if _is_file(entry)]


def _scan(folder: pathlib.Path) -> list[os.DirEntry[str]]:
  """Returns what lies in a folder, sorted by name."""
  try:
    with os.scandir(folder) as entries:
      return sorted(entries, key=lambda entry: entry.name)
  except OSError as error:
    raise UserError(
      f'{printable(folder)} cannot be read: {error.strerror}.'
    ) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
  """Returns whether it is a folder, or a link to one and not to itself."""
  try:
    return entry.is_dir()
  except OSError:
    return False


def _is_file(entry: os.DirEntry[str]) -> bool:
  """Returns whether it is a file, or a link to one; no pipe or device."""
  try:
    return entry.is_file()
  except OSError:
    return False


def list_classes(directory: pathlib.Path, why: str = 'Each') -> ClassFolders:
  """Lists the images of every class.

  Classes are in the order of their names: of their numbers, where all are
  called by numbers.

  Args:
    directory: directory with one folder per class.
    why: first words of the last sentence of the message about an empty folder.

  Raises:
    UserError: there are no folders, or one without images.
  """
  left_out, files = LeftOut(), {}
  beside = [e.name for e in _scan(directory) if not is_folder(e)]
  for name in beside:
    if is_image(name):
      left_out.add('in no class folder', name)
    else:
      _count_other(name, name, left_out)
  for name in sort_classes(list_folders(directory)):
    in_class = LeftOut()
    files[name] = list_images(directory / name, in_class)
    if not files[name]:
      others = f' ({in_class.describe()})' if in_class.describe() else ''
      raise UserError(
        f'The class folder {printable(directory / name)} has no images'
        f' ({", ".join(IMAGE_SUFFIXES)}){others}; add some or remove it. {why}'
        f' folder in {printable(directory)} is one class.'
      )
    left_out.add_all(name, in_class)
  if not files:
    others = f'; {left_out.describe()}' if left_out.describe() else ''
    raise UserError(
      f'There are no images in {printable(directory)}: expected one folder per'
      f' class, as in {printable(directory)}/<class>/*.jpg{others}.'
    )
  return ClassFolders(directory, files, left_out.describe())


def check_no_splits(folders: ClassFolders, why: str) -> None:
  """Checks that what was taken for classes is not splits, with classes in them.

  Args:
    folders: class folders of a directory without splits of the names that were
      looked for.
    why: last sentence of the message about such a folder.

  Raises:
    UserError: a folder called as a split, or the only one, has no images but
      in folders.
  """
  for name, files in folders.files.items():
    is_one_of_many = len(folders.files) > 1 and name not in _SPLIT_NAMES
    if not is_one_of_many and all(os.sep in file for file in files):
      raise UserError(
        f'The folder {printable(folders.directory / name)} has no images of its'
        f' own, only in folders, as a split has. {why}'
      )


def are_numbers(names: Iterable[str]) -> bool:
  """Returns whether all names consist of the digits 0 to 9.

  >>> are_numbers(['0', '12']), are_numbers(['0', 'cat'])
  (True, False)
  """
  return all(name.isascii() and name.isdigit() for name in names)


def sort_classes(names: Iterable[str]) -> list[str]:
  """Returns class names in the order of their labels.

  >>> sort_classes(['10', '9']), sort_classes(['10', '9', 'x'])
  (['9', '10'], ['10', '9', 'x'])

  Args:
    names: names, which are in the order of their numbers where all are numbers.
  """
  names = list(names)
  if are_numbers(names):
    return sorted(names, key=lambda name: (int(name), name))
  return sorted(names)


def list_folders(directory: pathlib.Path) -> list[str]:
  """Returns the names of the folders in a directory, sorted, none hidden."""
  return [
    entry.name
    for entry in _scan(directory)
    if is_folder(entry) and not entry.name.startswith('.')
  ]


def is_split(directory: pathlib.Path, name: str, other: str) -> bool:
  """Returns whether a folder is a split, with classes in it, or a class.

  Decided by the whole directory, since a class may be called 'train'.

  Args:
    directory: directory that the folder is in.
    name: the folder's name; the folder need not be there.
    other: name of the other split's folder, which need not be there.

  Raises:
    UserError: it may be either.
  """
  if not name or not (directory / name).is_dir():
    return False
  has_images, has_folders = _look_into(directory / name)
  other_has_images, other_has_folders = (
    _look_into(directory / other) if other else (False, False)
  )
  if has_folders and other_has_folders and not other_has_images:
    return True
  beside = [
    folder
    for folder in list_folders(directory)
    if folder not in (name, other, *_SPLIT_NAMES)
    and _holds_images(directory / folder)
  ]
  if not beside:
    return True
  if has_folders and not has_images:
    raise UserError(
      f'{printable(directory / name)} may be a split, with folders of classes,'
      f' or a class, like {printable(beside[0])!r} beside it. If it is a split,'
      ' set config.data.eval_split to the folder of the other one; if it is a'
      " class, set config.data.train_split='' (--only_split, where it is being"
      ' prepared). Or rename it.'
    )
  return False


def _look_into(folder: pathlib.Path) -> tuple[bool, bool]:
  """Returns whether images lie right in a folder, and whether folders do."""
  has_images = has_folders = False
  if folder.is_dir():
    for entry in _scan(folder):
      if is_folder(entry):
        has_folders |= not entry.name.startswith('.')
      else:
        has_images |= is_image(entry.name)
  return has_images, has_folders


def _holds_images(folder: pathlib.Path) -> bool:
  """Returns whether there are images in a folder or below."""
  return any(
    is_image(name) for _, _, files in os.walk(folder) for name in files
  )


def is_image(name: str) -> bool:
  """Returns whether a file is called as an image that is read.

  >>> is_image('a.JPG'), is_image('.a.jpg'), is_image('a.txt')
  (True, False, False)
  """
  return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')


def _count_other(name: str, path: str, left_out: LeftOut) -> None:
  if name.startswith('.'):
    # What systems keep in a folder is none of ours, unless it may be an image.
    if name.lower().endswith((*IMAGE_SUFFIXES, *_TO_CONVERT)):
      left_out.add('hidden', path)
  elif name.lower().endswith(_TO_CONVERT):
    left_out.add('to convert to JPEG or PNG', path)
  else:
    left_out.add('not named as an image', path)
