"""An attack on what reads weights: damaged and hostile files of every format.

    python -m tests.weights.attack --mutations=10000

`mutations.py` damages small real files at random, each by a number that it
follows from; `crafted.py` and `pickles.py` are written to do harm. A file must
be read to finite arrays or refused by a sentence, in 5 s and 1 GiB: of the
reading alone, without Python's and the libraries' start.
"""

import dataclasses
import pathlib
from collections.abc import Iterable

from tests.weights.attack import crafted, mutations
from tests.weights.attack.worker import Worker

MAX_SECONDS = 5
MAX_BYTES = 2**30
# A file that takes longer where it is not to be, or more memory, is read as all
# others are: in a process with limits.
_SECONDS_HERE = 2
# Every so many of Keras' files is read as all others are, in any case.
_SAMPLED = 50


@dataclasses.dataclass
class Tally:
  """What came of an attack.

  Attributes:
    read: files whose arrays are finite.
    refused: files that were refused by a sentence.
    failures: a line for each file of which anything else came.
    seconds: longest time that a file took.
    bytes: most memory that was resident.
    slow: names of files that took more than a second.
  """

  read: int = 0
  refused: int = 0
  failures: list[str] = dataclasses.field(default_factory=list)
  seconds: float = 0.0
  bytes: int = 0
  slow: list[str] = dataclasses.field(default_factory=list)

  @property
  def files(self) -> int:
    """How many files there were."""
    return self.read + self.refused + len(self.failures)

  def add(self, name: str, answer: dict) -> None:
    """Adds what came of a file."""
    self.seconds = max(self.seconds, answer['seconds'])
    self.bytes = max(self.bytes, answer['bytes'])
    if answer['seconds'] > 1:
      self.slow.append(name)
    outcome = answer['outcome']
    if (
      outcome not in ('read', 'refused')
      # Others may be busy on this machine. What waits for ever is killed.
      or answer['processor_seconds'] > MAX_SECONDS
      or answer['bytes'] > MAX_BYTES
    ):
      self.failures.append(
        f'{name}: {outcome} {answer["message"][:300]},'
        f' {answer["seconds"]:.1f} s, {answer["bytes"] / 2**20:.0f} MiB'
      )
    elif outcome == 'read':
      self.read += 1
    else:
      self.refused += 1


def attack_format(
  file_format: str, seeds: Iterable[int], folder: pathlib.Path
) -> Tally:
  """Reads damaged files of a format.

  Args:
    file_format: one of `mutations.FORMATS`.
    seeds: numbers that the damage follows from.
    folder: folder for the files.
  """
  tally = Tally()
  worker = Worker()
  path = folder / 'weights'
  way = 'describe' if file_format == 'description' else 'read'
  try:
    for seed in seeds:
      path.write_bytes(mutations.mutate(file_format, seed))
      if file_format == 'keras' and seed % _SAMPLED:
        # Without a process for each, which takes most of the time.
        answer = worker.ask('keras_here', path, seconds=_SECONDS_HERE)
        is_ended = answer['outcome'] in ('read', 'refused')
        if is_ended and answer['bytes'] <= MAX_BYTES:
          tally.add(f'{file_format} {seed}', answer)
          continue
      answer = worker.ask(way, path, seconds=60)
      tally.add(f'{file_format} {seed}', answer)
  finally:
    worker.close()
  return tally


def attack_crafted(folder: pathlib.Path) -> Tally:
  """Reads the crafted files, each in a process of its own that has begun."""
  tally = Tally()
  worker = Worker()
  try:
    for index, (name, write) in enumerate(crafted.create_writers().items()):
      path = folder / f'{index}' / 'weights'
      path.parent.mkdir()
      write(path)
      way = 'describe' if name.startswith('description/') else 'read'
      tally.add(name, worker.ask(way, path, seconds=60))
      if path.is_file():
        path.unlink()
  finally:
    worker.close()
  return tally
