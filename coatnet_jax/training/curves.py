"""A run's curves, in which no step is there twice.

A run that is resumed takes steps again that an earlier process had taken and
shown; many readers would show them twice. So the rows of these steps are
removed before new ones are written. A TensorBoard that has read them is told,
by a session's start as TensorFlow once wrote it.
"""

import contextlib
import io
import math
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from logging import LogRecord
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from absl import logging
from etils import epath

from coatnet_jax.errors import find_reason
from coatnet_jax.paths import is_plain_file, write_whole
from coatnet_jax.strict_json import to_json
from coatnet_jax.training import csv_rows

if TYPE_CHECKING:
  from clu.metric_writers import MetricWriter

# Names that had no group in older versions.
_OLD_SPEEDS = ('images_per_second', 'images_per_second_per_device', 'data_wait')
# What `config.logging.writers` may name; the last is a package of its own.
WRITERS = ('tensorboard', 'csv', 'wandb')
# How long a writer waits after a failure: each try makes a new file.
SECONDS_BETWEEN_WRITERS = 300.0

_EVENT_FILES = 'events.out.tfevents'
# No reader takes it for a file of events.
_PARTIAL = 'events.partial'
# What comes before an event: its length, and the checksum of that. After it
# comes its own checksum.
_HEADER, _LENGTH_BYTES = struct.Struct('<QI'), 8
_FOOTER = struct.Struct('<I')


class CurveWriter:
  """Writes rows, pictures and texts to all that they are to be written to.

  Where one of these cannot be written, it says so once, and training goes on.
  """

  def __init__(
    self,
    openers: Mapping[str, Callable[[], 'MetricWriter']],
    workdir: str,
    report: Callable[[str], None],
  ):
    """Opens the writers.

    Args:
      openers: functions that open them, by what they write, for a sentence.
      workdir: directory of the run, for the same.
      report: function called with a sentence for the user.
    """
    self._writers = [
      _Writer(open_writer, f'{what} in {workdir}', report)
      for what, open_writer in openers.items()
    ]

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes a row of numbers by name."""
    for writer in self._writers:
      writer.attempt(lambda to: to.write_scalars(step, scalars))

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes pictures by name, each [B, H, W, 3] uint8."""
    for writer in self._writers:
      writer.attempt(lambda to: to.write_images(step, images))

  def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
    """Writes texts by name, in Markdown."""
    for writer in self._writers:
      writer.attempt(lambda to: to.write_texts(step, texts))

  def close(self) -> None:
    """Writes what is left, and opens nothing any more."""
    for writer in self._writers:
      writer.close()


class _Writer:
  """A writer that is opened anew, after a while, when it has failed."""

  def __init__(
    self,
    open_writer: Callable[[], 'MetricWriter'],
    what: str,
    report: Callable[[str], None],
  ):
    self._open, self._what, self._report = open_writer, what, report
    self._writer: MetricWriter | None = None
    self._failed_at = -math.inf
    self._is_failure_said = False
    self.attempt(lambda writer: None)

  def close(self) -> None:
    if self._writer is not None:
      self.attempt(lambda writer: writer.close())

  def attempt(self, write: Callable[['MetricWriter'], None]) -> None:
    since_failure = time.monotonic() - self._failed_at
    if self._writer is None and since_failure < SECONDS_BETWEEN_WRITERS:
      return
    try:
      self._writer = self._writer or self._open()
      write(self._writer)
    except Exception as error:  # Each kind of writer has errors of its own.
      # In a file of events may be half a row, behind which nothing can be read.
      self._writer, self._failed_at = None, time.monotonic()
      logging.info('Rows are lost', exc_info=True)
      if not self._is_failure_said:
        self._is_failure_said = True
        self._report(
          f'{self._what} cannot be written ({find_reason(error)}); rows are'
          ' lost, and training goes on.'
        )


def create_writer(
  workdir: str,
  step: int,
  report: Callable[[str], None],
  *,
  writers: tuple[str, ...],
  config: Mapping[str, Any],
) -> CurveWriter:
  """Returns what writes a run's curves, in which no step is there twice.

  Args:
    workdir: directory of the run, perhaps gs://...
    step: number of steps taken: what lies there of later ones is removed. With
      none, the config is written as a text.
    report: function called with a sentence for the user.
    writers: what is written, of `WRITERS`.
    config: config of the run.
  """
  # Here, because it takes TensorFlow along, which takes seconds to import, and
  # has things to say where it is not asked to be quiet.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  from coatnet_jax.training import metric_writers

  if jax.process_index() == 0:
    remove_rows_after(workdir, step, report)
  logging.get_absl_logger().addFilter(_is_not_of_a_writers_thread)
  openers = metric_writers.list_openers(workdir, writers, config)
  writer = CurveWriter(openers, workdir, report)
  if not step:
    text = to_json(config, indent=2)
    writer.write_texts(step, {'config': f'```json\n{text}\n```'})
  return writer


def remove_rows_after(
  workdir: str | os.PathLike[str], step: int, report: Callable[[str], None]
) -> None:
  """Removes the rows of later steps from a workdir's event files.

  What lies behind a damaged row is removed too, as no reader gets there. A file
  that cannot be read or written stays as it is.

  Args:
    workdir: directory of the run, perhaps gs://...; need not exist.
    step: last step whose rows stay.
    report: function called with a sentence for each file that is damaged
      otherwise than by a kill, or stays as it is.
  """
  root = epath.Path(workdir)
  if not root.is_dir():
    return
  try:
    csv_rows.remove_rows_after(root, step)
  except Exception as error:  # What reads buckets raises kinds of its own.
    report(f'The CSV files of {root} stay as they are: {find_reason(error)}.')
  is_changed = False
  for path in sorted(root.iterdir()):
    if not path.name.startswith(_EVENT_FILES) or not is_plain_file(path):
      continue
    try:
      is_changed |= _remove_rows(path, step, report)
    except Exception as error:  # What reads buckets raises kinds of its own.
      report(
        f'{path} stays as it is ({find_reason(error)}); TensorBoard may show'
        ' steps of it twice.'
      )
  if is_changed:
    with contextlib.suppress(Exception):  # Which other writers will say.
      _write_start(root, step + 1)


def read_rows(
  workdir: str | os.PathLike[str],
) -> dict[str, list[tuple[int, float]]]:
  """Returns the numbers that a run has written, by name and step.

  What is damaged, or cannot be read, is left out.

  Args:
    workdir: directory of the run, perhaps gs://...

  Returns:
    Pairs of a step and a number, in the order of steps, by name; of a step that
    was taken twice, the one that was written last. Names that older versions
    wrote are those of today.
  """
  found: dict[str, dict[int, float]] = {}
  root = epath.Path(workdir)
  with contextlib.suppress(Exception):  # What reads buckets has its own.
    for name, step, number in csv_rows.read_numbers(root):
      found.setdefault(name, {})[step] = number
  for path in sorted(root.iterdir()) if root.is_dir() else ():
    if path.name.startswith(_EVENT_FILES) and is_plain_file(path):
      with contextlib.suppress(Exception):
        for name, step, number in _read_numbers(path):
          found.setdefault(_add_group(name), {})[step] = number
  return {name: sorted(rows.items()) for name, rows in found.items()}


def _add_group(name: str) -> str:
  """Returns a name with its group, which older versions did not write.

  >>> [_add_group(name) for name in ('eval_top1', 'data_wait', 'train/loss')]
  ['eval/top1', 'speed/data_wait', 'train/loss']
  """
  if name in _OLD_SPEEDS:
    return f'speed/{name}'
  return re.sub('^(train|eval)_', r'\1/', name)


def _read_numbers(path: epath.Path) -> Iterator[tuple[str, int, float]]:
  """Yields name, step and number of every scalar of a file."""
  from tensorboard.compat.proto import event_pb2
  from tensorboard.util import tensor_util

  content = path.read_bytes()
  for _, place in _split(content)[0]:
    event = event_pb2.Event.FromString(content[place])
    for value in event.summary.value:
      if value.HasField('simple_value'):
        yield value.tag, event.step, value.simple_value
        continue
      is_number = not value.tensor.tensor_shape.dim and not (
        value.tensor.string_val
      )
      if value.HasField('tensor') and is_number:
        number = tensor_util.make_ndarray(value.tensor)
        yield value.tag, event.step, float(number)


def _remove_rows(
  path: epath.Path, step: int, report: Callable[[str], None]
) -> bool:
  """Removes later rows from a file; returns whether there were any."""
  from tensorboard.compat.proto import event_pb2  # It takes a while.

  content = path.read_bytes()
  records, damage = _split(content)
  kept = b''.join(
    content[record]
    for record, event in records
    if event_pb2.Event.FromString(content[event]).step <= step
  )
  if kept == content:
    return False
  write_whole(path, kept, _PARTIAL)
  if damage is not None:
    report(f'{path} was damaged at byte {damage:,}; its rows end there.')
  return True


def _split(content: bytes) -> tuple[list[tuple[slice, slice]], int | None]:
  """Finds the records of a file, and the event in each.

  Args:
    content: file's content, whose last record may be cut.

  Returns:
    Where each record is, and its event; and where the file is damaged, if it
    is: what follows there is left out.
  """
  from tensorboard.summary.writer.record_writer import masked_crc32c

  records: list[tuple[slice, slice]] = []
  start = 0
  while (event := start + _HEADER.size) <= len(content):
    length, length_sum = _HEADER.unpack_from(content, start)
    if masked_crc32c(content[start : start + _LENGTH_BYTES]) != length_sum:
      return records, start
    footer = event + length
    if (end := footer + _FOOTER.size) > len(content):
      break
    if _FOOTER.unpack_from(content, footer) != (
      masked_crc32c(content[event:footer]),
    ):
      return records, start
    records.append((slice(start, end), slice(event, footer)))
    start = end
  return records, None


def _write_start(workdir: epath.Path, step: int) -> None:
  """Writes a file that says that steps begin anew.

  Args:
    workdir: directory of the run.
    step: first step of what is written from now on.
  """
  from tensorboard.compat.proto import event_pb2
  from tensorboard.summary.writer import record_writer

  now = time.time()
  log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
  start = event_pb2.Event(wall_time=now, step=step, session_log=log)
  content = io.BytesIO()
  records = record_writer.RecordWriter(content)
  # Twice, as TensorBoard takes the first that it sees for that of the run.
  for event in (
    event_pb2.Event(wall_time=now, file_version='brain.Event:2'),
    start,
    start,
  ):
    records.write(event.SerializeToString())
  # Files are read by their names, this one before the one that TensorFlow will
  # name in the same way and with more behind it.
  name = f'{_EVENT_FILES}.{int(now):010}.{socket.gethostname()}.{os.getpid()}'
  (workdir / name).write_bytes(content.getvalue())


def _is_not_of_a_writers_thread(record: LogRecord) -> bool:
  """Returns whether a log record is not clu's, of what `CurveWriter` says."""
  return record.filename != 'asynclib.py'
