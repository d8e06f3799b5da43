"""Which of a run's evaluations is the best."""

import math
from collections.abc import Mapping

import orbax.checkpoint as ocp

from coatnet_jax.strict_json import is_finite

# metric name -> larger is better.
BEST_METRICS = {'top1': True, 'top5': True, 'loss': False}


def find_evaluations(
  manager: ocp.CheckpointManager,
) -> dict[int, dict[str, float]]:
  """Returns the metrics of every kept step that was evaluated."""
  metrics = {int(step): manager.metrics(step) for step in manager.all_steps()}
  return {
    step: {name: math.nan if n is None else n for name, n in m.items()}
    for step, m in metrics.items()
    if m
  }


def best_evaluation(
  evaluations: Mapping[int, Mapping[str, float]], best_metric: str
) -> int | None:
  """Returns the step that evaluated best, the latest of equals.

  A step with any measure that is not finite is never the best; None where no
  other step is left.

  >>> evaluations = {100: {'top1': 0.5}, 200: {'top1': 0.7}, 300: {'top1': 0.7}}
  >>> best_evaluation(evaluations, 'top1')
  300
  """
  finite = [step for step in evaluations if is_finite(evaluations[step])]
  return max(
    finite,
    key=lambda step: (compute_quality(evaluations[step], best_metric), step),
    default=None,
  )


def compute_quality(
  metrics: Mapping[str, float | None], best_metric: str
) -> float:
  """Returns a number that is larger the better an evaluation is.

  Args:
    metrics: measures of the evaluation.
    best_metric: name of the one that decides, of `BEST_METRICS`.

  Returns:
    The number; -inf where any measure is not finite.
  """
  if not is_finite(metrics):
    return -math.inf
  sign = 1 if BEST_METRICS[best_metric] else -1
  return sign * metrics[best_metric]
