"""The rows of a list of pictures: a table (CSV) or JSON lines.

Columns are found by their names. What is wrong with a row is said with the
number of its line.
"""

import csv
import dataclasses
import io
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from coatnet_jax.data.image_source import format_count
from coatnet_jax.errors import UserError, show
from coatnet_jax.texts import printable, read_text

TABLE_SUFFIXES = ('.csv', '.tsv')
JSON_SUFFIXES = ('.jsonl', '.ndjson')
# A column of a table so called has any number of labels, with these between.
_PLURAL = ('labels', 'classes')
_BETWEEN = re.compile('[|;]')
# What each column may be called, in any case.
COLUMNS = {
  'path': (
    *('path', 'file', 'filename', 'image', 'file_name', 'file_path'),
    *('filepath', 'image_path', 'image_file'),
  ),
  'label': ('label', 'class', 'class_name', 'category', 'target', *_PLURAL),
  'split': ('split',),
  'group': ('group', 'group_id', 'patient', 'patient_id', 'video'),
}
_NEEDED = ('path', 'label')


@dataclasses.dataclass(frozen=True)
class Row:
  """A picture that a list names.

  Attributes:
    line: number of the line, from 1.
    path: path as the list has it.
    labels: names of the classes: one, but where the list says several.
    split: name of the split, '' where it is of none; None without a column.
    group: name of the group; None without a column.
  """

  line: int
  path: str
  labels: tuple[str, ...]
  split: str | None = None
  group: str | None = None


@dataclasses.dataclass(frozen=True)
class Rows:
  """The rows of a list.

  Attributes:
    rows: rows in their order.
    has_several_labels: whether a picture has any number of labels.
  """

  rows: list[Row]
  has_several_labels: bool


def is_list(data_dir: str | os.PathLike[str]) -> bool:
  """Returns whether a path is called as a list, and is no directory.

  >>> is_list('pictures/labels.csv'), is_list('pictures')
  (True, False)
  """
  suffixes = (*TABLE_SUFFIXES, *JSON_SUFFIXES)
  text = os.fspath(data_dir)
  return text.lower().endswith(suffixes) and not os.path.isdir(text)


def read_rows(path: pathlib.Path) -> Rows:
  """Reads the rows of a list; lines without anything are left out.

  Pictures have several labels, or none, where JSON has a list of them, and
  where a table's column is called 'labels' or 'classes': 'cat|dog'.

  Args:
    path: path of the list, in UTF-8 or with a byte-order mark.

  Raises:
    UserError: it cannot be read, lacks a column, has a row that is none, or has
      no rows.
  """
  text = read_text(path)
  if path.name.lower().endswith(JSON_SUFFIXES):
    lines = list(_read_json_lines(path, text))
  else:
    lines = list(_read_table(path, text))
  several = any(isinstance(values['label'], list) for _, values in lines)
  rows = [_create_row(path, number, values) for number, values in lines]
  if not rows:
    raise UserError(
      f'{printable(path)} names no images; each line must name one, and its'
      ' label.'
    )
  return Rows(rows, several)


def _read_table(
  path: pathlib.Path, text: str
) -> Iterator[tuple[int, Mapping[str, Any]]]:
  """Yields the number of each row's line, and its values by meaning."""
  header = text.lstrip().partition('\n')[0]
  delimiter = '\t'
  if path.name.lower().endswith('.csv'):
    delimiter = max(',;\t', key=header.count)
  reader = csv.reader(
    io.StringIO(text, newline=''), delimiter=delimiter, strict=True
  )
  names: list[str] = []
  columns: dict[str, str] = {}
  try:
    for values in reader:
      line = reader.line_num
      if not any(value.strip() for value in values):
        continue
      if not columns:
        names = [value.strip() for value in values]
        columns = _find_columns(path, names)
        continue
      if len(values) != len(names):
        raise UserError(
          f'{printable(path)} has {format_count(len(values), "value")} in'
          f' line {line:,}, and'
          f' its first line names {len(names)} columns; each line must have'
          ' one for each (a value with a comma in it stands in "quotes").'
        )
      found: dict[str, Any] = {
        what: values[names.index(n)] for what, n in columns.items()
      }
      if columns['label'].lower() in _PLURAL:
        texts = _BETWEEN.split(found['label'])
        found['label'] = [text.strip() for text in texts if text.strip()]
      yield line, found
  except csv.Error as error:
    raise UserError(
      f'{printable(path)} is no table at line {reader.line_num:,}: {error}.'
    ) from error
  if not columns:
    raise UserError(
      f'{printable(path)} is empty; its first line must name the columns, as'
      ' in "path,label".'
    )


def _read_json_lines(
  path: pathlib.Path, text: str
) -> Iterator[tuple[int, Mapping[str, Any]]]:
  """Yields the number of each row's line, and its values by meaning."""
  for number, line in enumerate(text.split('\n'), 1):
    if not line.strip():
      continue
    try:
      values = json.loads(line)
    except (ValueError, RecursionError) as error:
      raise UserError(
        f'{printable(path)} has no JSON in line {number:,}: {error}; each line'
        ' must be an object, as {"path": "a.jpg", "label": "cat"}.'
      ) from error
    if not isinstance(values, dict):
      raise UserError(
        f'{printable(path)} has {show(values)} in line {number:,}; each line'
        ' must be an object, as {"path": "a.jpg", "label": "cat"}.'
      )
    columns = _find_columns(path, values, f' in line {number:,}')
    yield number, {what: values[name] for what, name in columns.items()}


def _find_columns(
  path: pathlib.Path, names: Iterable[str], where: str = ''
) -> dict[str, str]:
  """Returns the name of each column that there is, by its meaning."""
  names = list(names)
  columns = {}
  for what, choices in COLUMNS.items():
    found = [name for name in names if name.strip().lower() in choices]
    if len(found) > 1:
      raise UserError(
        f'{printable(path)} has several columns{where} that may be the {what}:'
        f' {", ".join(map(printable, found))}; call only one of them so.'
      )
    if found:
      columns[what] = found[0]
    elif what in _NEEDED:
      shown = ', '.join(printable(name) for name in names[:20])
      raise UserError(
        f'{printable(path)} has no column{where} for the {what}: it has'
        f' {shown or "none"}; one must be called {", ".join(choices[:-1])} or'
        f' {choices[-1]}.'
      )
  return columns


def _is_text(value: str) -> bool:
  """Returns whether all of a text are characters, as JSON need not have it."""
  try:
    return b'\0' not in value.encode()
  except UnicodeEncodeError:
    return False


def _create_row(
  path: pathlib.Path, line: int, values: Mapping[str, Any]
) -> Row:
  """Returns a row whose values are texts."""
  texts, labels = {}, []
  found = values['label']
  for what, value in (
    *((what, value) for what, value in values.items() if what != 'label'),
    *(
      ('label', one) for one in (found if isinstance(found, list) else [found])
    ),
  ):
    if isinstance(value, int) and not isinstance(value, bool):
      value = str(value)  # JSON's number of a class, or of a patient.
    if value is None and what not in _NEEDED:
      value = ''
    if not isinstance(value, str) or not _is_text(value):
      raise UserError(
        f'{printable(path)} has the {what} {show(value)} in line {line:,}; it'
        ' must be one text or whole number.'
      )
    text = value.strip()
    if what == 'label':
      labels.append(text)
    else:
      texts[what] = text
    if not text and what in _NEEDED:
      raise UserError(
        f'{printable(path)} has no {what} in line {line:,}; each line must'
        ' name an image and its label: write one, or remove the line.'
      )
  return Row(line, labels=tuple(sorted(set(labels))), **texts)
