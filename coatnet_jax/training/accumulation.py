"""Gradients of a batch computed in parts, right with BatchNorm.

Each part is normalised by its own statistics, as on that many devices without
synchronisation. The running statistics are updated once per step, with the
mean and the variance of the whole batch: a run of 4 parts and one of 1 keep
averages over the same number of steps, of the same quantity.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# (params, batch_stats, part of the batch, index of the part)
#   -> (gradients, new batch_stats, measures: a tree of means over the part)
GradientFn = Callable[[Any, Any, Any, jax.Array], tuple[Any, Any, Any]]


def accumulate_gradients(
  gradient_fn: GradientFn,
  params: Any,
  batch_stats: Any,
  batch: Any,
  *,
  num_parts: int,
  batch_norm_momentum: float,
) -> tuple[Any, Any, Any]:
  """Averages gradients and measures over the parts of a batch.

  Args:
    gradient_fn: function that computes the gradients of a part: `GradientFn`.
    params: parameters of the model.
    batch_stats: running statistics before the step.
    batch: tree of arrays [B, ...]; num_parts divides B.
    num_parts: number of parts. One example in num_parts, not one stretch of
      examples, makes a part, so that each part is sharded as the batch is.
    batch_norm_momentum: momentum of the model's running statistics.

  Returns:
    Gradients, new running statistics, measures: as gradient_fn's of one part.
  """
  if num_parts == 1:
    return gradient_fn(params, batch_stats, batch, jnp.int32(0))

  def split(x):
    x = x.reshape(x.shape[0] // num_parts, num_parts, *x.shape[1:])
    return jnp.swapaxes(x, 0, 1)  # [num_parts, B / num_parts, ...]

  def add_part(total, inputs):
    part, index = inputs
    grads, new_stats, measures = gradient_fn(params, batch_stats, part, index)
    # Kept of each part, as they are few: what they are is gradient_fn's affair.
    return jax.tree.map(jnp.add, total, grads), (new_stats, measures)

  zeros = jax.tree.map(jnp.zeros_like, params)
  parts = (jax.tree.map(split, batch), jnp.arange(num_parts))
  total, (part_stats, measures) = lax.scan(add_part, zeros, parts)
  grads = jax.tree.map(lambda x: x / num_parts, total)
  measures = jax.tree.map(lambda x: x.mean(0), measures)
  return grads, merge_statistics(part_stats, batch_norm_momentum), measures


def merge_statistics(part_stats: Any, momentum: float) -> Any:
  """Makes one update of running statistics of one per part.

  A part's update is momentum * old + (1 - momentum) * part's; the mean over
  parts is the update with the mean of the parts' means and variances. What
  the whole batch's variance has more is the variance of the parts' means.

  Args:
    part_stats: tree of BatchNorm's {'mean', 'var'}, arrays [num_parts, C].
    momentum: momentum of the running statistics.

  Returns:
    The tree with arrays [C].
  """
  if set(part_stats) == {'mean', 'var'}:
    between = part_stats['mean'].var(0) / max(1 - momentum, 1e-12)
    return {
      'mean': part_stats['mean'].mean(0),
      'var': part_stats['var'].mean(0) + between,
    }
  return {
    name: merge_statistics(tree, momentum) for name, tree in part_stats.items()
  }
