"""Pictures and labels that a list names: a table (CSV) or JSON lines."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from coatnet_jax.data import splits
from coatnet_jax.data.file_source import FileSource
from coatnet_jax.data.folder_listing import (
  LeftOut,
  is_image,
  list_files,
  sort_classes,
)
from coatnet_jax.data.image_source import format_count
from coatnet_jax.data.label_rows import Row, read_rows
from coatnet_jax.data.splits import Division
from coatnet_jax.errors import UserError, list_choices
from coatnet_jax.paths import resolve_local_path
from coatnet_jax.texts import printable


class ListSource(FileSource):
  """Image files that a list names, with the classes that it gives them."""

  def list_files(self):
    """Yields each image's path, with its size and class; see ImageSource."""
    files = zip(super().list_files(), self._files)
    for (path, size), (label, _) in files:
      yield path, f'{size} {self.class_names[label]}'


def create_list_source(
  data_dir: str,
  *,
  train_split: str,
  eval_split: str,
  division: Division,
  training: bool,
) -> ListSource:
  """Opens one split of the images that a list names.

  Args:
    data_dir: path of the list; see `label_rows.read_rows`. Paths in it are
      relative to its directory, and may not leave that.
    train_split: what the column of splits calls the training images; '' for
      that it does not matter.
    eval_split: what it calls the evaluation images.
    division: how the images of each class are divided where there is no such
      column.
    training: whether the training split is opened, and not the one to evaluate
      on.

  Returns:
    The source.

  Raises:
    UserError: the list, or a file that it names, is not there or not as
      described.
  """
  path = resolve_local_path(data_dir, 'config.data.data_dir')
  rows, left_out = find_files(path, read_rows(path))
  if train_split and any(row.split for row in rows):
    chosen, names, total = _choose_split(
      path, rows, (train_split, eval_split), division, training, left_out
    )
    side = train_split if training else eval_split
  else:
    names, total = sort_classes({row.label for row in rows}), len(rows)
    chosen, side = rows, division.describe(training)
    if not division.holds_all_out:
      chosen = _choose_part(path, rows, names, division, training)
    elif training:
      raise UserError(
        'config.data.eval_fraction is 1: all images are evaluated, and none of'
        f' {printable(path)} is left to train on.'
      )
  label_of = {name: label for label, name in enumerate(names)}
  described = left_out.describe()
  return ListSource(
    path.parent,
    [(label_of[row.label], row.path) for row in chosen],
    class_names=names,
    description=(
      f'{printable(path)}, {side}: {format_count(len(chosen), "image")},'
      f' {format_count(len(names), "class")}'
      + f'; {described}'
      * bool(described)
    ),
    data_set_size=total,
  )


def _choose_split(
  path: pathlib.Path,
  rows: Sequence[Row],
  names_of_splits: tuple[str, str],
  division: Division,
  training: bool,
  left_out: LeftOut,
) -> tuple[list[Row], list[str], int]:
  """Returns the rows of one split of the list's own, and what is of both.

  Returns:
    The rows; the names of all classes; the number of images of both splits.
  """
  if division.num_folds:
    raise UserError(
      f'config.data.num_folds is {division.num_folds}, but {printable(path)}'
      ' has'
      " splits of its own; set num_folds to 0, or train_split to '' to divide"
      ' all images of the list.'
    )
  parts = {name: [] for name in names_of_splits}
  for row in rows:
    if row.split in parts:
      parts[row.split].append(row)
    else:
      words = f'of the split {printable(row.split)!r}' if row.split else ''
      left_out.add(words or 'of no split', row.path)
  train_split, eval_split = names_of_splits
  wanted = train_split if training else eval_split
  if not parts[wanted]:
    key = f'config.data.{"train" if training else "eval"}_split'
    there = sorted({row.split for row in rows if row.split})
    raise UserError(
      f'{key} is {wanted!r}, and no image of {printable(path)} is of that'
      ' split;'
      f' {list_choices(wanted, [printable(name) for name in there])}'
    )
  train, evaluation = parts[train_split], parts[eval_split]
  if train_split != eval_split and train:
    _check_apart(path, division, parts)
  if not train:
    return (
      evaluation,
      sort_classes({row.label for row in evaluation}),
      len(rows),
    )
  names = {row.label for row in train}
  for row in evaluation:
    if row.label not in names:
      raise UserError(
        f'{printable(path)} has the class {printable(row.label)!r} in the split'
        f' {eval_split!r} alone, in line {row.line:,} for example, so it would'
        f' never be trained on; give {train_split!r} images of it, or remove'
        ' it.'
      )
  return parts[wanted], sort_classes(names), len(train) + len(evaluation)


def _check_apart(
  path: pathlib.Path, division: Division, parts: dict[str, list[Row]]
) -> None:
  """Raises UserError for a group that has images in both splits."""
  groups = {
    split: _find_groups(path, rows, division) for split, rows in parts.items()
  }
  splits.check_groups_apart(division.group_pattern, groups, printable(path))


def _find_groups(
  path: pathlib.Path, rows: Sequence[Row], division: Division
) -> list[str] | None:
  """Returns the group of each row; None where nothing names any."""
  has_column = any(row.group for row in rows)
  if has_column and division.group_pattern:
    raise UserError(
      f'{printable(path)} has a column that names groups, and'
      f' config.data.group_pattern is {division.group_pattern!r}; leave one'
      ' out.'
    )
  if has_column:  # What is of no group is one of its own.
    return [row.group or f'\0{row.path}' for row in rows]
  if division.group_pattern:
    return splits.find_groups(
      [row.path for row in rows], division.group_pattern
    )
  return None


def _choose_part(
  path: pathlib.Path,
  rows: Sequence[Row],
  names: Sequence[str],
  division: Division,
  training: bool,
) -> list[Row]:
  """Returns the rows of one side of a list without splits of its own."""
  label_of = {name: label for label, name in enumerate(names)}
  is_held_out = splits.select_held_out(
    splits.Labelled(
      paths=[row.path for row in rows],
      labels=np.array([label_of[row.label] for row in rows]),
      names=[
        f'The class {printable(name)!r} of {printable(path)}' for name in names
      ],
      groups=_find_groups(path, rows, division),
    ),
    division,
  )
  return [row for row, is_out in zip(rows, is_held_out) if is_out != training]


def find_files(
  path: pathlib.Path, rows: Sequence[Row]
) -> tuple[list[Row], LeftOut]:
  """Finds the files that a list names, and those beside them that it does not.

  Args:
    path: path of the list.
    rows: rows of the list.

  Returns:
    The rows in the order of their paths, each file once, with its path in the
    list's directory; and what is not used.

  Raises:
    UserError: a path leaves the directory, files are not there, or one is named
      twice, and not as the same.
  """
  folders = _Folders(path.parent)
  found: dict[str, Row] = {}
  missing, left_out = [], LeftOut()
  for row in rows:
    inside = folders.find(_resolve_inside(path, row))
    if inside is None:
      missing.append(row)
      continue
    before = found.setdefault(inside, dataclasses.replace(row, path=inside))
    if before.line == row.line:
      continue
    for what in ('label', 'split', 'group'):
      one, other = getattr(before, what), getattr(row, what)
      if one != other:
        raise UserError(
          f'{printable(path)} names {printable(inside)} twice, with the {what}'
          f' {printable(one or "")!r} in line {before.line:,} and'
          f' {printable(other or "")!r} in line {row.line:,}; remove one of'
          ' the lines.'
        )
    left_out.add('named twice', inside)
  if missing:
    _raise_missing(path, missing, len(rows))
  for inside in folders.list_images():
    if inside not in found:
      left_out.add('that the list does not name', inside)
  return [found[inside] for inside in sorted(found)], left_out


def _resolve_inside(path: pathlib.Path, row: Row) -> str:
  """Returns a row's path in the list's directory."""
  inside = os.path.relpath(
    os.path.normpath(os.path.join(path.parent, row.path)), path.parent
  )
  if inside.split('/')[0] == '..':
    raise UserError(
      f'{printable(path)} names {printable(row.path)} in line {row.line:,},'
      ' which'
      f' is not in {printable(path.parent)}; a list names files in its own'
      ' directory and below: put it beside the folders of the images, or a link'
      ' to these beside it.'
    )
  return inside


def _raise_missing(
  path: pathlib.Path, missing: Sequence[Row], count: int
) -> None:
  """Raises UserError for files that are not there."""
  row = missing[0]
  hint = ''
  if '\\' in row.path:
    hint = " Between folders stands '/'."
  elif not os.path.splitext(row.path)[1]:
    hint = " A name has its suffix, as '.jpg'."
  raise UserError(
    f'{len(missing):,} of the {count:,} files that {printable(path)} names are'
    ' not'
    f' there, as {printable(row.path)} of line {row.line:,}; paths are relative'
    f' to {printable(path.parent)}: put the files there, or remove their lines.'
    f'{hint}'
  )


class _Folders:
  """The folders of the files that a list names, each looked into once."""

  def __init__(self, directory: pathlib.Path):
    self._directory = directory
    # folder -> shown name -> name.
    self._names: dict[str, dict[str, str]] = {}

  def find(self, inside: str) -> str | None:
    """Returns a file's path in the directory as it is there, or None."""
    folder, name = os.path.split(inside)
    if folder not in self._names:
      files = list_files(self._directory / folder)
      self._names[folder] = {
        **{printable(file): file for file in files},
        **{file: file for file in files},
      }
    there = self._names[folder].get(name)
    return None if there is None else os.path.join(folder, there)

  def list_images(self) -> list[str]:
    """Returns the paths of all images in the folders, sorted."""
    return sorted(
      os.path.join(folder, name)
      for folder, names in self._names.items()
      for name in set(names.values())
      if is_image(name)
    )
