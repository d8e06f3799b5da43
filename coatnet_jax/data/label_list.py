"""Pictures and labels that a list names: a table (CSV) or JSON lines."""

import collections
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from coatnet_jax.data import splits
from coatnet_jax.data.file_source import FileSource
from coatnet_jax.data.folder_listing import LeftOut, sort_classes
from coatnet_jax.data.image_source import format_count
from coatnet_jax.data.label_rows import Row, read_rows
from coatnet_jax.data.listed_files import find_files
from coatnet_jax.data.splits import Division, WantedSplit
from coatnet_jax.errors import UserError, list_choices
from coatnet_jax.paths import resolve_local_path
from coatnet_jax.texts import printable


class ListSource(FileSource):
  """Image files that a list names, with the classes that it gives them."""

  def __init__(
    self,
    directory: pathlib.Path,
    files: Sequence[tuple[tuple[int, ...], str]],
    *,
    has_several_labels: bool,
    **options: Any,
  ):
    """Takes what was found.

    Args:
      directory: directory that the paths are in.
      files: labels and path in the directory of each image.
      has_several_labels: whether an image may have several, or none.
      **options: the rest of what `FileSource` takes.
    """
    self.has_several_labels = has_several_labels
    self._labels = [labels for labels, _ in files]
    firsts = [(max(labels, default=-1), path) for labels, path in files]
    super().__init__(directory, firsts, **options)

  def __getitem__(self, index):
    """Returns one example; see ImageSource."""
    example = super().__getitem__(index)
    if self.has_several_labels:
      example['label'] = self._find_targets([self._labels[index]])[0]
    return example

  def find_labels(self):
    """Returns the labels, without reading files; see ImageSource."""
    if self.has_several_labels:
      return self._find_targets(self._labels)
    return super().find_labels()

  def list_files(self):
    """Yields each image's path, with its size and classes; see ImageSource."""
    for (path, size), labels in zip(super().list_files(), self._labels):
      names = '|'.join(self.class_names[label] for label in labels)
      yield path, f'{size} {names}'

  def _find_targets(self, labels: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Returns 1 for each label that an image has, [N, K] float32."""
    targets = np.zeros((len(labels), self.num_classes), np.float32)
    for row, of_row in zip(targets, labels):
      row[list(of_row)] = 1
    return targets


def create_list_source(data_dir: str, wanted: WantedSplit) -> ListSource:
  """Opens one split of the images that a list names.

  Args:
    data_dir: path of the list; see `label_rows.read_rows`. Paths in it are
      relative to its directory, and may not leave that.
    wanted: images that are wanted; its splits are names in the column of
      splits.

  Returns:
    The source.

  Raises:
    UserError: the list, or a file that it names, is not there or not as
      described.
  """
  path = resolve_local_path(data_dir, 'config.data.data_dir')
  listed = read_rows(path)
  rows, left_out = find_files(path, listed.rows)
  if wanted.train_split and any(row.split for row in rows):
    chosen, names, total = _choose_split(path, rows, wanted, left_out)
    side = wanted.name
  else:
    names, total = _find_names(rows), len(rows)
    chosen, side = rows, wanted.side
    wanted.check_left(printable(path))
    if not wanted.division.holds_all_out:
      several = listed.has_several_labels
      chosen = _choose_part(path, rows, names, wanted, several)
  if not names:
    raise UserError(
      f'{printable(path)} names no classes: no image has a label; write some.'
    )
  label_of = {name: label for label, name in enumerate(names)}
  described = left_out.describe()
  return ListSource(
    path.parent,
    [
      (tuple(sorted(label_of[name] for name in row.labels)), row.path)
      for row in chosen
    ],
    has_several_labels=listed.has_several_labels,
    class_names=names,
    description=(
      f'{printable(path)}, {side}: {format_count(len(chosen), "image")},'
      f' {format_count(len(names), "class")}'
      + f'; {described}'
      * bool(described)
    ),
    data_set_size=total,
  )


def _find_names(rows: Sequence[Row]) -> list[str]:
  """Returns the names of all classes, in the order of their labels."""
  return sort_classes({name for row in rows for name in row.labels})


def _choose_split(
  path: pathlib.Path,
  rows: Sequence[Row],
  wanted: WantedSplit,
  left_out: LeftOut,
) -> tuple[list[Row], list[str], int]:
  """Returns the rows of one split of the list's own, and what is of both.

  Returns:
    The rows; the names of all classes; the number of images of both splits.
  """
  train_split, eval_split = wanted.train_split, wanted.eval_split
  division = wanted.division
  if division.num_folds:
    raise UserError(
      f'config.data.num_folds is {division.num_folds}, but {printable(path)}'
      " has splits of its own; set num_folds to 0, or train_split to '' to"
      ' divide all images of the list.'
    )
  parts: dict[str, list[Row]] = {train_split: [], eval_split: []}
  for row in rows:
    if row.split in parts:
      parts[row.split].append(row)
    else:
      words = f'of the split {printable(row.split)!r}' if row.split else ''
      left_out.add(words or 'of no split', row.path)
  if not parts[wanted.name]:
    key = f'config.data.{"train" if wanted.training else "eval"}_split'
    there = sorted({row.split for row in rows if row.split})
    raise UserError(
      f'{key} is {wanted.name!r}, and no image of {printable(path)} is of that'
      f' split; {list_choices(wanted.name, list(map(printable, there)))}'
    )
  train, evaluation = parts[train_split], parts[eval_split]
  if train_split != eval_split and train:
    _check_apart(path, division, parts)
  if not train:
    return (
      evaluation,
      _find_names(evaluation),
      len(rows),
    )
  names = _find_names(train)
  for row in evaluation:
    for name in set(row.labels).difference(names):
      raise UserError(
        f'{printable(path)} has the class {printable(name)!r} in the split'
        f' {eval_split!r} alone, in line {row.line:,} for example, so it would'
        f' never be trained on; give {train_split!r} images of it, or remove'
        ' it.'
      )
  return parts[wanted.name], names, len(train) + len(evaluation)


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
  wanted: WantedSplit,
  several: bool,
) -> list[Row]:
  """Returns the rows of one side of a list without splits of its own."""
  label_of = {name: label for label, name in enumerate(names)}
  counts = collections.Counter(name for row in rows for name in row.labels)
  # Where there are several, the rarest counts.
  rarest = [
    min(row.labels, key=lambda n: (counts[n], n), default=None) for row in rows
  ]
  is_held_out = splits.select_held_out(
    splits.Labelled(
      paths=[row.path for row in rows],
      labels=np.array([label_of.get(name, len(names)) for name in rarest]),
      names=[
        *(
          f'The class {printable(name)!r} of {printable(path)}'
          for name in names
        ),
        *['What has no label'] * several,
      ],
      groups=_find_groups(path, rows, wanted.division),
      may_be_alone=several,
    ),
    wanted.division,
  )
  trained = _find_names(
    [r for r, is_out in zip(rows, is_held_out) if not is_out]
  )
  for name in set(names).difference(trained):
    raise UserError(
      f'The class {printable(name)!r} of {printable(path)} would only be held'
      ' out, and none of its images trained on; add images of it, or remove it.'
    )
  return [
    row for row, is_out in zip(rows, is_held_out) if is_out != wanted.training
  ]
