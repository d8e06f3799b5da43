"""TensorBoard's curves of a run, in which no step is there twice.

A run that is resumed takes steps again that an earlier process had taken and
shown; many readers would show them twice. So the rows of these steps are
removed before new ones are written. A TensorBoard that has read them is told,
by a session's start as TensorFlow once wrote it.
"""

import contextlib
import io
import math
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from logging import LogRecord
from typing import TYPE_CHECKING

import jax
import numpy as np
from absl import logging
from etils import epath

from coatnet_jax.errors import find_reason
from coatnet_jax.paths import is_plain_file, write_whole

if TYPE_CHECKING:
  from clu.metric_writers import MetricWriter

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
  """Writes rows and pictures for TensorBoard, and to the log.

  Where they cannot be written, it says so once, and training goes on.
  """

  def __init__(self, workdir: str, report: Callable[[str], None]):
    """Opens a new file.

    Args:
      workdir: directory of the run, perhaps gs://...
      report: function called with a sentence for the user.
    """
    self._workdir = workdir
    self._report = report
    self._writer: MetricWriter | None = None
    self._failed_at = -math.inf
    self._is_failure_said = False
    self._try(lambda writer: None)

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes a row of numbers by name."""
    self._try(lambda writer: writer.write_scalars(step, scalars))

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes pictures by name, each [B, H, W, 3] uint8."""
    self._try(lambda writer: writer.write_images(step, images))

  def close(self) -> None:
    """Writes what is left, and opens no other file."""
    if self._writer is not None:
      self._try(lambda writer: writer.close())

  def _try(self, write: Callable[['MetricWriter'], None]) -> None:
    since_failure = time.monotonic() - self._failed_at
    if self._writer is None and since_failure < SECONDS_BETWEEN_WRITERS:
      return
    try:
      self._writer = self._writer or _open_writer(self._workdir)
      write(self._writer)
    except Exception as error:  # TensorFlow raises kinds of its own.
      # In its file may be half a row, behind which nothing can be read.
      self._writer, self._failed_at = None, time.monotonic()
      logging.info('Rows are lost', exc_info=True)
      if not self._is_failure_said:
        self._is_failure_said = True
        self._report(
          f'The files for TensorBoard in {self._workdir} cannot be written'
          f' ({find_reason(error)}); rows are lost, and training goes on.'
        )


def create_writer(
  workdir: str, step: int, report: Callable[[str], None]
) -> CurveWriter:
  """Returns what writes a run's curves, in which no step is there twice.

  Args:
    workdir: directory of the run, perhaps gs://...
    step: number of steps taken: what lies there of later ones is removed.
    report: function called with a sentence for the user.
  """
  # Here, because it takes TensorFlow along, which takes seconds to import, and
  # has things to say where it is not asked to be quiet.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  if jax.process_index() == 0:
    remove_rows_after(workdir, step, report)
  return CurveWriter(workdir, report)


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
  workdir = epath.Path(workdir)
  if not workdir.is_dir():
    return
  is_changed = False
  for path in sorted(workdir.iterdir()):
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
      _write_start(workdir, step + 1)


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

  records, start = [], 0
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


def _open_writer(workdir: str) -> 'MetricWriter':
  """Returns clu's writer to TensorBoard and the log; logs only elsewhere."""
  from clu import metric_writers

  logging.get_absl_logger().addFilter(_is_not_of_a_writers_thread)
  return metric_writers.create_default_writer(
    workdir, just_logging=jax.process_index() > 0
  )
