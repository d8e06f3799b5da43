"""A run's files, damaged at random or made to do harm, and who reads them.

    python -m tests.checkpoints.hostile --mutations=2000 --bits=1000 [--seed=0]

tries every crafted file in every place, so many random changes, so many single
bits spread over every file of a checkpoint, and every file cut, emptied and
deleted; it prints what was neither right nor a sentence.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from unittest import mock

import jax
import numpy as np

from coatnet_jax.checkpoints import checksums, reading, resuming, saving
from coatnet_jax.checkpoints.trained_model import open_saved_model
from coatnet_jax.errors import UserError
from coatnet_jax.training import lease
from coatnet_jax.training import workdir as workdir_lib
from configs import quickstart
from tests.checkpoints.saved_run import (
  EXAMPLES_PER_STEP,
  OPTIONS,
  create_state,
  save_run,
)
from tools import checkpoints, command_line

# How long a reader may take.
MAX_SECONDS = 5
# Files that are JSON; of the workdir, and of the newest checkpoint.
WORKDIR_FILES = ('config.json', 'summary.json', 'lease.json')
STEP_FILES = (
  'checksums.json',
  '_CHECKPOINT_METADATA',
  'metadata/metadata',
  'progress/metadata',
  'metrics/metrics',
  'state/_METADATA',
  'state/_sharding',
  'state/manifest.ocdbt',
)


def _replace(content: bytes) -> Callable[[pathlib.Path], None]:
  return lambda path: path.write_bytes(content)


def _be_a_pipe(path):
  path.unlink()
  os.mkfifo(path)


def _be_a_link(target):
  def craft(path):
    path.unlink()
    path.symlink_to(target)

  return craft


def _be_a_directory(path):
  path.unlink()
  path.mkdir()


def _be_huge(path):
  os.truncate(path, 1 << 30)


def _change_sums(change):
  """Changes checksums.json and its own sum with it."""

  def craft(path):
    try:
      sums = json.loads(path.read_text())
      change(sums['files'])
    except (ValueError, KeyError, TypeError):
      path.write_bytes(b'{}')
      return
    del sums['sha256']
    sums['sha256'] = checksums._compute_own_sum(sums)
    path.write_text(json.dumps(sums))

  return craft


def _count_too_many(files):
  files['state/manifest.ocdbt']['bytes'] = 10**18


CRAFTED = {
  'empty': _replace(b''),
  'null': _replace(b'null'),
  'list': _replace(b'[]'),
  'number': _replace(b'5'),
  'mapping': _replace(b'{}'),
  'deep list': _replace(b'[' * 100_000),
  'deep mapping': _replace(b'{"a":' * 500 + b'1' + b'}' * 500),
  'very deep mapping': _replace(b'{"a":' * 50_000 + b'1' + b'}' * 50_000),
  'no UTF-8': _replace(b'{"a": "\xff\xfe"}'),
  'surrogate': _replace(b'{"a": "\\ud800"}'),
  'NaN': _replace(b'{"steps": NaN, "top1": NaN, "examples_seen": NaN}'),
  'large number': _replace(b'{"steps": %s, "top1": 1e999}' % (b'9' * 4000)),
  'too many digits': _replace(b'{"steps": %s}' % (b'9' * 10_000)),
  'huge integers': _replace(
    b'{"top1": 1%s, "top5": 1, "loss": 2, "examples_seen": 1%s, "seconds": 1,'
    b' "seconds_in_steps": 1}' % (b'0' * 400, b'0' * 400)
  ),
  'duplicate keys': _replace(
    b'{"top1": 0.5, "top1": "x", "steps": 1, "steps": []}'
  ),
  'wrong types': _replace(
    b'{"owner": {"identity": 1, "user": [], "host": {}, "process": "x",'
    b' "machine": 2, "process_started": null, "since": true}, "steps": "4",'
    b' "model": [], "preprocessing": 5, "class_names": {"a": 1}, "config": "",'
    b' "data": [1], "files": [], "examples_seen": "32", "seconds": [],'
    b' "seconds_in_steps": {}, "top1": "0.5", "item_handlers": 5}'
  ),
  'an owner of control characters': _replace(
    json.dumps(
      {
        'owner': {
          'identity': 'x',
          'user': '\x1b[31m',
          'host': '\x07\n',
          'process': 1,
          'machine': '',
          'process_started': '',
          'since': '\0',
        }
      }
    ).encode()
  ),
  'negative process': _replace(
    b'{"owner": {"identity": "x", "user": "u", "host": "h", "process": -1,'
    b' "machine": "m", "process_started": "1", "since": "s"}}'
  ),
  'no metrics that decide': _replace(b'{"count": 5}'),
  'negative progress': _replace(
    b'{"examples_seen": -32, "seconds": -1, "seconds_in_steps": -1}'
  ),
  'huge': _be_huge,
  'pipe': _be_a_pipe,
  'link to zeros': _be_a_link('/dev/zero'),
  'link to nothing': _be_a_link('nowhere'),
  'link to itself': _be_a_link('metadata'),
  'link to a directory': _be_a_link('/'),
  'directory': _be_a_directory,
  'names outside': _change_sums(
    lambda files: files.update({'../../config.json': files['state/_METADATA']})
  ),
  'absolute names': _change_sums(
    lambda files: files.update({'/dev/zero': files['state/_METADATA']})
  ),
  'enormous counts': _change_sums(_count_too_many),
  'negative counts': _change_sums(
    lambda files: files['state/_METADATA'].update(bytes=-1)
  ),
  'sums of other types': _change_sums(
    lambda files: files['state/_METADATA'].update(blake3=[5])
  ),
}


class TooSlowError(BaseException):
  """A reader took longer than it may."""


@contextlib.contextmanager
def _limit_time():
  def end(*_):
    raise TooSlowError

  signal.signal(signal.SIGALRM, end)
  signal.setitimer(signal.ITIMER_REAL, 2 * MAX_SECONDS)
  start = time.process_time()
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
  if time.process_time() - start > MAX_SECONDS:
    raise TooSlowError


def save(directory: pathlib.Path, *, is_older: bool = False) -> pathlib.Path:
  """Writes a workdir of steps 2 and 4, perhaps of a time without checksums."""
  workdir = save_run(directory)
  workdir_lib.claim_workdir(str(workdir), quickstart.get_config())
  (workdir / 'summary.json').write_text('{"steps": 4}')
  with lease.hold(workdir, lambda line: None):
    shutil.copy(workdir / 'lease.json', workdir / 'kept.json')
  (workdir / 'kept.json').rename(workdir / 'lease.json')
  if is_older:
    for path in workdir.rglob('checksums.json'):
      path.unlink()
    for path in workdir.rglob('_CHECKPOINT_METADATA'):
      path.write_text(path.read_text().replace('checksums', 'nothing'))
  return workdir


def resume(workdir: pathlib.Path) -> str:
  """Does what a restart does; returns what was said.

  Raises:
    AssertionError: another state than that of its step, or damage unsaid.
  """
  lines = []
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
    create_state(0),
  )
  with (
    mock.patch.object(lease, 'LEASE_SECONDS', 0.2),
    mock.patch.object(lease, '_POLL_SECONDS', 0.1),
    lease.hold(workdir, lines.append),
  ):
    workdir_lib.claim_workdir(str(workdir), quickstart.get_config(), 9)
    with saving.open_checkpoints(
      str(workdir), OPTIONS, lines.append
    ) as manager:
      restored = resuming.restore_newest(
        manager, abstract, lines.append, examples_per_step=EXAMPLES_PER_STEP
      )
  said = '\n'.join(lines)
  state, progress = restored
  step = int(state.step)
  np.testing.assert_array_equal(state.w, create_state(step).w)
  assert progress.examples_seen == EXAMPLES_PER_STEP * step
  assert step == 4 or 'step 4 is damaged' in said, said
  return said


def verify(workdir: pathlib.Path) -> str:
  """Does what tools.checkpoints does, with and without --repair."""
  lines = []
  with (
    mock.patch.object(command_line, 'show', lines.append),
    mock.patch.object(command_line, 'say', lines.append),
    mock.patch.object(lease, 'LEASE_SECONDS', 0.2),
    mock.patch.object(lease, '_POLL_SECONDS', 0.1),
  ):
    checkpoints.main([f'--workdir={workdir}'])
    checkpoints.main([f'--workdir={workdir}', '--repair', '--json'])
  return '\n'.join(map(str, lines))


def load(workdir: pathlib.Path) -> str:
  """Does what tools.predict and tools.evaluate begin with."""
  open_saved_model(workdir)
  return ''


READERS = {'resume': resume, 'verify': verify, 'load': load}


def try_readers(
  saved: pathlib.Path,
  name: str,
  change: Callable[[pathlib.Path], None],
  readers: Iterator[str] = tuple(READERS),
) -> Iterator[tuple[str, str]]:
  """Yields each reader with what it did wrong, or ''.

  Args:
    saved: workdir that `save` wrote; stays as it is.
    name: path of the file that is changed, in the workdir.
    change: function that changes it.
    readers: names of the readers that are tried.
  """
  for reader in readers:
    with tempfile.TemporaryDirectory() as directory:
      workdir = pathlib.Path(
        shutil.copytree(saved, os.path.join(directory, 'run'), symlinks=True)
      )
      change(workdir / name)
      before = sorted(os.listdir('/'))
      try:
        with _limit_time():
          said = READERS[reader](workdir)
      except UserError as error:
        said = str(error)
      except BaseException as error:
        yield reader, f'{type(error).__name__}: {error}'[:300]
        continue
      assert sorted(os.listdir('/')) == before
      wrong = [c for c in said if ord(c) < 32 and c != '\n']
      yield reader, 'control characters' if wrong else ''


def mutate(choose: random.Random) -> Callable[[pathlib.Path], None]:
  """Returns a random change of a file's bytes."""

  def change(path):
    content = bytearray(path.read_bytes())
    for _ in range(choose.choice((1, 1, 2, 5))):
      start = choose.randrange(len(content) + 1)
      end = min(len(content), start + choose.choice((0, 1, 1, 4, 30)))
      piece = choose.choice(
        (b'', b'"', b'{', b'}', b'[', b'-', b'9' * 50, b'null', b'1e999')
        + (b'\0', bytes([choose.randrange(256)]), content[start:end] * 3)
      )
      content[start:end] = piece
    path.write_bytes(content)

  return change


def flip_bit(choose: random.Random) -> Callable[[pathlib.Path], None]:
  """Returns a function that flips one bit of a file."""

  def change(path):
    content = bytearray(path.read_bytes())
    if content:
      bit = choose.randrange(8 * len(content))
      content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)

  return change


def _cut(path):
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])


WAYS = {
  'cut': _cut,
  'emptied': _replace(b''),
  'deleted': lambda path: path.unlink(),
}


def list_step_files(workdir: pathlib.Path) -> list[str]:
  """Returns every file of the newest checkpoint, by its path in the workdir."""
  return sorted(
    path.relative_to(workdir).as_posix()
    for path in (workdir / 'checkpoints' / '4').rglob('*')
    if path.is_file()
  )


def list_crafted() -> list[tuple[str, str]]:
  """Returns every place, with every name of `CRAFTED` that has a meaning."""
  places = [*WORKDIR_FILES, *(f'checkpoints/4/{name}' for name in STEP_FILES)]
  return [
    (place, crafted)
    for place in places
    for crafted in CRAFTED
    if place.endswith('checksums.json')
    or ('names' not in crafted and 'counts' not in crafted)
  ]


def _main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--mutations', type=int, default=2000)
  parser.add_argument('--bits', type=int, default=1000)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument(
    '--random_only', action='store_true', help='no crafted files'
  )
  options = parser.parse_args()
  counts = collections.Counter()

  def count(kind, saved, name, change, readers=tuple(READERS)):
    for reader, wrong in try_readers(saved, name, change, readers):
      counts[kind, 'wrong' if wrong else 'right'] += 1
      if wrong:
        print(f'{kind}, {name}, {reader}: {wrong}', flush=True)

  with (
    tempfile.TemporaryDirectory() as directory,
    mock.patch.object(reading, 'RETRY_SECONDS', (0.0,) * 3),
  ):
    runs = [
      save(pathlib.Path(directory) / str(older), is_older=older)
      for older in (False, True)
    ]
    for saved in [] if options.random_only else runs:
      for place, crafted in list_crafted():
        if (saved / place).exists():
          count(f'crafted {crafted}', saved, place, CRAFTED[crafted])
    files = list_step_files(runs[0])
    for way, change in () if options.random_only else WAYS.items():
      for name in files:
        count(way, runs[0], name, change)
    for number in range(options.bits):
      choose = random.Random(f'{options.seed} bit {number}')
      name = files[number % len(files)]
      count('bits', runs[0], name, flip_bit(choose), ('resume',))
    for number in range(options.mutations):
      choose = random.Random(f'{options.seed} mutation {number}')
      saved = choose.choice(runs)
      place, _ = choose.choice(list_crafted())
      if (saved / place).exists():
        reader = choose.choice(tuple(READERS))
        count('mutations', saved, place, mutate(choose), (reader,))
  for (kind, outcome), number in sorted(counts.items()):
    print(f'{kind:40} {outcome:6} {number:6}')


if __name__ == '__main__':
  _main()
