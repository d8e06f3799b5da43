"""What a person sees: lines, and word of what goes on where there are none.

Imports no library that takes time, to be there while those are imported.
"""

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn, TextIO

from absl import logging

from coatnet_jax.escapes import escape

# Exit statuses of what was ended by Ctrl-C and by the end of a pipe, as shells
# have them.
INTERRUPTED = 130
UNREAD = 141
# After so long without a line, one says what goes on; ten seconds are the most
# that anybody should wait for it.
SILENCE_SECONDS = 8.0
# A program's first line comes sooner.
FIRST_SECONDS = 1.0
# On a terminal it is a line that moves.
MOVING_SECONDS = 1.0

# Columns of a bar, beside the text of a line that moves.
_BAR_COLUMNS = (8, 24)

# What the process does, in words how far it has come with it, since when, and
# the part of it that is done, if that is known.
_activity: tuple[str, str, float, float | None] = ('', '', 0.0, None)
# When something was last written, by any `Terminal`; and whether it was.
_written, _is_written = time.monotonic(), False


def begin(activity: str, progress: str = '', done: float | None = None) -> None:
  """Says what the process does from now on.

  Args:
    activity: words for after "It was": 'compiling the train step'.
    progress: how far the activity has come: 'batch 3 of 16'.
    done: part of the activity that is done, 0 to 1, for a bar; None where that
      is not known.
  """
  global _activity
  before, _, since, _ = _activity
  _activity = (
    activity,
    progress,
    since if activity == before else time.monotonic(),
    done,
  )


def describe_activity() -> str:
  """Returns what the process does and for how long, as a line; may be empty.

  >>> begin('compiling the train step', 'part 1 of 2')
  >>> print(describe_activity())
  Compiling the train step, part 1 of 2...
  >>> begin('')
  """
  activity, progress, since, _ = _activity
  if not activity:
    return ''
  parts = [escape(activity[0].upper() + activity[1:]), escape(progress)]
  seconds = time.monotonic() - since
  if seconds >= 1:
    parts.append(format_seconds(seconds))
  return ', '.join(part for part in parts if part)


def get_activity() -> str:
  """Returns words for what the process does, for after "It was"; or ''."""
  activity, progress, *_ = _activity
  return ', '.join(part for part in (activity, progress) if part)


def note(text: str) -> None:
  """Writes a sentence to `sys.stderr`, from any thread and in any state."""
  with contextlib.suppress(AttributeError, OSError, ValueError):
    # A line that moved, on a terminal, ends first.
    start = '\r\x1b[K' if sys.stderr.isatty() else ''
    sys.stderr.write(f'{start}{text}\n')
    sys.stderr.flush()
  logging.info('%s', text)  # Last, as another thread may hold its lock.


def format_seconds(seconds: float) -> str:
  """Returns a duration for people: '42 s', '3 min 10 s', '2 h 5 min'.

  >>> format_seconds(42), format_seconds(190.4), format_seconds(7500)
  ('42 s', '3 min 10 s', '2 h 5 min')
  """
  seconds = round(seconds)
  if seconds < 60:
    return f'{seconds} s'
  if seconds < 3600:
    return f'{seconds // 60} min {seconds % 60} s'
  return f'{seconds // 3600} h {seconds % 3600 // 60} min'


def fit_to_columns(
  text: str, columns: int, done: float | None = None, encoding: str = 'utf-8'
) -> str:
  """Returns a line that moves as it fits a terminal: with a bar, or cut.

  >>> fit_to_columns('step 3/6', 20, 0.5)
  '|████    | step 3/6'
  >>> fit_to_columns('step 3/6', 8)
  'step 3/'

  Args:
    text: text of the line.
    columns: width of the terminal; the last column stays empty, as terminals
      begin a new line behind it.
    done: part that is done, 0 to 1, for the bar; None for no bar.
    encoding: encoding of the terminal.
  """
  room = columns - 1
  least, most = _BAR_COLUMNS
  width = min(room - len(text) - len('|| '), most)
  if done is None or width < least:
    return text[:room]
  from tqdm.std import Bar  # Here, as it takes a while.

  is_utf = encoding.lower().startswith('utf')
  bar = Bar(done, width, Bar.UTF if is_utf else Bar.ASCII)
  return f'|{bar}| {text}'


class UnreadError(BrokenPipeError):
  """Results are no longer read, as after `| head`."""


def write_result(text: str = '') -> None:
  """Writes to `sys.stdout`, with all that is left in it.

  Raises:
    UnreadError: nobody reads it.
  """
  try:
    sys.stdout.write(text)
    sys.stdout.flush()
  except BrokenPipeError as error:
    discard(sys.stdout)
    raise UnreadError from error


class Terminal:
  """Writes lines, and one that moves where the stream is a terminal.

  As a context it tells what goes on (`begin`) where it would be silent. Where
  nobody reads any more, as after `| head`, it says so in the log and is silent.
  """

  def __init__(
    self,
    get_stream: Callable[[], TextIO | None] = lambda: sys.stdout,
    *,
    is_silent: bool = False,
  ):
    """Writes nothing yet.

    Args:
      get_stream: function that returns the stream to write to, anew for each
        line: `sys.stdout` may be replaced.
      is_silent: whether lines are only logged, as on other processes than the
        first.
    """
    self._get_stream = get_stream
    self._is_silent = is_silent
    self._lock = threading.RLock()
    self._moving = ''  # The text of the line that the cursor is on,
    self._done: float | None = None  # and the part that it says is done.
    self._is_moving = False
    self._closed = threading.Event()
    self._thread: threading.Thread | None = None

  def line(self, text: str) -> None:
    """Writes a line that stays, to the log too."""
    text = escape(text)
    logging.info('%s', text)
    with self._lock:
      self._end_moving_line()
      self._write(f'{text}\n')

  def moving_line(self, text: str, done: float | None = None) -> None:
    """Writes a line that the next moving one replaces.

    Args:
      text: text of the line.
      done: part of the whole that is done, 0 to 1, for a bar where there is
        room; None for no bar.
    """
    text = escape(text)
    logging.info('%s', text)
    with self._lock:
      if self._is_terminal():
        self._move(text, done)
        self._moving, self._done = text, done
      else:
        self._write(f'{text}\n')

  def show(self, text: str) -> None:
    """Prints a result to `sys.stdout`, where the stream is another.

    Raises:
      UnreadError: nobody reads it.
    """
    global _written, _is_written
    with self._lock:
      self._end_moving_line()
      write_result(f'{escape(text)}\n')
      _written, _is_written = time.monotonic(), True

  def __enter__(self):
    """Does what `start` does."""
    self.start()
    return self

  def start(self) -> None:
    """Starts to tell what goes on."""
    self._thread = threading.Thread(target=self._tell_on, daemon=True)
    self._thread.start()

  def __exit__(self, *_):
    """Ends what `close` ends."""
    self.close()

  def close(self) -> None:
    """Tells no more what goes on, and leaves a line that moved behind."""
    self._closed.set()
    if self._thread:
      self._thread.join()
      self._thread = None
    with self._lock:
      self._end_moving_line()

  def _tell_on(self) -> None:
    while not self._closed.wait(0.2):
      with self._lock:
        silence = time.monotonic() - _written
        text = describe_activity()
        if not text:
          continue
        if not self._is_terminal():
          if silence > (SILENCE_SECONDS if _is_written else FIRST_SECONDS):
            self._write(f'{text}\n')
        elif silence > MOVING_SECONDS:
          self._move_activity(text)

  def _is_terminal(self) -> bool:
    stream = self._get_stream()
    try:
      return stream.isatty()
    except (AttributeError, ValueError):  # There is none, or it is closed.
      return False

  def _move_activity(self, text: str) -> None:
    """Shows what goes on, beside what moved last where it has no bar."""
    done = _activity[-1]
    if self._moving and done is None:
      text, done = f'{self._moving}  ({text})', self._done
    self._move(text, done)

  def _move(self, text: str, done: float | None) -> None:
    columns = shutil.get_terminal_size().columns
    encoding = getattr(self._get_stream(), 'encoding', None) or 'ascii'
    self._write(f'\r{fit_to_columns(text, columns, done, encoding)}\x1b[K')
    self._is_moving = True

  def _end_moving_line(self) -> None:
    if self._is_moving:
      # What was told of what goes on is of the past.
      self._write(f'\r{self._moving}\x1b[K\n' if self._moving else '\r\x1b[K')
    self._moving, self._done, self._is_moving = '', None, False

  def _write(self, text: str) -> None:
    global _written, _is_written
    _written, _is_written = time.monotonic(), True
    if self._is_silent:
      return
    stream = self._get_stream()
    try:
      stream.write(text)
      stream.flush()
    except (AttributeError, OSError, ValueError):
      self._is_silent = True
      logging.info('Nobody reads the terminal any more; the run goes on.')
      discard(stream)


def end_interrupted(*_) -> NoReturn:
  """Ends the program by Ctrl-C with one line; a handler of the signal.

  For the time in which modules are imported: where an extension is initialised,
  a KeyboardInterrupt becomes another error.
  """
  with contextlib.suppress(OSError, ValueError):
    print('Interrupted.', file=sys.stderr, flush=True)
  # Threads may still compile a program, and crash where Python is taken down
  # around them.
  os._exit(INTERRUPTED)


def discard(stream: TextIO | None) -> None:
  """Sends a stream that can't be written to nowhere.

  Else Python, at its end, would fail to write what is left in it.
  """
  try:
    descriptor = stream.fileno()
  except (AttributeError, OSError, ValueError):
    return
  nowhere = os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, descriptor)
  os.close(nowhere)
