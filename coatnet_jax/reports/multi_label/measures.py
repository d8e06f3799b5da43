"""Figures of outcomes with several labels: by class, with intervals.

NumPy, in float64.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import sparse

from coatnet_jax.evaluation.average_precision import compute_average_precisions
from coatnet_jax.evaluation.label_decisions import measure_decisions
from coatnet_jax.evaluation.measures import divide
from coatnet_jax.reports.measures import (
  ClassMeasures,
  Detection,
  bootstrap,
  compute_wilson,
  count_resamples,
  measure_detection,
)
from coatnet_jax.reports.multi_label.outcomes import LabelOutcomes

# Scores of classes that are drawn in all for the mean average precision: so
# long it takes. Where the fewest resamples would be more, it has no interval.
_MAX_SCORES = _MOST_SCORES = 10**9
_MIN_RESAMPLES = 100


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelMeasures(ClassMeasures):
  """How good a model is for each of C classes that images may have together.

  Attributes:
    average_precision: [C], as `tools.evaluate` says; NaN of one without images.
    micro_f1: F1 of the decisions on all classes together.
    macro_f1: mean F1 of the classes that images have.
  """

  average_precision: np.ndarray
  micro_f1: float
  macro_f1: float


def measure_labels(outcomes: LabelOutcomes) -> LabelMeasures:
  """Returns average precision, precision, recall and F1 of every class.

  Args:
    outcomes: what was said of the images.
  """
  found = measure_decisions(outcomes.decisions, outcomes.targets)
  return LabelMeasures(
    support=found.support,
    predicted=found.predicted,
    precision=found.precision,
    recall=found.recall,
    f1=found.f1,
    precision_interval=compute_wilson(found.hits, found.predicted),
    recall_interval=compute_wilson(found.hits, found.support),
    average_precision=compute_average_precisions(
      outcomes.logits, outcomes.targets
    ),
    micro_f1=found.micro_f1,
    macro_f1=found.macro_f1,
  )


def count_label_resamples(outcomes: LabelOutcomes) -> int:
  """Returns how often the images are drawn anew, to take some seconds.

  Args:
    outcomes: what was said of the images.
  """
  number, num_scores = count_resamples(len(outcomes.hits)), outcomes.logits.size
  return min(number, max(_MIN_RESAMPLES, _MAX_SCORES // max(num_scores, 1)))


def _has_precisions(outcomes: LabelOutcomes) -> bool:
  return outcomes.logits.size * _MIN_RESAMPLES <= _MOST_SCORES


def find_label_intervals(
  outcomes: LabelOutcomes,
) -> dict[str, tuple[float, float]]:
  """Returns where measures lie for other images of the same kind.

  The bootstrap's percentiles, as in `measures.find_intervals`. An image is
  drawn with all of its labels.

  Args:
    outcomes: what was said of n images, at least one.

  Returns:
    Lower and upper ends of 95 % by name: 'top1', 'top5', 'loss', 'micro_f1',
    'macro_f1' and, unless there are very many scores, 'mean_average_precision';
    NaN where the measure is, perhaps in a sample alone.
  """
  columns = np.stack(
    [outcomes.hits, outcomes.top5_hits, outcomes.losses], axis=1
  ).astype(np.float64)
  num_images, num_classes = outcomes.targets.shape
  counts = _create_class_columns(outcomes)
  compute_precision = (
    create_resampled_precision(outcomes) if _has_precisions(outcomes) else None
  )

  def compute(weights):
    means = weights @ columns / num_images
    # Three blocks of C columns: images, of them found, and predictions.
    support, hits, predicted = np.split(
      (counts.T @ weights.T).T, [num_classes, 2 * num_classes], axis=1
    )
    occurs, both = support > 0, support + predicted
    f1 = np.where(occurs, 2 * hits / np.maximum(both, 1), 0)
    parts = [
      means,
      divide(2 * hits.sum(axis=1), both.sum(axis=1))[:, None],
      divide(f1.sum(axis=1), occurs.sum(axis=1))[:, None],
    ]
    if compute_precision is not None:
      parts.append(compute_precision(weights)[:, None])
    return np.concatenate(parts, axis=1)

  low, high = bootstrap(
    num_images,
    compute,
    num_resamples=count_label_resamples(outcomes),
    width=max(counts.shape),
  )
  names = [
    *('top1', 'top5', 'loss', 'micro_f1', 'macro_f1'),
    'mean_average_precision',
  ]
  return {name: (float(a), float(b)) for name, a, b in zip(names, low, high)}


def create_resampled_precision(
  outcomes: LabelOutcomes,
) -> Callable[[np.ndarray], np.ndarray]:
  """Returns a function: how often images are drawn, to mean average precisions.

  It takes [r, n] float64 of r samples and returns [r], the means over the
  classes that a sample has.

  Args:
    outcomes: what was said of n images; they are sorted here once.
  """
  ranked = [
    _rank(outcomes.logits[:, label], outcomes.targets[:, label])
    for label in np.flatnonzero(outcomes.targets.any(axis=0))
  ]

  def compute(weights):
    total = np.zeros(len(weights))
    num_classes = np.zeros(len(weights), int)
    for order, places, ends, starts in ranked:
      of_class = weights[:, order]
      above = np.cumsum(of_class, axis=1)[:, ends]
      steps = np.add.reduceat(of_class[:, places], starts, axis=1)
      found = np.cumsum(steps, axis=1)
      sums = (steps * found / np.maximum(above, 1)).sum(axis=1)
      support = found[:, -1]
      total += sums / np.maximum(support, 1)
      num_classes += support > 0
    return divide(total, num_classes)

  return compute


def _rank(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, ...]:
  """Returns the images in the order of their scores, and where a class is.

  Returns:
    The order, [n]; the places in it of the class's images, [p]; the last places
    of the scores that these have, [s]; and for each the first of its images
    among the p.
  """
  scores = np.nan_to_num(scores.astype(np.float64), nan=-np.inf, posinf=np.inf)
  order = np.argsort(-scores, kind='stable')
  scores = scores[order]
  ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
  places = np.flatnonzero(targets[order])
  of_place = ends[np.searchsorted(ends, places)]
  ends, starts = np.unique(of_place, return_index=True)
  return order, places, ends, starts


def _create_class_columns(outcomes: LabelOutcomes) -> sparse.csr_array:
  """Returns what an image adds to the counts of the classes, [n, 3 C]."""
  targets, decisions = outcomes.targets, outcomes.decisions
  blocks = (targets, targets & decisions, decisions)
  return sparse.csr_array(
    sparse.hstack(
      [sparse.csr_array(block.astype(np.float64)) for block in blocks]
    )
  )


def measure_label_detections(
  outcomes: LabelOutcomes,
) -> list[Detection | None]:
  """Returns `measure_detection` of every class; none where there are many.

  By logits, as probabilities close to 1 can round to the same number.

  Args:
    outcomes: what was said of images. Where it has a NaN, no class has any.
  """
  if not outcomes.are_few:
    return []
  if not outcomes.valid.all():
    return [None] * outcomes.num_classes
  return [
    measure_detection(outcomes.logits[:, label], outcomes.targets[:, label])
    for label in range(outcomes.num_classes)
  ]
