"""A directory of image files, one folder per class, with no preparation."""

import hashlib
import os
import pathlib

from coatnet_jax.data import folder_listing
from coatnet_jax.data.folder_listing import ClassFolders, list_classes
from coatnet_jax.data.image_source import (
  CorruptImageError,
  ImageSource,
  find_sizes,
  format_count,
)
from coatnet_jax.data.picture_files import NotAPictureFileError, read_file
from coatnet_jax.data.picture_size import BYTES_PER_PIXEL
from coatnet_jax.errors import UserError, list_choices
from coatnet_jax.paths import resolve_local_path
from coatnet_jax.texts import printable


class FolderSource(ImageSource):
  """Image files, as bytes; the class is the name of the file's folder.

  Two layouts are read:

      root/train/<class>/*.jpg, root/val/<class>/*.jpg    (train_split, ...)
      root/<class>/*.jpg                         (eval_fraction is held out)

  Images may also lie in folders of a class's folder. Classes are numbered in
  the order of their names, or of their numbers where all are called by
  numbers; files are in the order of their paths. The description says how many
  files are left out, and why.
  """

  def __init__(
    self,
    folders: ClassFolders,
    split: str,
    *,
    files: dict[str, list[str]] | None = None,
    data_set_size: int | None = None,
  ):
    """Takes the images that `list_classes` found, or a part of them.

    Args:
      folders: class folders with their images.
      split: name of this part in the description.
      files: images of the part, by the names of all classes; all images if
        None.
      data_set_size: number of images of all splits; of those in the folders if
        None.
    """
    files = folders.files if files is None else files
    self.class_names = tuple(printable(name) for name in files)
    self._directory = folders.directory
    self._folders = tuple(files)
    self._files = [
      (label, name)
      for label, names in enumerate(files.values())
      for name in names
    ]
    self._data_set_size = data_set_size or folders.num_images
    self.description = (
      f'{printable(self._directory)}, {split}:'
      f' {format_count(len(self._files), "image")},'
      f' {format_count(self.num_classes, "class")}'
      + f'; {folders.left_out}'
      * bool(folders.left_out)
    )

  @property
  def data_set_size(self) -> int:
    """The number of images of all splits."""
    return self._data_set_size

  def __len__(self):
    """The number of examples."""
    return len(self._files)

  def __getitem__(self, index):
    """Returns one example; see ImageSource."""
    label, _ = self._files[index]
    path = self._path(index)
    try:
      data = read_file(path, self.max_image_pixels * BYTES_PER_PIXEL)
      return {'image': data, 'label': label}
    except NotAPictureFileError as error:
      raise CorruptImageError(str(error)) from error
    except OSError as error:
      raise UserError(
        f'{printable(path)} cannot be read: {error.strerror}.'
      ) from error

  def describe(self, index):
    """Names the example for a log."""
    return printable(self._path(index))

  def list_files(self):
    """Yields the images' paths in the folder and sizes; see ImageSource."""
    names = (f'{self._folders[label]}/{name}' for label, name in self._files)
    paths = (self._path(index) for index in range(len(self)))
    yield from zip(names, find_sizes(paths))

  def _path(self, index: int) -> pathlib.Path:
    label, name = self._files[index]
    return self._directory / self._folders[label] / name


def create_folder_source(
  data_dir: str,
  *,
  train_split: str,
  eval_split: str,
  eval_fraction: float,
  training: bool,
) -> FolderSource:
  """Opens one split of a directory in either layout of `FolderSource`.

  All that lies in the directory decides which layout it is, since a class may
  be called 'train'. A directory that has the folder to evaluate on, and no
  other, can be evaluated.

  Args:
    data_dir: directory of the class folders, or of the folders of the splits.
    train_split: name of the folder of the training images, if there is one.
    eval_split: name of the folder of the evaluation images, beside it.
    eval_fraction: part of each class that is held out where there is no such
      folder; 1 for all images, of which none is left to train on.
    training: whether the training split is opened, and not the one to evaluate
      on.

  Returns:
    The source.

  Raises:
    UserError: the directory, a folder or the images are missing, it is not
      clear which layout it is, or the classes of the two folders differ.
  """
  root = _find_directory(data_dir)
  has_train = folder_listing.is_split(root, train_split, eval_split)
  has_eval = folder_listing.is_split(root, eval_split, train_split)
  if not has_train and has_eval and not training:
    return FolderSource(list_classes(root / eval_split), eval_split)
  if not has_train:
    return _open_part(root, train_split, eval_fraction, training)
  train = list_classes(root / train_split)
  if not eval_split or not (root / eval_split).is_dir():
    if training:
      return FolderSource(train, train_split)
    folders = [printable(name) for name in folder_listing.list_folders(root)]
    raise UserError(
      f'config.data.eval_split is {eval_split!r}, which is no folder of'
      f' {printable(root)}; {list_choices(eval_split, folders)}'
    )
  if train_split == eval_split:
    return FolderSource(train, train_split)
  evaluation = list_classes(root / eval_split)
  both = train.num_images + evaluation.num_images
  if training:
    return FolderSource(train, train_split, data_set_size=both)
  _check_same_classes(root, train_split, train, eval_split, evaluation)
  return FolderSource(evaluation, eval_split, data_set_size=both)


def _open_part(
  root: pathlib.Path, train_split: str, eval_fraction: float, training: bool
) -> FolderSource:
  """Opens one side of a directory whose folders are the classes."""
  why = f'{printable(root)} has no folder {train_split!r}, so each'
  folders = list_classes(root, why)
  if train_split:
    folder_listing.check_no_splits(
      folders,
      f'{why} folder in it is one class; set config.data.train_split and'
      ' eval_split to the folders of the splits.',
    )
  if eval_fraction == 1:
    if not training:
      return FolderSource(folders, 'all')
    raise UserError(
      'config.data.eval_fraction is 1: all images are evaluated, and none is'
      f' left in {printable(root)} to train on.'
    )
  split = 'not held out' if training else f'held-out {eval_fraction:g}'
  return FolderSource(
    folders, split, files=_select_part(folders, eval_fraction, training)
  )


def _find_directory(data_dir: str) -> pathlib.Path:
  if not data_dir:
    raise UserError(
      "config.data.data_dir is empty; config.data.source='folder' needs the "
      'directory of the images.'
    )
  root = resolve_local_path(data_dir, 'config.data.data_dir')
  if not root.is_dir():
    raise UserError(
      f'The image directory {printable(root)} does not exist; set '
      'config.data.data_dir to the one that has the class folders.'
    )
  return root


def _check_same_classes(
  root: pathlib.Path,
  train_split: str,
  train: ClassFolders,
  eval_split: str,
  evaluation: ClassFolders,
) -> None:
  """Raises a UserError unless both splits have the same class folders."""
  missing = sorted(set(train.files) - set(evaluation.files))
  extra = sorted(set(evaluation.files) - set(train.files))
  problems = []
  if missing:
    problems.append(f'{eval_split} lacks {_shorten(missing)}')
  if extra:
    problems.append(f'{train_split} lacks {_shorten(extra)}')
  if problems:
    raise UserError(
      f'The class folders of {printable(root / train_split)} and'
      f' {printable(root / eval_split)} differ: {"; ".join(problems)}.'
    )


def _shorten(names: list[str]) -> str:
  shown = ', '.join(f"'{printable(name)}'" for name in names[:5])
  more = len(names) - 5
  return f'{shown} and {more} more' if more > 0 else shown


def _select_part(
  folders: ClassFolders, eval_fraction: float, training: bool
) -> dict[str, list[str]]:
  """Returns the files of one side of the division of each class.

  Files are ordered by a hash of class and name, and the first are held out:
  the same ones on every machine, and mostly the same after files are added.
  At least one file of a class is on each side.
  """
  part = {}
  for class_name, names in folders.files.items():
    if len(names) < 2:
      raise UserError(
        f'The class folder {printable(folders.directory / class_name)} has one'
        ' image; it takes at least two to hold one out for evaluation.'
      )
    count = min(max(round(eval_fraction * len(names)), 1), len(names) - 1)
    by_hash = sorted(
      names,
      key=lambda name, folder=class_name: hashlib.sha256(
        os.fsencode(f'{folder}/{name}')
      ).digest(),
    )
    part[class_name] = sorted(by_hash[count:] if training else by_hash[:count])
  return part
