"""A directory of image files, one folder per class, with no preparation."""

import pathlib

import numpy as np

from coatnet_jax.data import folder_listing, splits
from coatnet_jax.data.file_source import FileSource
from coatnet_jax.data.folder_listing import ClassFolders, list_classes
from coatnet_jax.data.image_source import format_count
from coatnet_jax.data.label_rows import JSON_SUFFIXES, TABLE_SUFFIXES
from coatnet_jax.data.splits import WantedSplit
from coatnet_jax.errors import UserError, list_choices
from coatnet_jax.paths import resolve_local_path
from coatnet_jax.texts import printable


class FolderSource(FileSource):
  """Image files, as bytes; the class is the name of the file's folder.

  Two layouts are read:

      root/train/<class>/*.jpg, root/val/<class>/*.jpg    (train_split, ...)
      root/<class>/*.jpg                               (a part is held out)

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
    is_chosen: np.ndarray | None = None,
    data_set_size: int | None = None,
  ):
    """Takes the images that `list_classes` found, or a part of them.

    Args:
      folders: class folders with their images.
      split: name of this part in the description.
      is_chosen: whether each image is of the part, [N] bool, in their order;
        all are if None.
      data_set_size: number of images of all splits; of those in the folders if
        None.
    """
    files = _list_files(folders)
    if is_chosen is not None:
      files = [file for file, is_in in zip(files, is_chosen) if is_in]
    super().__init__(
      folders.directory,
      files,
      class_names=tuple(folders.files),
      description=(
        f'{printable(folders.directory)}, {split}:'
        f' {format_count(len(files), "image")},'
        f' {format_count(len(folders.files), "class")}'
        + f'; {folders.left_out}'
        * bool(folders.left_out)
      ),
      data_set_size=data_set_size or folders.num_images,
    )


def _list_files(folders: ClassFolders) -> list[tuple[int, str]]:
  """Returns label and path in the directory of all images."""
  return [
    (label, f'{folder}/{name}')
    for label, (folder, names) in enumerate(folders.files.items())
    for name in names
  ]


def create_folder_source(data_dir: str, wanted: WantedSplit) -> FolderSource:
  """Opens one split of a directory in either layout of `FolderSource`.

  All that lies in the directory decides which layout it is, since a class may
  be called 'train'. A directory that has the folder to evaluate on, and no
  other, can be evaluated.

  Args:
    data_dir: directory of the class folders, or of the folders of the splits.
    wanted: images that are wanted; its splits are names of folders.

  Returns:
    The source.

  Raises:
    UserError: the directory, a folder or the images are missing, it is not
      clear which layout it is, or the classes of the two folders differ.
  """
  root, division = find_directory(data_dir), wanted.division
  train_split, eval_split = wanted.train_split, wanted.eval_split
  has_train = folder_listing.is_split(root, train_split, eval_split)
  has_eval = folder_listing.is_split(root, eval_split, train_split)
  if not has_train and has_eval and not wanted.training:
    return FolderSource(list_classes(root / eval_split), eval_split)
  if not has_train:
    return _open_part(root, wanted)
  if division.num_folds:
    raise UserError(
      f'config.data.num_folds is {division.num_folds}, but {printable(root)}'
      ' has splits of its own; set config.data.data_dir to'
      f' {printable(root / train_split)}, to divide what is in it, or num_folds'
      ' to 0.'
    )
  train = list_classes(root / train_split)
  if not eval_split or not (root / eval_split).is_dir():
    if wanted.training:
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
  if wanted.training:
    return FolderSource(train, train_split, data_set_size=both)
  _check_same_classes(root, train_split, train, eval_split, evaluation)
  if division.group_pattern:
    groups = {
      split: splits.find_groups(
        [path for _, path in _list_files(folders)], division.group_pattern
      )
      for split, folders in ((train_split, train), (eval_split, evaluation))
    }
    splits.check_groups_apart(division.group_pattern, groups, printable(root))
  return FolderSource(evaluation, eval_split, data_set_size=both)


def _open_part(root: pathlib.Path, wanted: WantedSplit) -> FolderSource:
  """Opens one side of a directory whose folders are the classes."""
  why = f'{printable(root)} has no folder {wanted.train_split!r}, so each'
  folders = list_classes(root, why)
  if wanted.train_split:
    folder_listing.check_no_splits(
      folders,
      f'{why} folder in it is one class; set config.data.train_split and'
      ' eval_split to the folders of the splits.',
    )
  wanted.check_left(printable(root))
  if wanted.division.holds_all_out:
    return FolderSource(folders, wanted.side)
  files = _list_files(folders)
  is_held_out = splits.select_held_out(
    splits.Labelled(
      paths=[path for _, path in files],
      labels=np.array([label for label, _ in files]),
      names=[
        f'The class folder {printable(folders.directory / name)}'
        for name in folders.files
      ],
    ),
    wanted.division,
  )
  return FolderSource(
    folders, wanted.side, is_chosen=is_held_out != wanted.training
  )


def find_directory(data_dir: str) -> pathlib.Path:
  """Returns the directory of a folder's images; what is in it isn't looked at.

  Args:
    data_dir: path of the directory, as the config has it.

  Raises:
    UserError: there is none.
  """
  if not data_dir:
    raise UserError(
      "config.data.data_dir is empty; config.data.source='folder' needs the "
      'directory of the images.'
    )
  root = resolve_local_path(data_dir, 'config.data.data_dir')
  if root.is_file():
    suffixes = ', '.join((*TABLE_SUFFIXES, *JSON_SUFFIXES))
    raise UserError(
      f'config.data.data_dir is {printable(root)}, which is a file; it must be'
      f' the directory that has the class folders, or a list called {suffixes}.'
    )
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
