"""Writes the golden file that whole runs of the project are compared with.

    python -m tests.golden.make_train_step_golden

Run from the root of the repository, with torch installed
(requirements-parity.txt). `tests/reference` says what it holds and when it is
made anew. Another kind of CPU gives other last digits.

train_step.npz: the run's numbers as run/NAME, float32 or integers; and digests
of the run with one thing changed, `digests` [changes, names], with
`changes` and `names`. A number that such a run lacks is NaN.
"""

import pathlib
import sys
from collections.abc import Mapping

import numpy as np

from tests.reference import case
from tests.reference.comparison import compute_digest

FOLDER = pathlib.Path(__file__).parent


def create_golden() -> dict[str, np.ndarray]:
  """Returns what train_step.npz holds."""
  # Here: what reads the file needs no torch.
  import torch

  from tests.reference import training

  torch.set_num_threads(1)
  numbers = training.run(case.change(''))
  digest = compute_digest(numbers)
  changes = (*case.CHANGES, *case.MISTAKES)
  rows = []
  for name in changes:
    print(name, flush=True)
    changed = compute_digest(training.run(case.change(name)))
    if unknown := changed.keys() - digest.keys():
      raise ValueError(f'Only the run with {name} has {sorted(unknown)}.')
    rows.append([changed.get(key, np.nan) for key in digest])
  golden = {f'run/{name}': _shorten(array) for name, array in numbers.items()}
  return golden | {
    'changes': np.array(changes),
    'names': np.array(list(digest)),
    'digests': np.array(rows),
  }


def _shorten(array: np.ndarray) -> np.ndarray:
  if array.dtype == np.float64:
    return array.astype(np.float32)
  return array.astype(np.uint8)


def read_golden(
  golden: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, float]]]:
  """Returns the run's numbers, and the digest of each change by its name.

  Args:
    golden: arrays by name, of `create_golden` or of the file.
  """
  numbers = {
    name.removeprefix('run/'): golden[name]
    for name in golden
    if name.startswith('run/')
  }
  names = golden['names'].tolist()
  digests = {
    change: {name: value for name, value in zip(names, row) if value == value}
    for change, row in zip(golden['changes'].tolist(), golden['digests'])
  }
  return numbers, digests


def main(folder: pathlib.Path = FOLDER) -> None:
  """Writes the file."""
  np.savez_compressed(folder / 'train_step.npz', **create_golden())


if __name__ == '__main__':
  main(*map(pathlib.Path, sys.argv[1:]))
