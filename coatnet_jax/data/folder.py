"""A directory of image files, one folder per class, with no preparation."""

import hashlib
import os
import pathlib

from coatnet_jax.data.image_source import ImageSource, count_of
from coatnet_jax.errors import UserError
from coatnet_jax.paths import resolve_local_path

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


class FolderSource(ImageSource):
  """Image files, as bytes; the class is the name of the file's folder.

  Two layouts are read:

      root/train/<class>/*.jpg, root/val/<class>/*.jpg    (train_split, ...)
      root/<class>/*.jpg                         (eval_fraction is held out)

  Classes are numbered in the order of their sorted names, files are in the
  order of theirs. Files with other suffixes than IMAGE_SUFFIXES (in any
  case), files deeper down, and names that start with a dot are ignored.
  """

  def __init__(
    self, directory: pathlib.Path, files: dict[str, list[str]], split: str
  ):
    """Takes the files that `list_files` found, or a part of them.

    Args:
      directory: what the class folders are in.
      files: the file names of each class, classes and names sorted.
      split: what to call this part in the description.
    """
    self.class_names = tuple(files)
    self._directory = directory
    self._files = [
      (label, name)
      for label, names in enumerate(files.values())
      for name in names
    ]
    self.description = (
      f'{directory}, {split}: {count_of(len(self._files), "image")}, '
      f'{count_of(self.num_classes, "class")}'
    )

  def __len__(self):
    """The number of examples."""
    return len(self._files)

  def __getitem__(self, index):
    """Returns one example; see ImageSource."""
    label, _ = self._files[index]
    path = self._path(index)
    try:
      return {'image': path.read_bytes(), 'label': label}
    except OSError as error:
      raise UserError(f'{path} cannot be read: {error.strerror}.') from error

  def describe(self, index):
    """Names the example for a log."""
    return str(self._path(index))

  def _path(self, index: int) -> pathlib.Path:
    label, name = self._files[index]
    return self._directory / self.class_names[label] / name


def create_folder_source(
  data_dir: str,
  *,
  train_split: str,
  eval_split: str,
  eval_fraction: float,
  training: bool,
) -> FolderSource:
  """Opens one split of a directory in either layout of `FolderSource`.

  Args:
    data_dir: the root.
    train_split: folder of the training images, if there is one.
    eval_split: folder of the evaluation images, beside it.
    eval_fraction: part of each class to hold out where there is none.
    training: which of the two splits.

  Returns:
    The source.

  Raises:
    UserError: the directory, a folder or the images are missing, or the
      classes of the two folders differ.
  """
  root = _existing_directory(data_dir)
  if not (root / train_split).is_dir():
    files = list_files(root, f'{root} has no folder {train_split!r}, so each')
    split = 'not held out' if training else f'held-out {eval_fraction:g}'
    return FolderSource(
      root, _held_out_part(files, root, eval_fraction, training), split
    )
  train_files = list_files(root / train_split)
  if training:
    return FolderSource(root / train_split, train_files, train_split)
  if not (root / eval_split).is_dir():
    raise UserError(
      f'There is no folder {eval_split!r} in {root} to evaluate on; set '
      f'config.data.eval_split to one of {_folders_in(root)}.'
    )
  eval_files = list_files(root / eval_split)
  _check_same_classes(root, train_split, train_files, eval_split, eval_files)
  return FolderSource(root / eval_split, eval_files, eval_split)


def list_files(
  directory: pathlib.Path, why: str = 'Each'
) -> dict[str, list[str]]:
  """Lists the image files of every class.

  Args:
    directory: has one folder per class.
    why: how the message about an empty folder starts.

  Returns:
    The sorted file names by class name, classes sorted.

  Raises:
    UserError: there are no folders, or one without images.
  """
  files = {}
  for name in _folders_in(directory):
    with os.scandir(directory / name) as entries:
      files[name] = sorted(
        entry.name
        for entry in entries
        if entry.name.lower().endswith(IMAGE_SUFFIXES)
        and not entry.name.startswith('.')
      )
    if not files[name]:
      raise UserError(
        f'The class folder {directory / name} has no images '
        f'({", ".join(IMAGE_SUFFIXES)}); add some or remove it. {why} folder '
        f'in {directory} is one class.'
      )
  if not files:
    raise UserError(
      f'There are no images in {directory}: expected one folder per class, '
      f'as in {directory}/<class>/*.jpg.'
    )
  return files


def _existing_directory(data_dir: str) -> pathlib.Path:
  if not data_dir:
    raise UserError(
      "config.data.data_dir is empty; config.data.source='folder' needs the "
      'directory of the images.'
    )
  root = resolve_local_path(data_dir, 'config.data.data_dir')
  if not root.is_dir():
    raise UserError(
      f'The image directory {root} does not exist; set '
      'config.data.data_dir to the one that has the class folders.'
    )
  return root


def _folders_in(directory: pathlib.Path) -> list[str]:
  with os.scandir(directory) as entries:
    return sorted(
      entry.name
      for entry in entries
      if entry.is_dir() and not entry.name.startswith('.')
    )


def _check_same_classes(root, train_split, train_files, eval_split, eval_files):
  """Raises a UserError unless both splits have the same class folders."""
  missing = sorted(set(train_files) - set(eval_files))
  extra = sorted(set(eval_files) - set(train_files))
  problems = []
  if missing:
    problems.append(f'{eval_split} lacks {_shortened(missing)}')
  if extra:
    problems.append(f'{train_split} lacks {_shortened(extra)}')
  if problems:
    raise UserError(
      f'The class folders of {root / train_split} and {root / eval_split} '
      f'differ: {"; ".join(problems)}.'
    )


def _shortened(names: list[str]) -> str:
  shown = ', '.join(repr(name) for name in names[:5])
  more = len(names) - 5
  return f'{shown} and {more} more' if more > 0 else shown


def _held_out_part(
  files: dict[str, list[str]],
  root: pathlib.Path,
  eval_fraction: float,
  training: bool,
) -> dict[str, list[str]]:
  """Returns the files of one side of the division of each class.

  Files are ordered by a hash of class and name, and the first are held out:
  the same ones on every machine, and mostly the same after files are added.
  At least one file of a class is on each side.
  """
  part = {}
  for class_name, names in files.items():
    if len(names) < 2:
      raise UserError(
        f'The class folder {root / class_name} has one image; it takes at '
        'least two to hold one out for evaluation.'
      )
    count = min(max(round(eval_fraction * len(names)), 1), len(names) - 1)
    by_hash = sorted(
      names,
      key=lambda name, folder=class_name: hashlib.sha256(
        f'{folder}/{name}'.encode()
      ).digest(),
    )
    part[class_name] = sorted(by_hash[count:] if training else by_hash[:count])
  return part
