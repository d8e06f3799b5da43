"""Top-1, top-5, loss, calibration and confusions of a model on a data set."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data.damage import explain_damage
from coatnet_jax.evaluation.data_sets import EvaluationData
from coatnet_jax.evaluation.measures import (
  Predictions,
  Tally,
  find_multi_label_hits,
  find_single_label_hits,
)
from coatnet_jax.evaluation.predictions import predict_source

# Pairs of classes to name.
_NUM_CONFUSED = 20


def evaluate_classification(
  trained: TrainedModel,
  evaluation: EvaluationData,
  *,
  batch_size: int,
  report_undecodable: Callable[[str], None],
  keep: Callable[[Predictions, np.ndarray], None] | None = None,
  with_probabilities: bool = False,
) -> dict[str, Any]:
  """Evaluates a model on every image of a data set.

  Args:
    trained: model with its weights.
    evaluation: images, and the rule they are evaluated by.
    batch_size: number of images at a time, a multiple of the mesh's size.
    report_undecodable: function that takes the name of an image that is left
      out because it cannot be decoded, and why.
    keep: function that takes the predictions of each batch that count, and
      which are right, as `judge` returns them.
    with_probabilities: whether these have the probabilities of all classes.

  Returns:
    What `Tally.summarize` has, and 'undecodable', the images left out for it;
    'without_labels', those left out by ReaL's rule; 'images_per_second',
    reading included and compilation not; 'most_confused' and 'per_class' as
    `Tally` has them.

  Raises:
    UserError: no image counts, or more cannot be decoded than may be.
  """
  source, space = evaluation.source, evaluation.space
  undecodable = []

  def leave_out(index: int) -> None:
    undecodable.append(index)
    report_undecodable(explain_damage(source, index))

  batches = predict_source(
    trained,
    evaluation,
    batch_size=batch_size,
    report_undecodable=leave_out,
    with_probabilities=with_probabilities,
  )
  tally, without_labels = Tally(space.num_classes), 0
  start = time.monotonic()
  for predictions in batches:
    counted, hits = judge(predictions, evaluation)
    tally.update(counted, hits)
    if keep is not None:
      keep(counted, hits)
    without_labels += len(predictions.indices) - len(counted.indices)
  seconds = time.monotonic() - start
  return {
    **tally.summarize(),
    'undecodable': len(undecodable),
    'without_labels': without_labels,
    'images_per_second': (tally.count + without_labels) / seconds,
    'most_confused': tally.most_confused(space.names, _NUM_CONFUSED),
    'per_class': tally.per_class(space.names),
  }


def judge(
  predictions: Predictions, evaluation: EvaluationData
) -> tuple[Predictions, np.ndarray]:
  """Returns the predictions that count, and [n, k] which are right."""
  if evaluation.label_sets is None:
    return predictions, find_single_label_hits(predictions)
  sets = [evaluation.label_sets(i) for i in predictions.indices.tolist()]
  predictions = predictions.take(np.array([bool(s) for s in sets], bool))
  return predictions, find_multi_label_hits(predictions, [s for s in sets if s])
