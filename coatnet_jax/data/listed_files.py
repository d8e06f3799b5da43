"""The files that a list of pictures names."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from coatnet_jax.data.folder_listing import LeftOut, is_image, list_files
from coatnet_jax.data.label_rows import Row
from coatnet_jax.errors import UserError
from coatnet_jax.texts import printable


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
    for what in ('labels', 'split', 'group'):
      one, other = _show(getattr(before, what)), _show(getattr(row, what))
      if one != other:
        what = what if len(row.labels) > 1 else what.removesuffix('s')
        raise UserError(
          f'{printable(path)} names {printable(inside)} twice, with the {what}'
          f' {one!r} in line {before.line:,} and'
          f' {other!r} in line {row.line:,}; remove one of'
          ' the lines.'
        )
    left_out.add('named twice', inside)
  if missing:
    _raise_missing(path, missing, len(rows))
  for inside in folders.list_images():
    if inside not in found:
      left_out.add('that the list does not name', inside)
  return [found[inside] for inside in sorted(found)], left_out


def _show(value: str | tuple[str, ...] | None) -> str:
  """Returns a row's value as one text."""
  if isinstance(value, tuple):
    return ', '.join(map(printable, value))
  return printable(value or '')


def _resolve_inside(path: pathlib.Path, row: Row) -> str:
  """Returns a row's path in the list's directory."""
  inside = os.path.relpath(
    os.path.normpath(os.path.join(path.parent, row.path)), path.parent
  )
  if inside.split('/')[0] == '..':
    raise UserError(
      f'{printable(path)} names {printable(row.path)} in line {row.line:,},'
      f' which is not in {printable(path.parent)}; a list names files in its'
      ' own directory and below: put it beside the folders of the images, or a'
      ' link to these beside it.'
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
    f' not there, as {printable(row.path)} of line {row.line:,}; paths are'
    f' relative to {printable(path.parent)}: put the files there, or remove'
    f' their lines.{hint}'
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
