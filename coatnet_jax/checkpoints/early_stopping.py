"""When a run ends before its last step, as its evaluations get no better.

What is counted is in every checkpoint, so that a run which is resumed stops
where it would have stopped.
"""

import dataclasses
from collections.abc import Mapping

from coatnet_jax.checkpoints.metadata import Progress
from coatnet_jax.checkpoints.quality import compute_quality
from coatnet_jax.strict_json import is_finite


class EarlyStopping:
  """Counts the evaluations since the best one.

  Attributes:
    is_due: whether the run is to end.
  """

  def __init__(self, patience: int, best_metric: str, progress: Progress):
    """Goes on from what a checkpoint says.

    Args:
      patience: number of evaluations in a row that are not better than the best
        one, after which the run ends; 0 for never.
      best_metric: measure that decides, of `quality.BEST_METRICS`.
      progress: progress of the checkpoint, which does not count its own
        evaluation.
    """
    self._patience = patience
    self._best_metric = best_metric
    if progress.best_metric != best_metric:
      progress = Progress()  # What was counted was another measure.
    self._best_step = progress.best_step
    self._best_measure = progress.best_measure
    self._count = progress.stale_evaluations

  @property
  def is_due(self) -> bool:
    """Whether there were so many evaluations since the best."""
    return 0 < self._patience <= self._count

  def update(self, step: int, metrics: Mapping[str, float]) -> None:
    """Counts an evaluation; one that is as good as the best is not better.

    Args:
      step: step that was evaluated.
      metrics: measures of the evaluation; where one is not finite, it is not
        better.
    """
    self._count += 1
    if not is_finite(metrics) or self._best_metric not in metrics:
      return
    best = {self._best_metric: self._best_measure}
    if not self._best_step or compute_quality(
      metrics, self._best_metric
    ) > compute_quality(best, self._best_metric):
      self._best_step, self._count = step, 0
      self._best_measure = metrics[self._best_metric]

  def add_to(self, progress: Progress) -> Progress:
    """Returns a progress that says what was counted so far."""
    return dataclasses.replace(
      progress,
      best_metric=self._best_metric,
      best_step=self._best_step,
      best_measure=self._best_measure,
      stale_evaluations=self._count,
    )

  def describe(self) -> str:
    """Returns why a run ends, in a line for people."""
    evaluations = f'{self._count} evaluation' + 's' * (self._count != 1)
    if not self._best_step:
      return f'{evaluations} without finite numbers'
    return (
      f'{self._best_metric} has not become better than'
      f' {self._best_measure:.4g}, of step {self._best_step:,}, in'
      f' {evaluations}'
    )
