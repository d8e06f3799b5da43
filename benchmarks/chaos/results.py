"""What a finished run has come to, to compare it with another bit for bit."""

import hashlib
import json
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from coatnet_jax.checkpoints import saving

# Where arrays lie on devices does not matter here.
warnings.filterwarnings('ignore', 'Sharding info not provided')


def read_arrays(
  workdir: pathlib.Path, step: int
) -> Iterator[tuple[str, np.ndarray]]:
  """Reads every array of a checkpoint, as it was saved.

  Args:
    workdir: workdir of the run.
    step: step of the checkpoint.

  Yields:
    Name and array; of the random key its data.
  """
  path = saving.checkpoint_directory(workdir) / str(step) / 'state'
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    state = checkpointer.restore(path)
  state['key'] = jax.random.key_data(state['key'])
  for name, leaf in jax.tree_util.tree_leaves_with_path(state):
    yield jax.tree_util.keystr(name), np.asarray(leaf)


def read_result(workdir: pathlib.Path) -> dict[str, Any]:
  """Returns a digest of each array at a run's end, and its evaluations.

  Args:
    workdir: workdir of a finished run.
  """
  summary = json.loads((workdir / 'summary.json').read_text())
  result = {name: summary[name] for name in ('steps', 'final', 'best')}
  for name, array in read_arrays(workdir, summary['steps']):
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    result[name] = (str(array.dtype), array.shape, digest)
  return result


def describe_difference(expected: dict, actual: dict) -> str:
  """Returns in which parts two results differ; '' if in none."""
  differ = [
    name
    for name in {**expected, **actual}
    if expected.get(name) != actual.get(name)
  ]
  if not differ:
    return ''
  return f'{len(differ)} of {len(expected)} parts differ, such as {differ[0]}'


def find_nonfinite(workdir: pathlib.Path, step: int) -> list[str]:
  """Returns the names of the arrays of a checkpoint with a NaN or infinity."""
  return [
    name
    for name, array in read_arrays(workdir, step)
    if not np.isfinite(array.astype(np.float64)).all()
  ]
