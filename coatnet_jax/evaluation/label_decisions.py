"""What decisions on labels are worth, where an image may have several.

Each class is a question of its own, answered by whether its probability is at
least `THRESHOLD`. NumPy on the host, in float64.
"""

import dataclasses

import numpy as np

from coatnet_jax.evaluation.measures import divide

# Probability from which on a class is predicted.
THRESHOLD = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DecisionMeasures:
  """How good decisions are, for each of C classes and for all of them.

  NaN where a measure has no meaning: a precision of what is never predicted, a
  recall of what no image has.

  Attributes:
    support: [C] int64, number of images that have each class.
    predicted: [C] int64, number of images of which it is predicted.
    hits: [C] int64, number of images of which that is right.
    precision: [C], part of the predictions of a class that are right.
    recall: [C], part of its images that are found.
    f1: [C], harmonic mean of both.
    micro_f1: F1 of the decisions on all classes together.
    macro_f1: mean F1 of the classes that images have.
  """

  support: np.ndarray
  predicted: np.ndarray
  hits: np.ndarray
  precision: np.ndarray
  recall: np.ndarray
  f1: np.ndarray
  micro_f1: float
  macro_f1: float


def decide(probabilities: np.ndarray) -> np.ndarray:
  """Returns which classes are predicted, [n, C] bool; none where it is NaN.

  >>> decide(np.array([[0.5, 0.49, np.nan]])).tolist()
  [[True, False, False]]

  Args:
    probabilities: probability of each class of n images, [n, C].
  """
  return probabilities >= THRESHOLD


def measure_decisions(
  decisions: np.ndarray, targets: np.ndarray
) -> DecisionMeasures:
  """Returns precision, recall and F1 of decisions.

  >>> found = measure_decisions(
  ...   np.array([[True, False], [True, True]]),
  ...   np.array([[True, True], [False, True]]),
  ... )
  >>> found.precision.tolist(), found.recall.tolist()
  ([0.5, 1.0], [1.0, 0.5])
  >>> round(found.micro_f1, 3), round(found.macro_f1, 3)
  (0.667, 0.667)

  Args:
    decisions: whether each class is predicted of each image, [n, C] bool.
    targets: whether each image has it, [n, C] bool.
  """
  support = targets.sum(axis=0, dtype=np.int64)
  predicted = decisions.sum(axis=0, dtype=np.int64)
  hits = (decisions & targets).sum(axis=0, dtype=np.int64)
  f1 = divide(2 * hits, support + predicted)
  occurs = support > 0
  return DecisionMeasures(
    support=support,
    predicted=predicted,
    hits=hits,
    precision=divide(hits, predicted),
    recall=divide(hits, support),
    f1=f1,
    micro_f1=float(divide(2 * hits.sum(), support.sum() + predicted.sum())),
    macro_f1=float(f1[occurs].mean()) if occurs.any() else float('nan'),
  )
