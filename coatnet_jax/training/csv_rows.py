"""Rows of a run's numbers as CSV, for a spreadsheet: no step is there twice.

Training's rows are in one file of the workdir and evaluations' in another, a
column for each name. A name that comes later gets a column behind the others.
"""

import contextlib
import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from etils import epath

from coatnet_jax.paths import is_plain_file, write_whole

TRAIN_FILE, EVAL_FILE = 'metrics_train.csv', 'metrics_eval.csv'
_STEP = 'step'


class CsvRows:
  """Writes rows of numbers to the files of a workdir."""

  def __init__(self, workdir: str | os.PathLike[str]):
    """Takes the directory of the run, perhaps gs://...; writes nothing yet."""
    self._workdir = epath.Path(workdir)
    self._headers: dict[str, list[str]] = {}

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes a row.

    Args:
      step: number of the step.
      scalars: numbers by name; a row with a name in the group `eval/` is an
        evaluation's.
    """
    is_evaluation = any(name.startswith('eval/') for name in scalars)
    path = self._workdir / (EVAL_FILE if is_evaluation else TRAIN_FILE)
    is_open = path.name in self._headers
    if not is_open:
      rows = _read_rows(path)
      self._headers[path.name] = rows[0] if rows else [_STEP]
    header = self._headers[path.name]
    added = [name for name in scalars if name not in header]
    if added or not is_open:  # Behind half a row, none could be read.
      header += added
      write_whole(path, _format([header, *_read_rows(path)[1:]], len(header)))
    row = [repr(scalars[name]) if name in scalars else '' for name in header]
    row[0] = str(step)
    with path.open('a') as file:
      file.write(_format([row], len(header)))


def remove_rows_after(workdir: str | os.PathLike[str], step: int) -> None:
  """Removes the rows of later steps.

  A file that does not begin as this project's do is left alone.

  Args:
    workdir: directory of the run, perhaps gs://...; need not exist.
    step: last step whose rows stay.
  """
  for name in (TRAIN_FILE, EVAL_FILE):
    path = epath.Path(workdir) / name
    if not path.exists() or not is_plain_file(path):
      continue
    header, *rows = _read_rows(path) or [[]]
    kept = [row for row in rows if not _is_later(row, step)]
    if header[:1] == [_STEP] and len(kept) < len(rows):
      write_whole(path, _format([header, *kept], len(header)))


def _is_later(row: Sequence[str], step: int) -> bool:
  """Returns whether a row is of a later step, as far as it says."""
  return bool(row) and row[0].isdecimal() and int(row[0]) > step


def read_numbers(
  workdir: str | os.PathLike[str],
) -> Iterator[tuple[str, int, float]]:
  """Yields name, step and number of all that a workdir's files have.

  What is no number, or of no step, is left out.

  Args:
    workdir: directory of the run, perhaps gs://...; need not exist.
  """
  for file in (TRAIN_FILE, EVAL_FILE):
    header, *rows = _read_rows(epath.Path(workdir) / file) or [[]]
    for step, *numbers in filter(None, rows):
      if not step.isdecimal():
        continue
      for name, number in zip(header[1:], numbers):
        with contextlib.suppress(ValueError):
          yield name, int(step), float(number)


def _read_rows(path: epath.Path) -> list[list[str]]:
  """Returns the rows of a file, the names first; none where there is none."""
  if not path.exists() or not is_plain_file(path):
    return []
  lines = path.read_text().splitlines(keepends=True)
  if lines and not lines[-1].endswith('\n'):
    lines.pop()  # It was not written to its end.
  return list(csv.reader(lines))


def _format(rows: Iterable[Sequence[str]], width: int) -> str:
  """Returns lines of rows, each filled up to as many cells."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerows([*row, *[''] * (width - len(row))] for row in rows)
  return text.getvalue()
