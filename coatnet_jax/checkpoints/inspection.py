"""What a workdir's checkpoints are worth, and putting right what can be."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from coatnet_jax.checkpoints import checksums, folder, orbax_metadata, quality
from coatnet_jax.checkpoints.metadata import describe_failure

_ORBAX, _STATE = orbax_metadata.FILE, 'state'
# What a run can do without.
_HELPERS = {'progress', 'metrics', 'metadata', _ORBAX}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspected:
  """A checkpoint that was looked at.

  Attributes:
    path: directory of the checkpoint.
    step: number in its name.
    num_bytes: size of its files together, in bytes.
    metrics: measures of its evaluation; empty where there are none to read.
    damage: what is wrong by the name of a file: `checksums.find_damage`.
    is_verified: whether it has checksums; what has none may be damaged.
    is_aside: whether it lies in `damaged_checkpoints`.
  """

  path: epath.Path
  step: int
  num_bytes: int
  metrics: dict[str, float]
  damage: dict[str, str]
  is_verified: bool
  is_aside: bool


def inspect_checkpoints(workdir: epath.Path) -> list[Inspected]:
  """Verifies every checkpoint of a workdir, those put aside too.

  Args:
    workdir: directory of the run; need not exist.

  Returns:
    The checkpoints by step, those put aside last.
  """
  directory = workdir / 'checkpoints'
  paths = [directory / str(step) for step in folder.find_steps(directory)]
  return [
    *(_inspect(path, is_aside=False) for path in paths),
    *(_inspect(path, is_aside=True) for path in _find_aside(workdir)),
  ]


def repair_checkpoints(workdir: epath.Path) -> Iterator[str]:
  """Puts right what can be, and moves aside what cannot.

  A checkpoint that was put aside and is whole comes back: a disk may have been
  at fault. So does an evaluation. No run may be using the workdir.

  Args:
    workdir: directory of the run.

  Yields:
    A sentence about each thing that was done.
  """
  directory = workdir / 'checkpoints'
  for found in inspect_checkpoints(workdir):
    place = directory / str(found.step)
    if found.is_aside and found.is_verified and not found.damage:
      if not place.exists():
        found.path.rename(place)
        yield f'{found.path} is whole; it is {place} again.'
    elif not found.is_aside and _blocks(found.damage):
      target = folder.find_place_aside(directory, found.path.name)
      target.parent.mkdir(exist_ok=True)
      found.path.rename(target)
      yield (
        f'{found.path} is damaged ({checksums.describe_damage(found.damage)});'
        f' moved to {target}.'
      )
  yield from _bring_metrics_back(workdir)
  messages: list[str] = []
  folder.mend_helpers(directory, messages.append)
  yield from messages


def _bring_metrics_back(workdir: epath.Path) -> Iterator[str]:
  aside = workdir / folder.DAMAGED_DIRECTORY
  for step in folder.find_steps(workdir / 'checkpoints'):
    source = aside / f'{step}_metrics'
    target = workdir / 'checkpoints' / str(step) / 'metrics'
    if not source.is_dir() or target.exists():
      continue
    source.rename(target)
    try:
      quality.read_metrics(target.parent)
    except ValueError:
      target.rename(source)
    else:
      yield f'{source} is whole; it is {target} again.'


def _blocks(damage: dict[str, str]) -> bool:
  """Returns whether no run is resumed from a checkpoint with this damage."""
  items = {name.split('/')[0] for name in damage}
  return not items <= _HELPERS


def _find_other_damage(path: epath.Path, step: int) -> dict[str, str]:
  """Returns what is wrong with a checkpoint whose files are whole."""
  damage = {}
  if not orbax_metadata.is_whole(path, checksums.read_orbax_copy(path)):
    damage[_ORBAX] = 'is damaged'
  try:
    saved = _read_step(path)
  except Exception as error:  # Orbax raises many kinds for missing files.
    damage[_STATE] = f'cannot be read: {describe_failure(error)}'
  else:
    if saved != step:
      damage[_STATE] = f'is of step {saved:,}, and not of {step:,}'
  return damage


def _read_step(path: epath.Path) -> int:
  """Returns the number of steps that a checkpoint's state has taken."""
  item = {'step': jax.ShapeDtypeStruct((), np.int32)}
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    restored = checkpointer.restore(
      path / 'state',
      args=ocp.args.PyTreeRestore(
        item=item,
        restore_args=jax.tree.map(
          lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item
        ),
        partial_restore=True,
      ),
    )
  return int(restored['step'])


def _find_aside(workdir: epath.Path) -> list[epath.Path]:
  """Returns the checkpoints that were put aside, by name."""
  aside = workdir / folder.DAMAGED_DIRECTORY
  if not aside.is_dir():
    return []
  names = (path for path in aside.iterdir() if (path / 'state').is_dir())
  return sorted(path for path in names if path.name.split('_')[0].isdigit())


def _inspect(path: epath.Path, *, is_aside: bool) -> Inspected:
  try:
    metrics = quality.read_metrics(path)
  except ValueError:  # It is in the damage, too.
    metrics = {}
  step = int(path.name.split('_')[0])
  damage = checksums.find_damage(path)
  return Inspected(
    path=path,
    step=step,
    num_bytes=sum(
      _measure(parent / name)
      for parent, _, names in path.walk()
      for name in names
    ),
    metrics=metrics,
    damage=damage or _find_other_damage(path, step),
    is_verified=checksums.has_checksums(path),
    is_aside=is_aside,
  )


def _measure(path: epath.Path) -> int:
  """Returns the size of a file in bytes; 0 where that is not known."""
  try:
    return path.stat().length
  except Exception:  # What reads buckets raises kinds of its own.
    return 0
