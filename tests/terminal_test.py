"""What a person sees: no long silence, and no run that ends with its reader."""

import io
import json
import os
import pathlib
import subprocess
import time

import pytest

from coatnet_jax import terminal
from tests.main_process import start_main

ROOT = pathlib.Path(__file__).parents[1]
# Of a process that imports JAX, on a busy machine with two cores.
TIMEOUT = 280


class Screen(io.StringIO):
  """A terminal."""

  def isatty(self):
    return True


class Gone:
  """A stream whose reader is gone."""

  def __init__(self, error):
    self._error = error

  def isatty(self):
    return False

  def write(self, text):
    raise self._error

  def fileno(self):
    raise OSError('none')


@pytest.fixture
def quick(monkeypatch):
  monkeypatch.setattr(terminal, 'SILENCE_SECONDS', 0.3)
  monkeypatch.setattr(terminal, 'FIRST_SECONDS', 0.3)
  monkeypatch.setattr(terminal, 'MOVING_SECONDS', 0.3)
  monkeypatch.setattr(terminal, '_activity', ('', '', 0.0, None))


def _wait_for(stream, text):
  deadline = time.monotonic() + 30
  while text not in stream.getvalue():
    assert time.monotonic() < deadline, stream.getvalue()
    time.sleep(0.05)


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [
    (0.4, '0 s'),
    (59.6, '1 min 0 s'),
    (190, '3 min 10 s'),
    (3599, '59 min 59 s'),
    (7525, '2 h 5 min'),
    (90_061, '25 h 1 min'),
  ],
)
def test_durations_are_for_people(seconds, text):
  assert terminal.format_seconds(seconds) == text


@pytest.mark.usefixtures('quick')
def test_silence_is_broken_by_what_goes_on():
  stream = io.StringIO()
  with terminal.Terminal(lambda: stream) as shown:
    shown.line('a line')
    terminal.begin('compiling the train step')
    _wait_for(stream, 'Compiling the train step, 1 s\n')
    terminal.begin('evaluating', 'batch 1 of 9')
    terminal.begin('evaluating', 'batch 2 of 9')
    _wait_for(stream, 'Evaluating, batch 2 of 9\n')
    _wait_for(stream, 'Evaluating, batch 2 of 9, 1 s\n')
    terminal.begin('saving')
    _wait_for(stream, 'Saving\n')
  length = len(stream.getvalue())
  time.sleep(1)
  assert len(stream.getvalue()) == length
  assert stream.getvalue().startswith('a line\n')


@pytest.mark.usefixtures('quick')
def test_lines_that_come_are_not_interrupted():
  stream = io.StringIO()
  with terminal.Terminal(lambda: stream) as shown:
    terminal.begin('training')
    for number in range(20):
      shown.line(str(number))
      time.sleep(0.05)
  assert 'Training' not in stream.getvalue()


@pytest.mark.usefixtures('quick')
def test_on_a_terminal_it_is_a_line_that_moves():
  stream = Screen()
  with terminal.Terminal(lambda: stream) as shown:
    terminal.begin('compiling')
    _wait_for(stream, '\rCompiling')
    shown.line('compiled')
    assert stream.getvalue().endswith('\r\x1b[Kcompiled\n')
    terminal.begin('taking step 7')
    shown.moving_line('step 6/9')
    _wait_for(stream, '\rstep 6/9  (Taking step 7')
    shown.moving_line('step 7/9')
    shown.line('evaluated')
  assert stream.getvalue().endswith(
    '\rstep 7/9\x1b[K\rstep 7/9\x1b[K\nevaluated\n'
  )


@pytest.mark.usefixtures('quick')
def test_a_bar_shows_the_part_that_is_done(monkeypatch):
  monkeypatch.setenv('COLUMNS', '40')
  stream = Screen()
  with terminal.Terminal(lambda: stream) as shown:
    shown.moving_line('step 3/4  loss 0.5', 0.75)
    assert (
      stream.getvalue() == '\r|#############5    | step 3/4  loss 0.5\x1b[K'
    )
    # Evaluating has a bar of its own.
    terminal.begin('evaluating', 'batch 2 of 4', 0.25)
    _wait_for(stream, '\r|###         | Evaluating, batch 2 of 4\x1b[K')
    terminal.begin('saving')
    _wait_for(stream, '\r|######  | step 3/4  loss 0.5  (Saving)\x1b[K')
    # What stays has no bar.
    shown.line('evaluated')
    assert stream.getvalue().endswith('\rstep 3/4  loss 0.5\x1b[K\nevaluated\n')


@pytest.mark.parametrize('columns', [1, 10, 30, 31, 37, 40, 52, 200])
@pytest.mark.parametrize('done', [None, 0.0, 0.3, 1.0])
def test_no_line_that_moves_is_wider_than_the_terminal(columns, done):
  text = 'step 12/40 (30%)  loss 2.3'
  for encoding in ('utf-8', 'ascii'):
    shown = terminal.fit_to_columns(text, columns, done, encoding)
    assert len(shown) <= columns - 1
    shown.encode(encoding)
    has_bar = done is not None and columns >= 1 + len(text) + 3 + 8
    assert shown.startswith('|') == has_bar
    assert shown.endswith(text) if columns > len(text) else shown in text


@pytest.mark.parametrize(
  'error', [BrokenPipeError(), OSError(5, 'EIO'), ValueError('closed')]
)
def test_it_is_silent_where_nobody_reads(error):
  with terminal.Terminal(lambda: Gone(error)) as shown:
    shown.line('a')
    shown.moving_line('b')
    shown.line('c')


def test_other_processes_are_silent():
  stream = io.StringIO()
  with terminal.Terminal(lambda: stream, is_silent=True) as shown:
    shown.line('a')
    shown.moving_line('b')
  assert stream.getvalue() == ''


@pytest.mark.slow
@pytest.mark.rotating
def test_a_run_speaks_soon_and_often_and_outlives_its_reader(tmp_path):
  """As in `python main.py ... 2>&1 | head -20`."""
  workdir = tmp_path / 'run'
  environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
  started = time.monotonic()
  process = start_main(
    '--config=tests/processes_config.py',
    f'--workdir={workdir}',
    '--config.checkpoint.every_steps=1',
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )
  lines, silences = [], []
  for line in process.stdout:
    silences.append(time.monotonic() - started - sum(silences))
    lines.append(line)
    if line.startswith('step 2/'):
      break
  process.stdout.close()
  assert process.wait(TIMEOUT) == 0, lines
  assert json.loads((workdir / 'summary.json').read_text())['steps'] == 5
  assert 'Nobody reads' in (workdir / 'train.log').read_text()
  # 2 s and 10 s where nothing else wants the processors.
  assert silences[0] < 10, lines
  assert max(silences) < 15, list(zip(silences, lines, strict=True))
