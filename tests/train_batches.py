"""The batches of a run, for tests that take its steps themselves."""

import contextlib
import itertools

import numpy as np

from coatnet_jax import run_batches
from coatnet_jax.run import Run


def read_train_batches(run: Run, count: int) -> list[dict[str, np.ndarray]]:
  """Returns the first training batches of a run, as its step takes them.

  Args:
    run: resolved run.
    count: number of batches.

  Returns:
    'image' [B, H, W, 3] uint8 and 'label' [B] int32 of each.
  """
  batches = run_batches.read_train_batches(run, 0)
  with contextlib.closing(batches):
    return [
      {name: batch[name] for name in ('image', 'label')}
      for batch in itertools.islice(batches, count)
    ]
