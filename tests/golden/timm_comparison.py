"""How what our models give is compared with what timm's give."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from coatnet_jax.tree_names import flatten
from coatnet_jax.weights import names


def assert_close(
  ours: np.ndarray, theirs: np.ndarray, message: str, *, tolerance: float
) -> None:
  """Asserts that two arrays differ by at most a part of their range."""
  assert ours.shape == theirs.shape, message
  difference = np.abs(ours - theirs).max() / np.ptp(theirs)
  assert difference <= tolerance, f'{message}: {difference:.1e} of the range'


def assert_running_statistics_close(
  updates: Any,
  variables: Any,
  expected: Mapping[str, np.ndarray],
  naming: names.Naming,
  *,
  tolerance: float,
) -> None:
  """Asserts that BatchNorm keeps the same of a batch, for every norm.

  Args:
    updates: {'batch_stats'} after one step with momentum 0.9, torch's 0.1.
    variables: {'params', 'batch_stats'} before it.
    expected: 'stats/KEY' and 'counts/NORM' of `timm_models.compute_outputs`.
    naming: timm's names for the variables.
    tolerance: as a part of the range of each array.
  """
  old = flatten(variables)
  compared = set()
  for path, ours in flatten(updates).items():
    key = naming(path).name
    if path.endswith('/var'):
      # torch keeps the variance as estimated from a sample, n / (n - 1) times
      # that of the batch, which Flax keeps: 0.1 of either is new.
      count = expected['counts/' + key.removesuffix('.running_var')]
      kept = 0.9 * np.asarray(old[path])
      ours = kept + (ours - kept) * count / (count - 1)
    theirs = expected[f'stats/{key}']
    assert_close(np.asarray(ours), theirs, key, tolerance=tolerance)
    compared.add(f'stats/{key}')
  assert compared == {key for key in expected if key.startswith('stats/')}
