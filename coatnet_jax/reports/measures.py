"""Figures of outcomes that an evaluation does not have: by class, with spread.

What it has, `evaluation/measures.py` computes. NumPy, in float64.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from scipy import sparse

from coatnet_jax.evaluation.measures import divide
from coatnet_jax.reports.outcomes import NOTHING, Outcomes

# Part of the samples that an interval holds.
CONFIDENCE = 0.95
# The standard normal's quantile for it.
_DEVIATIONS = 1.959963984540054
_SEED = 0
_MAX_RESAMPLES, _MIN_RESAMPLES = 1000, 100
# Numbers drawn in all, and at a time: so long it takes, and so much memory.
_MAX_DRAWS, _DRAWS_AT_A_TIME = 10**8, 10**6


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ClassMeasures:
  """How good a model is for each of C classes; NaN where that has no meaning.

  Attributes:
    support: [C] int64, number of examples of each class.
    predicted: [C] int64, how often each was predicted.
    precision: [C], part of the predictions of a class that are right.
    recall: [C], part of its examples that are found.
    f1: [C], harmonic mean of both.
    precision_interval: [2, C], where the precision may be: `compute_wilson`.
    recall_interval: [2, C], where the recall may be.
  """

  support: np.ndarray
  predicted: np.ndarray
  precision: np.ndarray
  recall: np.ndarray
  f1: np.ndarray
  precision_interval: np.ndarray
  recall_interval: np.ndarray


def measure_classes(outcomes: Outcomes) -> ClassMeasures:
  """Returns precision, recall and F1 of every class.

  A precision has no meaning for a class that is never predicted, nor a recall
  for one without examples.

  Args:
    outcomes: what was said of the examples.
  """
  num_classes = outcomes.num_classes
  right = outcomes.predicted == outcomes.labels
  hits = np.bincount(outcomes.labels[right], minlength=num_classes)
  support = np.bincount(outcomes.labels, minlength=num_classes)
  is_class = outcomes.predicted != NOTHING
  predicted = np.bincount(outcomes.predicted[is_class], minlength=num_classes)
  return ClassMeasures(
    support=support,
    predicted=predicted,
    precision=divide(hits, predicted),
    recall=divide(hits, support),
    f1=divide(2 * hits, support + predicted),
    precision_interval=compute_wilson(hits, predicted),
    recall_interval=compute_wilson(hits, support),
  )


def compute_macro_f1(measures: ClassMeasures) -> float:
  """Returns the mean F1 of the classes that have examples."""
  return float(measures.f1[measures.support > 0].mean())


def compute_wilson(hits: np.ndarray, counts: np.ndarray) -> np.ndarray:
  """Returns Wilson's score interval of a proportion, of 95 %.

  It holds for few examples too, where resampling them finds none of what they
  lack.

  >>> compute_wilson(np.array([5]), np.array([5])).round(3).tolist()
  [[0.566], [1.0]]

  Args:
    hits: [C] how often something was so.
    counts: [C] how often it could have been; NaN comes of 0.

  Returns:
    [2, C] float64, lower and upper ends.
  """
  share, square = divide(hits, counts), _DEVIATIONS**2
  counts = np.where(counts, counts, np.nan)
  centre = share + square / (2 * counts)
  width = _DEVIATIONS * np.sqrt(
    share * (1 - share) / counts + square / (4 * counts**2)
  )
  scale = 1 + square / counts
  return np.clip(np.stack([centre - width, centre + width]) / scale, 0, 1)


def count_resamples(num_examples: int) -> int:
  """Returns how often so many examples are drawn anew, to take some seconds."""
  affordable = _MAX_DRAWS // max(num_examples, 1)
  return min(_MAX_RESAMPLES, max(_MIN_RESAMPLES, affordable))


def find_intervals(outcomes: Outcomes) -> dict[str, tuple[float, float]]:
  """Returns where measures lie for other examples of the same kind.

  The bootstrap's percentiles: as many examples are drawn of these, with
  replacement, again and again, the same ones every time. Of the calibration
  error there is none: it is larger in a resample than in the sample.

  Args:
    outcomes: what was said of n examples, at least one.

  Returns:
    Lower and upper ends of 95 % by name: 'top1', 'top5', 'loss',
    'mean_class_accuracy' and 'macro_f1'; NaN where the measure is.
  """
  columns = np.stack(
    [outcomes.hits, outcomes.top5_hits, outcomes.losses], axis=1
  ).astype(np.float64)
  num_examples, num_classes = len(columns), outcomes.num_classes
  counts = _create_class_columns(outcomes)
  # Of examples or of columns, whichever are more.
  width = max(counts.shape)

  def compute(weights):
    means = weights @ columns / num_examples
    # Three blocks of C columns: examples, of them found, and predictions.
    support, hits, predicted = np.split(
      (counts.T @ weights.T).T, [num_classes, 2 * num_classes], axis=1
    )
    occurs = support > 0
    recall = np.where(occurs, hits / np.maximum(support, 1), 0)
    f1 = np.where(occurs, 2 * hits / np.maximum(support + predicted, 1), 0)
    over_classes = np.stack([recall, f1]).sum(axis=2) / occurs.sum(axis=1)
    return np.concatenate([means, over_classes.T], axis=1)

  number = count_resamples(num_examples)
  low, high = bootstrap(
    num_examples, compute, num_resamples=number, width=width
  )
  names = ('top1', 'top5', 'loss', 'mean_class_accuracy', 'macro_f1')
  return {name: (float(a), float(b)) for name, a, b in zip(names, low, high)}


def bootstrap(
  num_examples: int,
  compute: Callable[[np.ndarray], np.ndarray],
  *,
  num_resamples: int,
  width: int,
) -> np.ndarray:
  """Returns the percentiles of measures over resamples, the same every time.

  Args:
    num_examples: number of examples, n.
    compute: function that takes how often each example is in each of r
      resamples, [r, n] float64, and returns m measures of each, [r, m].
    num_resamples: number of resamples in all.
    width: numbers that a resample takes, by which so many are drawn at a time
      as memory allows.

  Returns:
    [2, m] float64, lower and upper ends of 95 %.
  """
  rng = np.random.default_rng(_SEED)
  resamples, left = [], num_resamples
  while left:
    number = min(left, max(1, _DRAWS_AT_A_TIME // width))
    left -= number
    weights = _draw_weights(rng, number, num_examples)
    resamples.append(compute(weights))
  tail = (1 - CONFIDENCE) / 2
  return np.quantile(np.concatenate(resamples), [tail, 1 - tail], axis=0)


def _draw_weights(
  rng: np.random.Generator, number: int, num_examples: int
) -> np.ndarray:
  """Returns how often each example is in each resample, [number, n] float64."""
  drawn = rng.integers(num_examples, size=(number, num_examples))
  drawn += num_examples * np.arange(number)[:, None]
  flat = np.bincount(drawn.ravel(), minlength=number * num_examples)
  return flat.reshape(number, num_examples).astype(np.float64)


def _create_class_columns(outcomes: Outcomes) -> sparse.csr_array:
  """Returns what an example adds to the counts of the classes, [n, 3 C]."""
  num_examples, num_classes = len(outcomes.labels), outcomes.num_classes
  rows = np.arange(num_examples)
  right = outcomes.hits
  is_class = outcomes.predicted != NOTHING
  places = (
    (rows, outcomes.labels),
    (rows[right], num_classes + outcomes.labels[right]),
    (rows[is_class], 2 * num_classes + outcomes.predicted[is_class]),
  )
  rows, columns = (np.concatenate(parts) for parts in zip(*places))
  return sparse.csr_array(
    (np.ones(len(rows)), (rows, columns)), (num_examples, 3 * num_classes)
  )


def count_confusions(outcomes: Outcomes) -> np.ndarray:
  """Returns how often each class was taken for each.

  Args:
    outcomes: what was said of examples of C classes, which are few.

  Returns:
    [C, C + 1] int64, of a true and a predicted class; the last column is for
    what nothing was predicted of.
  """
  size = outcomes.num_classes
  predicted = np.where(outcomes.predicted == NOTHING, size, outcomes.predicted)
  cells = outcomes.labels.astype(np.int64) * (size + 1) + predicted
  return np.bincount(cells, minlength=size * (size + 1)).reshape(size, size + 1)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
  """How well the probability of one class tells it from the others.

  Attributes:
    false_positive_rate: [m] part of the others above a threshold, ascending.
    recall: [m] part of the class above it.
    precision: [m] part of the class in what is above it.
    auc: area under the receiver operating characteristic.
    average_precision: mean of the precision over steps of the recall.
  """

  false_positive_rate: np.ndarray
  recall: np.ndarray
  precision: np.ndarray
  auc: float
  average_precision: float


def measure_detection(
  scores: np.ndarray, is_class: np.ndarray
) -> Detection | None:
  """Returns how well scores tell examples of a class from others.

  >>> found = measure_detection(
  ...   np.array([0.9, 0.8, 0.3]), np.array([True, False, True])
  ... )
  >>> found.auc, round(found.average_precision, 3)
  (0.5, 0.833)

  Args:
    scores: [n] finite numbers, larger for what is rather of the class.
    is_class: [n] bool, whether it is.

  Returns:
    The measures; None where all examples are of the class, or none is.
  """
  num_class = int(is_class.sum())
  num_others = len(is_class) - num_class
  if not num_class or not num_others:
    return None
  order = np.argsort(-scores, kind='stable')
  scores, is_class = scores[order], is_class[order]
  # Equal scores are above a threshold together.
  ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
  found = np.cumsum(is_class)[ends]
  above = ends + 1
  recall, precision = found / num_class, found / above
  rate = (above - found) / num_others
  steps = np.diff(recall, prepend=0)
  return Detection(
    false_positive_rate=np.append(0.0, rate),
    recall=np.append(0.0, recall),
    precision=np.append(precision[0], precision),
    auc=float(np.trapezoid(np.append(0.0, recall), np.append(0.0, rate))),
    average_precision=float((steps * precision).sum()),
  )


def measure_detections(outcomes: Outcomes) -> list[Detection | None]:
  """Returns `measure_detection` of every class; none where there are many.

  Args:
    outcomes: what was said of examples. Where it has a NaN, no class has any.
  """
  scores = outcomes.probabilities
  if not scores.shape[1]:
    return []
  if np.isnan(scores).any():
    return [None] * outcomes.num_classes
  return [
    measure_detection(scores[:, label], outcomes.labels == label)
    for label in range(outcomes.num_classes)
  ]


def summarize_spread(values: Mapping[str, float]) -> dict[str, float]:
  """Returns mean, sample deviation, least and largest of runs' measures.

  >>> summarize_spread({'one': 1.0, 'two': 3.0})['mean']
  2.0

  Args:
    values: measure of each run, at least one; of one there is no deviation.
  """
  numbers = np.array(list(values.values()), np.float64)
  deviation = numbers.std(ddof=1) if len(numbers) > 1 else np.nan
  return {
    'mean': float(numbers.mean()),
    'deviation': float(deviation),
    'least': float(numbers.min()),
    'largest': float(numbers.max()),
  }
