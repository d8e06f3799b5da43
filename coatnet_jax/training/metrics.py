"""Exact evaluation metrics: sums on the device, their quotients on the host.

A batch gives float32 sums over its unmasked examples, each exact where it is
a count (a batch is far below 2**24 examples). Batches are added up on the
host, in float64: a float32 or int32 sum on the device would lose counts, or
overflow, over a large enough data set.

Why not `clu.metrics`: it adds batches up in float32, has no top-5 accuracy,
and its accuracy takes a NaN for the largest logit, so that a network that has
diverged can score.
"""

import math
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from coatnet_jax.errors import UserError

NO_EXAMPLES = (
  'The evaluation split, config.data.eval_split or --data.eval_split, has no'
  ' examples; choose one that has.'
)


def rank_classes(logits: jax.Array, top: int) -> jax.Array:
  """Returns the classes of the largest logits, the largest first.

  Equal logits rank by class, the lowest first, as `jnp.argmax` and
  `jax.lax.top_k` do, so that a network that answers every image the same scores
  the share of one class, and what is counted is what prediction shows.

  >>> rank_classes(jnp.array([[0.1, 0.7, 0.2, 0.7]]), top=3).tolist()
  [[1, 3, 2]]

  Args:
    logits: [B, K], any float dtype. In bfloat16 ties are common; prefer
      float32.
    top: number of classes; all K where there are fewer.

  Returns:
    [B, min(top, K)] int32.
  """
  return jax.lax.top_k(logits, min(top, logits.shape[-1]))[1]


def find_valid(logits: jax.Array) -> jax.Array:
  """Returns which examples have no NaN among their logits, [B] bool.

  >>> find_valid(jnp.array([[0.0, 1.0], [jnp.nan, 1.0]])).tolist()
  [True, False]

  Args:
    logits: [B, K], any float dtype.
  """
  return ~jnp.isnan(logits).any(axis=-1)


def compute_batch_top1(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Returns the share of a training batch that is predicted right.

  The label of an image is the class with the largest target: of two images that
  MixUp made one, that of the larger part. Where several are equally large, as
  with several labels for each image, any of them is right.

  >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
  >>> targets = jnp.array([[0.5, 0.5, 0.0], [0.0, 0.7, 0.3]])
  >>> float(compute_batch_top1(logits, targets))
  0.5

  Args:
    logits: [B, K], any float dtype.
    targets: [B, K] soft labels, at least 0; an image without a label, whose
      targets are all 0, is wrong.

  Returns:
    float32 scalar from 0 to 1.
  """
  predicted = logits.argmax(-1, keepdims=True)
  target = jnp.take_along_axis(targets, predicted, axis=-1)[:, 0]
  is_right = (target > 0) & (target >= targets.max(-1))
  return is_right.astype(jnp.float32).mean()


def find_hits(
  classes: jax.Array | np.ndarray,
  labels: jax.Array | np.ndarray,
  valid: jax.Array | np.ndarray,
) -> jax.Array | np.ndarray:
  """Returns which classes are the labels of their examples, [B, k] bool.

  >>> classes, labels = np.array([[3, 1], [0, 2]]), np.array([1, 4])
  >>> find_hits(classes, labels, np.array([True, True])).tolist()
  [[False, True], [False, False]]

  Args:
    classes: [B, k] integers, ranked.
    labels: [B] integers, the true classes; or [B, K] numbers, above 0 for each
      true class.
    valid: [B] bool; where it is false, no class of the example is a hit.
  """
  if labels.ndim == 2:
    hits = jnp.take_along_axis(labels, classes, axis=-1) > 0
    return hits & valid[:, None]
  return (classes == labels[:, None]) & valid[:, None]


def compute_metric_sums(
  logits: jax.Array, labels: jax.Array, mask: jax.Array, loss: jax.Array
) -> dict[str, jax.Array]:
  """Returns one batch's sums, to be added up by `total_metric_sums`.

  An example is right at k if its label, or one of its labels, is one of the k
  largest logits, in the order of `rank_classes`. An example with a NaN among
  its logits is wrong. With fewer than five classes 'top5' is right for every
  other example, but for one without labels.

  >>> logits, labels = jnp.eye(6)[:3], jnp.array([0, 1, 5])
  >>> mask = jnp.array([True, True, False])
  >>> sums = compute_metric_sums(logits, labels, mask, loss=jnp.ones(3))
  >>> total_metric_sums([sums, sums])
  {'count': 4.0, 'loss': 4.0, 'top1': 4.0, 'top5': 4.0}
  >>> normalize_metrics(total_metric_sums([sums, sums]))
  {'loss': 1.0, 'top1': 1.0, 'top5': 1.0, 'count': 4}

  Args:
    logits: [B, K], any float dtype.
    labels: true classes, [B] integers or [B, K] numbers, as `find_hits` takes
      them.
    mask: [B] bool or 0/1, false where an example only pads the batch: nothing
      of it counts, not even a NaN.
    loss: [B] loss of each example.

  Returns:
    'loss', 'top1', 'top5' and 'count': float32 scalars; global sums where the
    arrays are global.
  """
  mask = mask.astype(bool)
  valid = mask & find_valid(logits)
  hits = find_hits(rank_classes(logits, 5), labels, valid)
  return {
    'loss': jnp.where(mask, loss.astype(jnp.float32), 0).sum(),
    'top1': hits[:, 0].sum(dtype=jnp.float32),
    'top5': hits.any(axis=-1).sum(dtype=jnp.float32),
    'count': mask.sum(dtype=jnp.float32),
  }


def compute_mean_class_accuracy(
  class_hits: np.ndarray, class_counts: np.ndarray
) -> float:
  """Returns the mean of the classes' accuracies, which counts each alike.

  >>> compute_mean_class_accuracy(np.array([9, 0, 0]), np.array([9, 1, 0]))
  0.5

  Args:
    class_hits: examples of each class that are predicted right, [K].
    class_counts: examples of each class, [K]; a class without any is left out.
  """
  occurs = class_counts > 0
  return float((class_hits[occurs] / class_counts[occurs]).mean())


def total_metric_sums(
  batches: Iterable[Mapping[str, jax.Array]],
) -> dict[str, float]:
  """Returns the totals of several batches' sums, as Python floats.

  Rounded once, so that they do not depend on the batches' order.

  Args:
    batches: sums of each batch, from `compute_metric_sums`.
  """
  rows = jax.device_get(list(batches))
  names = rows[0] if rows else ()
  return {name: math.fsum(float(row[name]) for row in rows) for name in names}


def normalize_metrics(sums: Mapping[str, float]) -> dict[str, float | int]:
  """Returns the mean over examples of every sum.

  Args:
    sums: Totals of `total_metric_sums`, or one batch's sums.

  Returns:
    'loss', 'top1' and 'top5' as Python floats, accuracies in 0 .. 1; 'count',
    the number of examples, as an int.

  Raises:
    UserError: There were no examples.
  """
  count = int(sums.get('count', 0))
  if count == 0:
    raise UserError(NO_EXAMPLES)
  means = {
    name: float(total) / count
    for name, total in sums.items()
    if name != 'count'
  }
  return {**means, 'count': count}
