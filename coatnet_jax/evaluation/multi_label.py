"""Mean average precision and decisions, where images have several labels.

The program is that of the evaluation during training, and so are its numbers.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data.damage import explain_damage
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation.average_precision import (
  compute_average_precisions,
  compute_mean_average_precision,
)
from coatnet_jax.evaluation.data_sets import EvaluationData
from coatnet_jax.evaluation.dispatch import jit_step
from coatnet_jax.evaluation.eval_step import eval_step
from coatnet_jax.evaluation.label_decisions import decide, measure_decisions
from coatnet_jax.evaluation.predictions import (
  jit_trained_step,
  run_over_source,
)
from coatnet_jax.inference import rate_logits
from coatnet_jax.training import metrics as metrics_lib
from coatnet_jax.training.losses import LossOptions, compute_probabilities


class LabelPredictions(NamedTuple):
  """What a model says of each class of some images, n of them.

  Attributes:
    indices: [n] int64, the places of the images in their source.
    targets: [n, C] bool, whether an image has a class.
    logits: logits of each image, [n, C] float32.
    probabilities: probability of each label, [n, C] float32.
    classes: [n, k] int32, the classes of the k largest logits, the largest
      first.
    losses: [n] float32, the loss of each.
    valid: [n] bool, false where a logit is NaN.
  """

  indices: np.ndarray
  targets: np.ndarray
  logits: np.ndarray
  probabilities: np.ndarray
  classes: np.ndarray
  losses: np.ndarray
  valid: np.ndarray


def check_loss(trained: TrainedModel, evaluation: EvaluationData) -> None:
  """Checks that a model's probabilities of classes are independent.

  Raises:
    UserError: they add up to 1, so that no image can have two classes.
  """
  if trained.loss.kind != 'sigmoid':
    raise UserError(
      f'{evaluation.source.description}: its images have several labels each,'
      f" and the model's loss is {trained.loss.kind!r}, by which an image has"
      " one; evaluate a model that was trained with config.loss.kind 'sigmoid'."
    )


def evaluate_multi_label(
  trained: TrainedModel,
  evaluation: EvaluationData,
  *,
  batch_size: int,
  report_undecodable: Callable[[str], None],
  keep: Callable[[LabelPredictions], None] = lambda predictions: None,
) -> dict[str, Any]:
  """Evaluates a model on every image of a data set with several labels.

  What is predicted of all images is kept until the end, as average precision
  sorts them.

  Args:
    trained: model with its weights.
    evaluation: images, and the meaning of their classes to the model.
    batch_size: number of images at a time, a multiple of the mesh's size.
    report_undecodable: function that takes the name of an image that is left
      out because it cannot be decoded, and why.
    keep: function that takes what was predicted of all images.

  Returns:
    'mean_average_precision', 'loss', 'top1', 'top5' and 'count' as
    `eval_step.evaluate` has them; 'micro_f1' and 'macro_f1'; 'undecodable', the
    images left out for it; 'images_per_second', reading included and
    compilation not; and 'per_class', for each that images have: 'class',
    'count', 'average_precision', 'precision', 'recall' and 'f1'.

  Raises:
    UserError: there are no images, or more cannot be decoded than may be.
  """
  source, space = evaluation.source, evaluation.space
  undecodable, sums = [], []

  def leave_out(index: int) -> None:
    undecodable.append(index)
    report_undecodable(explain_damage(source, index))

  trained = dataclasses.replace(trained, preprocessing=evaluation.preprocessing)
  step = jit_trained_step(
    eval_step, trained, loss=trained.loss, candidates=space.candidates
  )
  rate = jit_step(_rate, trained.mesh, loss=trained.loss)

  def predict(batch):
    names = ('image', 'label', 'mask')
    of_batch, rows = step({n: batch[n] for n in names})
    sums.append(of_batch)
    return rate(rows, batch['corrupt'])

  outputs = run_over_source(
    predict,
    source,
    positions=space.positions,
    trained=trained,
    data=evaluation.data,
    batch_size=batch_size,
    report_undecodable=leave_out,
  )
  sums.clear()  # Of the batch that it was compiled with.
  start = time.monotonic()
  batches = [_create_predictions(*output) for output in outputs]
  seconds = time.monotonic() - start
  metrics = metrics_lib.normalize_metrics(metrics_lib.total_metric_sums(sums))
  predictions = LabelPredictions(*map(np.concatenate, zip(*batches)))
  keep(predictions)
  return {
    **measure_predictions(predictions, space.names, metrics),
    'undecodable': len(undecodable),
    'images_per_second': metrics['count'] / seconds,
  }


def _rate(
  rows: Mapping[str, jax.Array], corrupt: jax.Array, *, loss: LossOptions
) -> dict[str, jax.Array]:
  """Returns what `eval_step` keeps of examples, and what is said of them."""
  logits = rows['logits']
  return {
    **rows,
    **rate_logits(logits, rows['label'], loss),
    'probabilities': compute_probabilities(logits, loss),
    'corrupt': corrupt,
  }


def _create_predictions(
  indices: np.ndarray, rows: Mapping[str, np.ndarray]
) -> LabelPredictions:
  return LabelPredictions(
    indices=indices,
    targets=rows['label'] > 0,
    logits=rows['logits'],
    probabilities=rows['probabilities'],
    classes=rows['classes'],
    losses=rows['loss'],
    valid=rows['valid'],
  )


def measure_predictions(
  predictions: LabelPredictions,
  class_names: Sequence[str],
  metrics: Mapping[str, float],
) -> dict[str, Any]:
  """Returns the figures of predictions, as `evaluate_multi_label` has them.

  Args:
    predictions: what was said of all images.
    class_names: names of the C classes.
    metrics: 'loss', 'top1', 'top5' and 'count', from `normalize_metrics`.
  """
  targets, logits = predictions.targets, predictions.logits
  precisions = compute_average_precisions(logits, targets)
  found = measure_decisions(decide(predictions.probabilities), targets)
  return {
    'mean_average_precision': compute_mean_average_precision(logits, targets),
    **metrics,
    'micro_f1': found.micro_f1,
    'macro_f1': found.macro_f1,
    'per_class': [
      {
        'class': class_names[label],
        'count': int(found.support[label]),
        'average_precision': float(precisions[label]),
        'precision': float(found.precision[label]),
        'recall': float(found.recall[label]),
        'f1': float(found.f1[label]),
      }
      for label in np.flatnonzero(found.support).tolist()
    ],
  }
