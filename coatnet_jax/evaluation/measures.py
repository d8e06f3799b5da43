"""What is counted of predictions, and the figures made of the counts.

NumPy on the host, in float64. Only sums are kept, so that the logits of a
large data set need no memory: one number per calibration bin and class, and
one per pair of classes that were confused.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from coatnet_jax.errors import UserError
from coatnet_jax.training.metrics import (
  compute_mean_class_accuracy,
  find_hits,
)

# Equally wide bins of the expected calibration error: arXiv 1706.04599 has 15.
NUM_BINS = 15


class Predictions(NamedTuple):
  """What a model says of some examples, n of them.

  Attributes:
    indices: [n] int64, the places of the examples in their source.
    labels: [n] int32, true classes.
    classes: [n, k] int32, the classes of the k largest logits, the largest
      first.
    confidences: [n] float32, the largest probability.
    losses: [n] float32, the loss of each.
    valid: [n] bool, false where a logit is NaN.
    probabilities: [n, C] float32, those of all classes; [n, 0] where they were
      not asked for.
  """

  indices: np.ndarray
  labels: np.ndarray
  classes: np.ndarray
  confidences: np.ndarray
  losses: np.ndarray
  valid: np.ndarray
  probabilities: np.ndarray

  @classmethod
  def create(
    cls,
    indices: np.ndarray,
    labels: np.ndarray,
    rated: Mapping[str, np.ndarray],
  ) -> 'Predictions':
    """Returns the predictions that logits were rated with.

    Args:
      indices: places of the examples in their source, [n] int64.
      labels: true classes, [n] int32.
      rated: what `inference.rate_logits` says of their logits, perhaps with
        'probabilities'.
    """
    return cls(
      indices=indices,
      labels=labels,
      classes=rated['classes'],
      confidences=rated['confidence'],
      losses=rated['loss'],
      valid=rated['valid'],
      probabilities=rated.get(
        'probabilities', np.zeros((len(labels), 0), np.float32)
      ),
    )

  def take(self, rows: np.ndarray) -> 'Predictions':
    """Returns some of the examples."""
    return Predictions(*(array[rows] for array in self))


def find_single_label_hits(predictions: Predictions) -> np.ndarray:
  """Returns [n, k] bool: whether a class is the label of its example.

  >>> predictions = Predictions(
  ...   indices=np.arange(2),
  ...   labels=np.array([3, 1]),
  ...   classes=np.array([[3, 1], [0, 2]]),
  ...   confidences=np.array([0.9, 0.6]),
  ...   losses=np.array([0.1, 2.0]),
  ...   valid=np.array([True, True]),
  ...   probabilities=np.zeros((2, 0)),
  ... )
  >>> find_single_label_hits(predictions).tolist()
  [[True, False], [False, False]]
  """
  return find_hits(predictions.classes, predictions.labels, predictions.valid)


def find_multi_label_hits(
  predictions: Predictions, label_sets: Sequence[Sequence[int]]
) -> np.ndarray:
  """Returns [n, k] bool: whether a class is one of its example's labels.

  Args:
    predictions: predictions of n examples.
    label_sets: labels of each example, at least one.
  """
  hits = np.array(
    [
      np.isin(classes, list(labels))
      for classes, labels in zip(predictions.classes, label_sets, strict=True)
    ],
    bool,
  ).reshape(predictions.classes.shape)
  return hits & predictions.valid[:, None]


class Tally:
  """Adds up what predictions are worth.

  Attributes:
    count: number of examples so far.
    class_counts: [C] int64, the number of examples of each true class.
    class_hits: [C] int64, the number of them whose first prediction is right.
    confusions: number of times that a first prediction was wrong, by (true
      class, predicted class).
  """

  def __init__(self, num_classes: int):
    """Starts at nothing.

    Args:
      num_classes: number of classes, C.
    """
    self.count = 0
    self.class_counts = np.zeros(num_classes, np.int64)
    self.class_hits = np.zeros(num_classes, np.int64)
    self.confusions: collections.Counter[tuple[int, int]] = (
      collections.Counter()
    )
    self._top1 = self._top5 = 0
    self._loss = 0.0
    # A column for each bin: examples, sum of confidences, hits.
    self._bins = np.zeros((3, NUM_BINS), np.float64)

  def update(self, predictions: Predictions, hits: np.ndarray) -> None:
    """Adds examples.

    Args:
      predictions: predictions of n examples.
      hits: [n, k] bool, from `find_single_label_hits` or
        `find_multi_label_hits`.
    """
    first = hits[:, 0]
    self.count += len(first)
    self._top1 += int(first.sum())
    self._top5 += int(hits.any(axis=1).sum())
    self._loss += float(predictions.losses.astype(np.float64).sum())
    labels, num_classes = predictions.labels, len(self.class_counts)
    self.class_counts += np.bincount(labels, minlength=num_classes)
    self.class_hits += np.bincount(labels[first], minlength=num_classes)
    self._bins += bin_confidences(predictions.confidences, first)
    # A network that says NaN takes nothing for something else.
    wrong = ~first & predictions.valid
    pairs = zip(labels[wrong].tolist(), predictions.classes[wrong, 0].tolist())
    self.confusions.update(pairs)

  def summarize(self) -> dict[str, float | int]:
    """Returns the figures.

    Returns:
      'top1', 'top5' (0..1) and 'loss', means over examples;
      'calibration_error' (0..1), see `compute_calibration_error`;
      'mean_class_accuracy' (0..1), the mean of top-1 over the classes that
      occur; and 'count', the number of examples.

    Raises:
      UserError: there were no examples.
    """
    if not self.count:
      raise UserError(
        'The evaluation split, config.data.eval_split or --data.eval_split, has'
        ' no examples that count; choose one that has.'
      )
    return {
      'top1': self._top1 / self.count,
      'top5': self._top5 / self.count,
      'loss': self._loss / self.count,
      'calibration_error': compute_calibration_error(self._bins),
      'mean_class_accuracy': compute_mean_class_accuracy(
        self.class_hits, self.class_counts
      ),
      'count': self.count,
    }

  def per_class(self, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns count and top-1 accuracy of every class that occurs.

    Args:
      names: names of the C classes.
    """
    return [
      {'class': name, 'count': int(count), 'top1': int(hits) / int(count)}
      for name, count, hits in zip(names, self.class_counts, self.class_hits)
      if count
    ]

  def most_confused(
    self, names: Sequence[str], number: int
  ) -> list[dict[str, Any]]:
    """Returns the pairs of classes that were confused most often.

    Args:
      names: names of the C classes.
      number: largest number of pairs. Equally frequent ones are in the order
        of their classes.

    Returns:
      For each 'true', 'predicted' and 'count'; 'share' is the part of the true
      class's examples.
    """
    ranked = sorted(self.confusions.items(), key=lambda item: (-item[1], item))
    return [
      {
        'true': names[true],
        'predicted': names[predicted],
        'count': count,
        'share': count / int(self.class_counts[true]),
      }
      for (true, predicted), count in ranked[:number]
    ]


def divide(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
  """Returns quotients, NaN where it is divided by 0.

  >>> divide(np.array([1, 2]), np.array([4, 0])).tolist()
  [0.25, nan]
  """
  return numerators / np.where(denominators, denominators, np.nan)


def bin_confidences(confidences: np.ndarray, hits: np.ndarray) -> np.ndarray:
  """Sorts examples into `NUM_BINS` equally wide bins by their confidence.

  A bin is (lower, upper]; the first has 0 too. A NaN spoils the first.

  Args:
    confidences: largest probability of each example, [n] in 0..1.
    hits: [n] bool, true where the prediction is right.

  Returns:
    [3, NUM_BINS] float64: examples, sum of confidences and hits of each bin.
  """
  confidences = confidences.astype(np.float64)
  bins = np.ceil(np.nan_to_num(confidences) * NUM_BINS).astype(int) - 1
  bins = bins.clip(0, NUM_BINS - 1)
  return np.stack(
    [
      np.bincount(bins, weights=weights, minlength=NUM_BINS)
      for weights in (np.ones_like(confidences), confidences, hits)
    ]
  )


def compute_calibration_error(bins: np.ndarray) -> float:
  """Returns the expected calibration error of `bin_confidences`.

  The mean over examples of |accuracy - mean confidence| of their bin
  (arXiv 1706.04599, equation 3).

  >>> confidences, hits = np.array([0.9, 0.9]), np.array([True, False])
  >>> f'{compute_calibration_error(bin_confidences(confidences, hits)):.2f}'
  '0.40'

  Args:
    bins: [3, NUM_BINS], sums of at least one example, from `bin_confidences`.
  """
  counts, confidences, hits = bins
  return float(np.abs(hits - confidences).sum() / counts.sum())


def compute_mean_corruption_error(
  errors: Mapping[str, Sequence[float]], reference: Mapping[str, float]
) -> tuple[dict[str, float], float]:
  """Returns how a model's errors compare with those of a reference.

  arXiv 1903.12261, section 4.2: the errors at all severities, added up and
  divided by the reference's, are a corruption's error; their mean is the mCE.

  >>> errors = {'fog': [0.25, 0.75]}
  >>> compute_mean_corruption_error(errors, reference={'fog': 1.0})
  ({'fog': 0.5}, 0.5)

  Args:
    errors: top-1 errors (0..1) at each severity, by corruption.
    reference: mean top-1 error (0..1) over the same severities, by corruption.

  Returns:
    The error of each corruption and their mean, 1 where the model is as good
    as the reference; the field prints 100 times that.
  """
  by_corruption = {
    name: float(np.mean(errors[name])) / reference[name] for name in reference
  }
  return by_corruption, float(np.mean(list(by_corruption.values())))
