"""Whether the numbers of a state are finite: neither NaN nor infinite."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from coatnet_jax.training.layer_decay import find_place
from coatnet_jax.tree_names import flatten


def find_not_finite(tree: Any) -> list[str]:
  """Returns the names of arrays with a number that is not finite.

  To be called by all processes. Each looks at the shards that it would save,
  on the host, where saving copies them anyway: a program that does it on the
  device would take longer to compile than a run's looks take together.

  >>> find_not_finite({'bias': np.ones(3), 'scale': np.array([np.inf, 1])})
  ['scale']

  Args:
    tree: tree of arrays, a `TrainState` or variables.

  Returns:
    Names such as 'params/s1_block_0/expand/kernel', from the image to the head.
  """
  leaves = flatten(tree)
  finite = np.array([_is_finite(leaf) for leaf in leaves.values()], bool)
  if jax.process_count() > 1:
    finite = multihost_utils.process_allgather(finite).all(axis=0)
  return sort_by_layer([n for n, is_fine in zip(leaves, finite) if not is_fine])


def _is_finite(array: jax.Array | np.ndarray) -> bool:
  if not jnp.issubdtype(array.dtype, jnp.inexact):
    return True
  parts = [array]
  if isinstance(array, jax.Array):
    shards = array.addressable_shards
    parts = [shard.data for shard in shards if shard.replica_id == 0]
  return all(bool(np.isfinite(np.asarray(part)).all()) for part in parts)


def sort_by_layer(names: Sequence[str]) -> list[str]:
  """Returns names of variables in the order of a model's layers.

  >>> sort_by_layer(['head_norm/bias', 's10_block_0/x', 's2_block_0/x', 'step'])
  ['s2_block_0/x', 's10_block_0/x', 'head_norm/bias', 'step']

  Args:
    names: names with slashes, of parameters or of what is named after them;
      those of no layer come last.
  """

  def place(name):
    found = find_place(name)
    return (found is None, found or (0, 0))

  return sorted(names, key=place)


def describe_names(names: Sequence[str]) -> str:
  """Returns which arrays are not finite, to be part of a sentence.

  >>> describe_names(['params/s0_norm/bias', 'params/s0_norm/scale'])
  'params/s0_norm/bias and 1 other array are not finite'

  Args:
    names: names of the arrays, one at least, from `find_not_finite`.
  """
  others = len(names) - 1
  if not others:
    return f'{names[0]} is not finite'
  return (
    f'{names[0]} and {others:,} other array{"s" * (others > 1)} are not finite'
  )
