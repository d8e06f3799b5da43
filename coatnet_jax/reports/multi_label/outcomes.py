"""What became of every image that has several labels, and of each of these."""

import dataclasses
from typing import ClassVar

import numpy as np

from coatnet_jax.evaluation.label_decisions import decide
from coatnet_jax.evaluation.multi_label import (
  LabelPredictions,
)
from coatnet_jax.reports.outcomes import NOTHING, BaseOutcomes
from coatnet_jax.training.metrics import find_hits


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelOutcomes(BaseOutcomes):
  """What a model said of n images with several labels each, or none.

  Attributes:
    targets: [n, C] bool, whether an image has a class.
    logits: logits of each image, [n, C] float32.
    probabilities: probability of each label, [n, C] float32.
  """

  verb: ClassVar[str] = 'has'
  targets: np.ndarray
  logits: np.ndarray
  probabilities: np.ndarray

  @property
  def decisions(self) -> np.ndarray:
    """[n, C] bool, whether a class is predicted."""
    return decide(self.probabilities)

  @property
  def valid(self) -> np.ndarray:
    """[n] bool, false where a logit is NaN."""
    return self.predicted != NOTHING

  def name_labels(self, row: int) -> str:
    """Returns the true classes of an image, with commas between."""
    names = [self.class_names[k] for k in np.flatnonzero(self.targets[row])]
    return ', '.join(names) or 'no label'


def create_label_outcomes(
  predictions: LabelPredictions, class_names: tuple[str, ...]
) -> LabelOutcomes:
  """Returns what became of images.

  Args:
    predictions: what was said of n images, at least one.
    class_names: names of the C classes.
  """
  hits = np.asarray(
    find_hits(predictions.classes, predictions.targets, predictions.valid)
  )
  first = predictions.classes[:, 0]
  return LabelOutcomes(
    class_names=class_names,
    indices=predictions.indices,
    predicted=np.where(predictions.valid, first, NOTHING).astype(np.int32),
    hits=hits[:, 0],
    top5_hits=np.asarray(hits.any(axis=1)),
    confidences=predictions.probabilities.max(axis=1),
    losses=predictions.losses,
    targets=predictions.targets,
    logits=predictions.logits,
    probabilities=predictions.probabilities,
  )
