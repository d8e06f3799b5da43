"""Which of a run's evaluations is the best."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from absl import logging
from etils import epath

from coatnet_jax.checkpoints import checksums
from coatnet_jax.checkpoints.reading import try_again
from coatnet_jax.paths import write_whole
from coatnet_jax.strict_json import (
  is_finite,
  null_for_nan,
  read_mapping,
  to_json,
)

# metric name -> larger is better.
BEST_METRICS = {
  'top1': True,
  'top5': True,
  'loss': False,
  'mean_class_accuracy': True,  # Of images with one label each.
  'mean_average_precision': True,  # Of images with several labels.
}


def find_evaluations(
  directory: epath.Path,
  steps: Iterable[int],
  report: Callable[[str], None] = logging.warning,
) -> dict[int, dict[str, float]]:
  """Returns the metrics of every step that was evaluated.

  Args:
    directory: directory of the checkpoints.
    steps: steps that it has.
    report: function called with a sentence for each evaluation that cannot be
      read; its step counts as not evaluated.
  """
  evaluations = {}
  for step in steps:
    try:
      metrics = read_metrics(directory / str(step))
    except ValueError as error:
      report(f'The evaluation of step {step:,} cannot be read: {error}.')
      continue
    if metrics:
      evaluations[int(step)] = metrics
  return evaluations


def write_metrics(directory: epath.Path, metrics: Mapping[str, float]) -> None:
  """Adds the metrics of an evaluation to a checkpoint that is complete.

  They count once its checksums have them, and are whole then.

  Args:
    directory: directory of the checkpoint.
    metrics: measures of the evaluation.
  """
  path = directory / 'metrics' / 'metrics'  # As Orbax lays it out.
  path.parent.mkdir(exist_ok=True)
  write_whole(path, to_json(null_for_nan(metrics)))
  checksums.add_checksums(directory, 'metrics')


def read_metrics(directory: epath.Path) -> dict[str, float]:
  """Returns the metrics of a checkpoint's evaluation; empty without one.

  Those that were not written to their end count as none.

  Args:
    directory: directory of the checkpoint.

  Raises:
    ValueError: they cannot be read; with the reason.
  """
  if damage := checksums.find_damage(directory, ('metrics',)):
    raise ValueError(checksums.describe_damage(damage))
  path = directory / 'metrics' / 'metrics'  # As Orbax lays it out.
  if not path.parent.exists() or not checksums.is_covered(directory, 'metrics'):
    return {}
  try:
    metrics = try_again(lambda: read_mapping(path))
    return {
      name: math.nan if number is None else _check_number(number)
      for name, number in metrics.items()
    }
  except Exception as error:  # What reads buckets raises kinds of its own.
    raise ValueError(f'{path} is damaged: {error}') from error


def _check_number(number: Any) -> float:
  """Returns a number as it is; raises for another value or too large a one."""
  math.isfinite(number + 0)  # A text could be added to no number.
  return number


def find_best_evaluation(
  evaluations: Mapping[int, Mapping[str, float]], best_metric: str
) -> int | None:
  """Returns the step that evaluated best, the latest of equals.

  A step with any measure that is not finite is never the best; None where no
  other step is left.

  >>> evaluations = {100: {'top1': 0.5}, 200: {'top1': 0.7}, 300: {'top1': 0.7}}
  >>> find_best_evaluation(evaluations, 'top1')
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
    The number; -inf where any measure is not finite, or that one is missing.
  """
  if not is_finite(metrics) or best_metric not in metrics:
    return -math.inf
  sign = 1 if BEST_METRICS[best_metric] else -1
  return sign * metrics[best_metric]
