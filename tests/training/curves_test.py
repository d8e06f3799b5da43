"""No reader of TensorBoard's files sees a step twice after a restart."""

import errno
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import time
import urllib.request
from unittest import mock

import numpy as np
import pytest
from tensorboard.backend.event_processing import (
  event_accumulator,
  event_file_loader,
  plugin_event_accumulator,
)
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from coatnet_jax.training import curves

# In the order of their names, as processes make them.
_NAME = (
  f'events.out.tfevents.{{:010}}.{socket.gethostname()}.{os.getpid()}.0.v2'
)
# What TensorBoard's own page reads, with its data server and without, and what
# scripts read.
_ACCUMULATORS = (
  event_accumulator.EventAccumulator,
  plugin_event_accumulator.EventAccumulator,
)


def _write(workdir, number, steps, cut=0):
  """Writes the file of a process, whose last bytes may be missing."""
  path = workdir / _NAME.format(number)
  events = [event_pb2.Event(wall_time=number, file_version='brain.Event:2')]
  for step in steps:
    value = summary_pb2.Summary.Value(tag='loss', simple_value=1000 * number)
    summary = summary_pb2.Summary(value=[value])
    events.append(event_pb2.Event(wall_time=number, step=step, summary=summary))
  with path.open('wb') as file:
    records = RecordWriter(file)
    for event in events:
      records.write(event.SerializeToString())
  os.truncate(path, path.stat().st_size - cut)
  return path


def _read_plainly(workdir):
  """Returns the steps of every row of every file, as a simple script does."""
  steps = []
  for path in sorted(workdir.glob('events.out.tfevents.*')):
    events = event_file_loader.LegacyEventFileLoader(str(path)).Load()
    steps += [event.step for event in events if event.HasField('summary')]
  return steps


def _read(accumulator):
  accumulator.Reload()
  if 'loss' in accumulator.Tags().get('scalars', ()):
    return [event.step for event in accumulator.Scalars('loss')]
  return [event.step for event in accumulator.Tensors('loss')]


def _accumulate(workdir):
  size = dict.fromkeys(('scalars', 'tensors'), 0)
  return [
    accumulator(str(workdir), size_guidance=size)
    for accumulator in _ACCUMULATORS
  ]


def test_rows_of_later_steps_go_and_all_others_stay(tmp_path):
  first = _write(tmp_path, 1, range(10, 90, 10))
  second = _write(tmp_path, 2, range(50, 130, 10), cut=3)
  before = first.read_bytes()
  curves.remove_rows_after(tmp_path, 100, pytest.fail)
  assert first.read_bytes() == before
  assert _read_plainly(tmp_path) == [*range(10, 90, 10), *range(50, 110, 10)]
  curves.remove_rows_after(tmp_path, 40, pytest.fail)
  assert _read_plainly(tmp_path) == [10, 20, 30, 40]
  assert second.exists()
  assert not (tmp_path / 'events.partial').exists()


def test_after_thirteen_restarts_no_reader_sees_a_step_twice(
  tmp_path, monkeypatch
):
  """Those that were looking all the time, and those that come later."""
  choose, step = random.Random(0), 0
  watching = _accumulate(tmp_path)
  for number in range(1, 15):
    monkeypatch.setattr(curves.time, 'time', lambda now=number: now)
    curves.remove_rows_after(tmp_path, step, pytest.fail)
    rows = choose.randrange(1, 30)
    cut = choose.randrange(30)
    _write(tmp_path, number, range(step + 1, step + rows), cut)
    for accumulator in watching:
      steps = _read(accumulator) if _read_plainly(tmp_path) else []
      assert steps == sorted(set(steps))
    step += choose.randrange(rows)
  curves.remove_rows_after(tmp_path, step, pytest.fail)
  _write(tmp_path, 100, range(step + 1, step + 5))
  expected = list(range(1, step + 5))
  # What was cut, a row or two at a time, is missing; nothing is there twice.
  found = _read_plainly(tmp_path)
  assert found == sorted(set(found))
  assert set(found) <= set(expected)
  for accumulator in (*watching, *_accumulate(tmp_path)):
    assert _read(accumulator) == found


def test_rows_are_read_once_each_and_what_is_damaged_is_left_out(tmp_path):
  assert curves.read_rows(tmp_path / 'nothing') == {}
  _write(tmp_path, 1, range(10, 50, 10))
  # Takes steps 30 and 40 again, and its last row is cut.
  _write(tmp_path, 2, range(30, 80, 10), cut=3)
  (tmp_path / (_NAME.format(3))).write_bytes(b'no record')
  (tmp_path / (_NAME.format(4))).mkdir()
  expected = [(10, 1e3), (20, 1e3), *((n, 2e3) for n in range(30, 70, 10))]
  assert curves.read_rows(tmp_path) == {'loss': expected}


@pytest.mark.parametrize(
  'writers', [('tensorboard',), ('csv',), ('tensorboard', 'csv')]
)
def test_what_the_project_writes_is_read_again(tmp_path, writers):
  writer = curves.create_writer(
    str(tmp_path), 0, pytest.fail, writers=writers, config={'a': 1}
  )
  writer.write_scalars(1, {'train/loss': 0.5, 'speed/data_wait': 0.25})
  writer.write_images(1, {'grid': np.zeros((1, 4, 4, 3), np.uint8)})
  writer.write_scalars(2, {'train/loss': 0.125})
  writer.write_scalars(2, {'eval/top1': 0.75})
  writer.close()
  assert curves.read_rows(tmp_path) == {
    'train/loss': [(1, 0.5), (2, 0.125)],
    'speed/data_wait': [(1, 0.25)],
    'eval/top1': [(2, 0.75)],
  }


def test_what_is_damaged_is_said_and_ends_there(tmp_path):
  path = _write(tmp_path, 1, range(10, 90, 10))
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  said = []
  curves.remove_rows_after(tmp_path, 80, said.append)
  assert len(said) == 1
  assert 'was damaged at byte ' in said[0]
  steps = _read_plainly(tmp_path)
  assert steps == list(range(10, 10 * len(steps) + 1, 10))
  assert 2 < len(steps) < 6
  curves.remove_rows_after(tmp_path, 80, pytest.fail)


def test_what_cannot_be_read_stays_and_is_said(tmp_path, monkeypatch):
  _write(tmp_path, 1, range(10))
  (tmp_path / _NAME.format(2)).mkdir()
  os.mkfifo(tmp_path / _NAME.format(3))

  def refuse(path):
    raise OSError(errno.EIO, 'Input/output error')

  monkeypatch.setattr(curves.epath.Path('/').__class__, 'read_bytes', refuse)
  said = []
  curves.remove_rows_after(tmp_path, 4, said.append)
  assert said == [
    f'{tmp_path / _NAME.format(1)} stays as it is (Input/output error);'
    ' TensorBoard may show steps of it twice.'
  ]
  curves.remove_rows_after(tmp_path / 'nowhere', 4, pytest.fail)


def test_in_a_bucket_too(bucket):
  (bucket / 'run').mkdir()
  _write(bucket / 'run', 1, range(10))
  curves.remove_rows_after('gs://bucket/run', 4, pytest.fail)
  assert _read_plainly(bucket / 'run') == [0, 1, 2, 3, 4]


def test_a_disk_that_is_full_is_said_once_and_tried_again(
  tmp_path, monkeypatch
):
  class Full(Exception):
    """As TensorFlow's are."""

  writers, said = [], []
  now = 1000.0
  monkeypatch.setattr(curves.time, 'monotonic', lambda: now)

  def open_writer():
    writers.append(mock.Mock())
    if len(writers) < 3:
      error = Full('{node} /run/f; No space left on device\n\tFailed')
      writers[-1].write_scalars.side_effect = error
    return writers[-1]

  other = mock.Mock()
  openers = {
    'The files for TensorBoard': open_writer,
    'The CSV files': lambda: other,
  }
  writer = curves.CurveWriter(openers, '/run', said.append)
  for step in range(100):
    writer.write_scalars(step, {'loss': 1.0})
    now += 10.0
  writer.close()
  assert len(writers) == 3
  assert writers[2].write_scalars.call_count == 100 - 2 * 30
  # What one cannot write, the others can.
  assert other.write_scalars.call_count == 100
  assert said == [
    'The files for TensorBoard in /run cannot be written (No space left on'
    ' device); rows are lost, and training goes on.'
  ]


def _ask(port, deadline=30):
  """Returns the steps that a TensorBoard shows."""
  url = f'http://127.0.0.1:{port}/data/plugin/scalars/scalars?run=.&tag=loss'
  end = time.monotonic() + deadline
  while True:
    try:
      with urllib.request.urlopen(url) as answer:
        return [step for _, step, _ in json.load(answer)]
    except OSError:
      assert time.monotonic() < end
      time.sleep(0.3)


@pytest.mark.slow
@pytest.mark.rotating
def test_a_tensorboard_that_was_looking_shows_no_step_twice(tmp_path):
  """With its data server, which is the default, and without."""
  workdir = tmp_path / 'run'
  workdir.mkdir()
  _write(workdir, 1_000_000_000, range(10, 90, 10))
  servers = []
  for fast in ('true', 'false'):
    with socket.socket() as free:
      free.bind(('127.0.0.1', 0))
      port = free.getsockname()[1]
    words = ('-m', 'tensorboard.main', '--logdir', workdir, '--port', port)
    words += ('--load_fast', fast, '--reload_interval', 1)
    with pathlib.Path(tmp_path / fast).open('w') as log:
      process = subprocess.Popen(
        [sys.executable, *map(str, words)], stdout=log, stderr=log
      )
    servers.append((process, port))
  try:
    for _, port in servers:
      assert _ask(port) == list(range(10, 90, 10))
    curves.remove_rows_after(workdir, 40, pytest.fail)
    _write(workdir, 2_000_000_000, range(50, 130, 20))
    time.sleep(4)
    for _, port in servers:
      assert _ask(port) == [10, 20, 30, 40, 50, 70, 90, 110]
  finally:
    for process, _ in servers:
      process.terminate()
      process.wait()
