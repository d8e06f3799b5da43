"""What a run is disturbed by; each function disturbs one round's run.

A fault starts the run, does its harm at a random moment, and says which promise
of docs/reliability.md it breaks, if one: `Round.expect`. That the run then
finishes, with the state of an undisturbed one, is looked at for all of them.
"""

import errno
import os
import pathlib
import shutil
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from benchmarks.chaos import results, stages
from benchmarks.chaos.rounds import (
  FAILED,
  FINISHED,
  STOPPED,
  Round,
  has_sentence,
)
from benchmarks.chaos.started_run import StartedRun

# docs/reliability.md.
STOP_SECONDS = 25.0
ERROR_SECONDS = 15.0
_CLOCK = pathlib.Path(__file__).parent / 'clock'
_WITH_WORKERS = '--config.data.num_workers=2'
_DAY = 24 * 3600.0
_writing_pictures = threading.Lock()


def kill(played: Round) -> None:
  """Kills the run with SIGKILL, up to three times, once with workers."""
  played.changes += [_WITH_WORKERS] * played.draws.randint(0, 1)
  for index in range(played.draws.randint(1, 3)):
    run = played.start()
    stage = played.draws.choice(list(stages.STAGES)) if index else None
    played.wait_for_moment(run, stage)
    run.send(signal.SIGKILL)
    if played.end(run, -signal.SIGKILL, FINISHED):
      break


def _stop(played: Round, number: int) -> None:
  """Asks the run to stop, up to twice.

  Args:
    played: round whose run is asked to stop.
    number: number of the signal.
  """
  played.changes += [_WITH_WORKERS] * played.draws.randint(0, 1)
  for index in range(played.draws.randint(1, 2)):
    run = played.start()
    stage = played.draws.choice(list(stages.STAGES)) if index else None
    if not played.wait_for_moment(run, stage):
      played.end(run, FINISHED)
      break
    to_group = played.draws.random() < 0.5
    last = stages.find_last_step(run.read_output())
    played.events.append('to the group' if to_group else 'to the process')
    sent = time.monotonic()
    run.send(number, to_group)
    if played.end(run, STOPPED, FINISHED, since=sent):
      break
    saved = max(played.find_steps(), default=0)
    played.expect(saved >= last, f'step {last} was finished and {saved} saved')
  played.expect(
    played.seconds_to_end <= STOP_SECONDS,
    f'took {played.seconds_to_end:.0f} s to stop',
  )


def term(played: Round) -> None:
  """Sends SIGTERM, to the process or its group."""
  _stop(played, signal.SIGTERM)


def interrupt(played: Round) -> None:
  """Sends SIGINT, to the process or its group."""
  _stop(played, signal.SIGINT)


def _disturb_worker(played: Round, number: int) -> None:
  """Sends a signal to a worker; the run is to finish without a restart."""
  played.changes.append(_WITH_WORKERS)
  run = played.start()
  played.wait_for_moment(run)
  while not (workers := run.find_workers()) and not run.has_ended():
    time.sleep(0.01)
  if workers:
    time.sleep(played.draws.uniform(0, 0.5))
    worker = played.draws.choice(workers)
    try:
      os.kill(worker, number)
    except ProcessLookupError:
      played.events.append('the worker had ended')
    else:
      played.events.append(f'signal to worker {workers.index(worker)}')
  played.end(run, FINISHED)


def stop_worker(played: Round) -> None:
  """Stops a worker process with SIGSTOP, for ever."""
  _disturb_worker(played, signal.SIGSTOP)


def kill_worker(played: Round) -> None:
  """Kills a worker process with SIGKILL."""
  _disturb_worker(played, signal.SIGKILL)


def _damage_checkpoint(
  played: Round, damage: Callable[[pathlib.Path], None]
) -> None:
  """Kills the run and damages a file of its newest checkpoint."""
  run = played.start()
  if not played.wait_for_checkpoints(run, 2):
    run.kill_all()
    return
  run.kill_all()
  newest = played.workdir / 'checkpoints' / str(played.find_steps()[-1])
  files = sorted(path for path in newest.rglob('*') if path.is_file())
  path = played.draws.choice(files)
  before = path.read_bytes()
  damage(path)
  played.events.append(f'{path.relative_to(newest)} of {newest.name}')
  is_changed = not path.exists() or path.read_bytes() != before
  run = played.start()
  played.end(run, FINISHED)
  output = run.read_output().lower()
  # Nothing depends on what it says.
  is_changed &= path.name != 'commit_success.txt'
  played.expect(
    not is_changed or 'damage' in output or 'mended' in output,
    'said nothing of the damage',
  )


def bit_flip(played: Round) -> None:
  """Flips one bit of one file of the newest checkpoint."""

  def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
      content[played.draws.randrange(len(content))] ^= (
        1 << played.draws.randrange(8)
      )
      path.write_bytes(content)

  _damage_checkpoint(played, flip)


def truncate(played: Round) -> None:
  """Cuts one file of the newest checkpoint, perhaps to nothing."""

  def cut(path: pathlib.Path) -> None:
    size = path.stat().st_size
    os.truncate(path, played.draws.randrange(size) if size else 0)

  _damage_checkpoint(played, cut)


def delete(played: Round) -> None:
  """Deletes one file of the newest checkpoint."""
  _damage_checkpoint(played, pathlib.Path.unlink)


def _fail_writing(played: Round, error: int) -> None:
  """Lets everything that writes into the workdir fail, for ever."""
  run = played.start(calls_can_fail=True)
  if played.wait_for_moment(run):
    run.failing.fail(write=error)
  _end_with_errors(played, run)


def _end_with_errors(played: Round, run: StartedRun) -> None:
  """Waits for the end of a run whose calls fail; it ends with a sentence."""
  status = FINISHED if played.end(run, FINISHED, FAILED) else FAILED
  ended = time.monotonic()
  failures = [
    when for when, path in run.failing.failures if '/checkpoints' in path
  ]
  played.events.append(f'{len(run.failing.failures)} calls failed')
  if status == FAILED:
    played.expect(has_sentence(run.read_output()), 'ended without a sentence')
  if failures and status == FAILED:  # What is read again ends nothing.
    seconds = ended - failures[0]
    played.seconds_to_end = max(played.seconds_to_end, seconds)
    played.expect(
      seconds <= ERROR_SECONDS,
      f'ended {seconds:.0f} s after the first error of a checkpoint',
    )


def disk_full(played: Round) -> None:
  """Lets the disk be full from a moment on."""
  _fail_writing(played, errno.ENOSPC)


def read_only(played: Round) -> None:
  """Makes the file system read-only, as a kernel does after an error."""
  _fail_writing(played, errno.EROFS)


def io_error(played: Round) -> None:
  """Lets a read or a write fail once, or all of them."""
  times = played.draws.choice([1, None])
  kind = played.draws.choice(['read', 'write'])
  played.events.append(f'{kind}, {"once" if times else "for ever"}')
  if kind == 'read':
    # What is read is a checkpoint.
    run = played.start()
    played.wait_for_checkpoints(run, 2)
    run.kill_all()
    before = played.find_steps()
    run = played.start(calls_can_fail=True)
    run.failing.fail(times, read=errno.EIO)
  else:
    run = played.start(calls_can_fail=True)
    if played.wait_for_moment(run):
      run.failing.fail(times, write=errno.EIO)
  _end_with_errors(played, run)
  if kind == 'read':
    aside = played.workdir / 'damaged_checkpoints'
    played.expect(
      not aside.exists() or not set(before) - set(played.find_steps()),
      'put good checkpoints aside',
    )


def clock(played: Round) -> None:
  """Sets the clock forth or back in the middle of the run."""
  jump = played.draws.choice([-365, -1, 1, 365]) * _DAY
  seconds = played.draws.uniform(0, 15)
  played.events.append(f'{jump / _DAY:.0f} days after {seconds:.0f} s')
  run = played.start(
    environment={
      'CHAOS_CLOCK': f'{seconds}:{jump}',
      'PYTHONPATH': str(_CLOCK),
    }
  )
  if played.draws.random() < 0.5:
    played.end(run, FINISHED)
    return
  # The next start finds files of another time.
  played.wait_for_checkpoints(run, 1)
  run.send(signal.SIGKILL)
  played.end(run, -signal.SIGKILL, FINISHED)


def second_run(played: Round) -> None:
  """Starts the same run once more while it trains."""
  first = played.start()
  if played.wait_for_moment(first):
    second = played.start()
    status = second.wait()
    output = second.read_output()
    played.events.append(f'the second ended with {status}')
    if 'in use' in output:
      played.expect(status == FAILED, f'the second run ended with {status}')
    else:
      # Which of them was first is open; or the first has ended.
      played.expect(status == FINISHED, 'the second run was not refused')
  status = first.wait()
  played.expect(
    status == FINISHED or 'in use' in first.read_output(),
    f'the first run ended with {status}',
  )


def nan(played: Round) -> None:
  """Trains at a rate at which nothing stays finite."""
  played.can_finish = False
  played.changes.append('--config.schedule.peak_learning_rate=1e30')
  run = played.start()
  played.end(run, FAILED)
  output = run.read_output()
  played.expect(has_sentence(output), 'ended without a sentence')
  for step in played.find_steps():
    names = results.find_nonfinite(played.workdir, step)
    played.expect(not names, f'saved {len(names)} arrays that are not finite')


def data_changed(played: Round) -> None:
  """Renames, removes or replaces pictures between two starts."""
  pictures = played.plan.directory / 'pictures'
  with _writing_pictures:
    if not pictures.exists():
      _write_pictures(pictures)
  mine = shutil.copytree(pictures, played.directory / 'pictures')
  played.changes += _describe_folder(pictures)
  # Only the place differs, which does not matter.
  elsewhere = [*played.changes[:-1], f'--config.data.data_dir={mine}']
  originally, played.changes = played.changes, elsewhere
  run = played.start()
  played.wait_for_checkpoints(run, 1)
  run.kill_all()
  if (played.workdir / 'summary.json').exists():
    played.events.append('finished before')
    played.changes = originally
    return
  victim = played.draws.choice(sorted((mine / 'train').rglob('*.png')))
  change = played.draws.choice(['class', 'removed', 'replaced'])
  played.events.append(f'{change}: {victim.parent.name}/{victim.name}')
  if change == 'class':
    victim.parent.rename(victim.parent.with_name('a_new_name'))
  elif change == 'removed':
    victim.unlink()
  else:
    victim.write_bytes(victim.read_bytes() + b'\0')
  run = played.start()
  played.end(run, FAILED)
  played.expect(
    'config.data.changed' in run.read_output(), 'did not say what changed'
  )
  played.changes = originally  # The data are back.


def _write_pictures(folder: pathlib.Path) -> None:
  """Writes 180 pictures of noise in three classes."""
  draws = np.random.default_rng(0)
  for split, count in (('train', 40), ('eval', 20)):
    for name in ('one', 'two', 'three'):
      directory = folder / split / name
      directory.mkdir(parents=True)
      for index in range(count):
        picture = draws.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(picture).save(directory / f'{index:02}.png')


def _describe_folder(folder: pathlib.Path) -> list[str]:
  return [
    '--config.data.source=folder',
    '--config.data.name=',
    '--config.data.train_split=train',
    '--config.data.eval_split=eval',
    f'--config.data.data_dir={folder}',
  ]


# By name: what --faults takes.
FAULTS: dict[str, Callable[[Round], None]] = {
  'kill': kill,
  'term': term,
  'int': interrupt,
  'stop_worker': stop_worker,
  'kill_worker': kill_worker,
  'bit_flip': bit_flip,
  'truncate': truncate,
  'delete': delete,
  'disk_full': disk_full,
  'read_only': read_only,
  'io_error': io_error,
  'clock': clock,
  'second_run': second_run,
  'nan': nan,
  'data_changed': data_changed,
}
# Those whose calls of the system are made to fail.
FAILING_CALLS = ('disk_full', 'read_only', 'io_error')
