"""What a report is made of: what became of every example of an evaluation.

Some 30 bytes of each example.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from coatnet_jax.evaluation.measures import Predictions

# Up to so many classes, all probabilities are kept, and a report has a
# confusion matrix and curves of each class.
MAX_FEW_CLASSES = 20
# What is predicted where a logit is NaN.
NOTHING = -1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BaseOutcomes(abc.ABC):
  """What a model said of n examples, whatever the kind of their labels.

  Attributes:
    class_names: names of the C classes.
    indices: [n] int64, the places of the examples in their source.
    predicted: [n] int32, the most probable classes; `NOTHING` where a logit is
      NaN.
    hits: [n] bool, whether that is right.
    top5_hits: [n] bool, whether one of the five most probable is.
    confidences: [n] float32, the largest probability.
    losses: [n] float32, the loss of each.
    verb: word between an example and its labels: it 'is' a cat.
  """

  verb: ClassVar[str] = 'is'
  class_names: tuple[str, ...]
  indices: np.ndarray
  predicted: np.ndarray
  hits: np.ndarray
  top5_hits: np.ndarray
  confidences: np.ndarray
  losses: np.ndarray

  @property
  def num_classes(self) -> int:
    """The number of classes, C."""
    return len(self.class_names)

  @property
  def are_few(self) -> bool:
    """Whether the classes are few enough to be shown each against each."""
    return self.num_classes <= MAX_FEW_CLASSES

  @abc.abstractmethod
  def name_labels(self, row: int) -> str:
    """Returns what an example is: the names of its true classes."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes(BaseOutcomes):
  """What a model said of n examples of one class each.

  Attributes:
    labels: true class of each image, [n] int32.
    probabilities: [n, C] float32, of at most `MAX_FEW_CLASSES`; else [n, 0].
  """

  labels: np.ndarray
  probabilities: np.ndarray

  def name_labels(self, row: int) -> str:
    """Returns the name of an example's true class."""
    return self.class_names[self.labels[row]]


def collect_outcomes(
  batches: Sequence[tuple[Predictions, np.ndarray]],
  class_names: Sequence[str],
) -> Outcomes:
  """Returns what became of the examples of some batches.

  Args:
    batches: predictions of each, of one batch at least, and which of them are
      right, [n, k] bool.
    class_names: names of the C classes.
  """
  first = [
    np.where(said.valid, said.classes[:, 0], NOTHING).astype(np.int32)
    for said, _ in batches
  ]

  return Outcomes(
    class_names=tuple(class_names),
    indices=np.concatenate([said.indices for said, _ in batches]),
    labels=np.concatenate([said.labels for said, _ in batches]),
    predicted=np.concatenate(first),
    hits=np.concatenate([hits[:, 0] for _, hits in batches]),
    top5_hits=np.concatenate([hits.any(axis=1) for _, hits in batches]),
    confidences=np.concatenate([said.confidences for said, _ in batches]),
    losses=np.concatenate([said.losses for said, _ in batches]),
    probabilities=np.concatenate([said.probabilities for said, _ in batches]),
  )
