"""Outcomes with several labels that are drawn."""

import numpy as np

from coatnet_jax.evaluation.multi_label import (
  LabelPredictions,
  measure_predictions,
)
from coatnet_jax.reports.multi_label.outcomes import create_label_outcomes


def draw_labels(num_images, num_classes, *, seed=0, skill=2.0, names=None):
  """Returns outcomes of random logits, larger for labels, and the figures.

  Logits are rounded, so that many are equal; no image has the last class.
  """
  rng = np.random.default_rng(seed)
  targets = rng.random((num_images, num_classes)) < 0.3
  targets[:, -1] = False
  logits = rng.normal(size=targets.shape) + skill * (targets - 0.5)
  return judge_labels(logits.round(1), targets, names)


def judge_labels(logits, targets, names=None):
  """Returns outcomes of logits [n, C], and the figures."""
  logits = logits.astype(np.float32)
  num_classes = logits.shape[1]
  names = names or tuple(f'class {number}' for number in range(num_classes))
  with np.errstate(invalid='ignore'):  # Of NaN.
    losses = (np.logaddexp(0, logits) - targets * logits).sum(axis=1)
  order = np.argsort(-logits, axis=1, kind='stable')
  predictions = LabelPredictions(
    indices=np.arange(len(logits)),
    targets=targets,
    logits=logits,
    probabilities=1 / (1 + np.exp(-logits)),
    classes=order[:, :5].astype(np.int32),
    losses=losses,
    valid=~np.isnan(logits).any(axis=1),
  )
  outcomes = create_label_outcomes(predictions, names)
  ranked = np.take_along_axis(targets, order, axis=1)
  ranked &= predictions.valid[:, None]
  metrics = {
    'loss': float(losses.mean()),
    'top1': float(ranked[:, 0].mean()),
    'top5': float(ranked[:, :5].any(axis=1).mean()),
    'count': len(logits),
  }
  figures = measure_predictions(predictions, names, metrics)
  return outcomes, {**figures, 'undecodable': 0}
