"""Pictures through training and evaluation, in a process that may die."""

import dataclasses
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterable, Iterator

import numpy as np

MAX_SECONDS = 1.0
MAX_KIBIBYTES = 512 << 10
# Until a picture is given up, and its process ended.
_PATIENCE_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Trial:
  """What became of a picture.

  Attributes:
    name: name of the picture.
    seconds: seconds of the processor, of the slowest of the ways it went.
    kibibytes: memory that was taken, at the peak.
    outcome: 'a picture', the message of a damaged one, or what else was raised.
    is_allowed: whether such an outcome may be.
    noise: what was written to stderr.
  """

  name: str
  seconds: float
  kibibytes: int
  outcome: str
  is_allowed: bool
  noise: str

  @property
  def problem(self) -> str:
    """Says what must not be; '' for nothing."""
    found = []
    if not self.is_allowed:
      found.append(self.outcome)
    if self.seconds > MAX_SECONDS:
      found.append(f'{self.seconds:.2f} s')
    if self.kibibytes > MAX_KIBIBYTES:
      found.append(f'{self.kibibytes >> 10:,} MiB')
    if self.noise:
      found.append(f'on stderr: {self.noise[:200]!r}')
    return f'{self.name}: {"; ".join(found)}' if found else ''


def try_pictures(pictures: Iterable[tuple[str, bytes]]) -> Iterator[Trial]:
  """Decodes pictures as training and as evaluation do.

  Args:
    pictures: name and file's content of each.

  Yields:
    What became of each; what ends or hangs the process is not allowed.
  """
  context = multiprocessing.get_context('spawn')
  process = connection = None
  for name, data in pictures:
    if process is None:
      connection, other = context.Pipe()
      process = context.Process(target=_work, args=(other,), daemon=True)
      process.start()
      other.close()
      connection.recv()  # It has begun.
    try:
      connection.send(data)
      if not connection.poll(_PATIENCE_SECONDS):
        raise EOFError
      yield Trial(name, *connection.recv())
    except (EOFError, OSError):
      status = process.exitcode
      process.kill()
      process.join()
      what = 'it hangs' if status is None else f'it ended with {status}'
      yield Trial(name, _PATIENCE_SECONDS, 0, what, False, '')
      process = None
  if process is not None:
    connection.close()
    process.join()


def _work(connection) -> None:
  import faulthandler

  from coatnet_jax.library_noise import silence_libraries

  faulthandler.enable()
  silence_libraries()
  from coatnet_jax.data import batching
  from coatnet_jax.data.augmentation import (
    AugmentationOptions,
    PreprocessingOptions,
  )
  from coatnet_jax.data.damage import explain_damage
  from configs import base
  from tests.wiring.pictures import Pictures

  config = base.get_config()
  config.preprocessing.image_size = (64, 64)
  preprocessing = PreprocessingOptions(**config.preprocessing)
  augmentation = AugmentationOptions(**config.augmentation)
  whole = np.zeros((70, 80, 3), np.uint8)

  def train(data):
    source = Pictures([data, whole])
    make = batching._TrainingExample(source, preprocessing, augmentation, 1)
    return source, make(0, np.random.default_rng(0)).corrupt

  def evaluate(data):
    source = Pictures([data])
    return source, batching._EvaluationExample(source, preprocessing)(0).corrupt

  with tempfile.TemporaryFile() as captured:
    shown = os.dup(2)
    connection.send('ready')
    # The first picture of a process imports and allocates.
    train(np.zeros((500, 500, 3), np.uint8))
    while True:
      try:
        data = connection.recv()
      except EOFError:
        return
      os.dup2(captured.fileno(), 2)
      seconds, kibibytes, outcome, is_allowed = 0.0, 0, 'a picture', True
      for way in (evaluate, train):
        before = _reset_peak()
        start = time.process_time()
        try:
          source, corrupt = way(data)
        except BaseException as error:
          outcome, is_allowed = f'{type(error).__name__}: {error}', False
        else:
          if corrupt >= 0:
            outcome = 'damaged'
        seconds = max(seconds, time.process_time() - start)
        kibibytes = max(kibibytes, _read_memory('VmHWM') - before)
      if outcome == 'damaged':
        outcome = explain_damage(source, 0)
      os.dup2(shown, 2)
      captured.seek(0)
      noise = captured.read().decode(errors='replace')
      captured.seek(0)
      captured.truncate()
      connection.send((seconds, kibibytes, outcome, is_allowed, noise))


def _reset_peak() -> int:
  """Lets the peak of memory begin anew; returns the KiB taken now."""
  with open('/proc/self/clear_refs', 'w') as file:
    file.write('5')
  return _read_memory('VmRSS')


def _read_memory(name: str) -> int:
  with open('/proc/self/status') as file:
    return next(int(line.split()[1]) for line in file if line.startswith(name))
