"""Which checkpoints are kept, and when one is due: Orbax's policies, ours."""

import datetime
import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from coatnet_jax.checkpoints.quality import find_best_evaluation

_clock = time.monotonic
_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


class NewestAndBest(policies.PreservationPolicy):
  """Keeps the newest checkpoints, and that of the best evaluation."""

  def __init__(
    self,
    evaluations: dict[int, Mapping[str, float]],
    *,
    max_to_keep: int,
    best_metric: str,
  ):
    """Keeps what the evaluations until now tell to.

    Args:
      evaluations: metrics of every step that was evaluated; may be added to.
      max_to_keep: number of newest checkpoints that are kept.
      best_metric: name of the metric that says which is the best.
    """
    self.evaluations = evaluations
    self._max_to_keep = max_to_keep
    self._best_metric = best_metric

  def should_preserve(self, checkpoints, *, context) -> list[bool]:
    """Returns which checkpoints are kept; see the base class."""
    steps = [checkpoint.step for checkpoint in checkpoints]
    kept = self.find_kept(steps)
    return [step in kept for step in steps]

  def find_kept(self, steps: Collection[int]) -> set[int]:
    """Returns which of some steps are kept."""
    evaluated = {s: self.evaluations[s] for s in steps if s in self.evaluations}
    best = find_best_evaluation(evaluated, self._best_metric)
    kept = {*sorted(steps)[-self._max_to_keep :]}
    return kept if best is None else kept | {best}


class Checkpoints(ocp.CheckpointManager):
  """Orbax's manager, with evaluations that come after a step is saved."""

  def __init__(self, *args: Any, retention: NewestAndBest, **options: Any):
    """Takes what the base class does, and which checkpoints are kept."""
    super().__init__(*args, **options)
    self._retention = retention

  @property
  def evaluations(self) -> dict[int, Mapping[str, float]]:
    """The metrics of every step that was evaluated, by step."""
    return self._retention.evaluations

  def reached_preemption(self, step: int) -> bool:
    """Returns False: it is the loop that asks, once for each moment.

    JAX counts who asks how often, and Orbax would ask for steps.
    """
    return False

  def remove_old(self) -> None:
    """Removes what is not kept; on all processes.

    Saving does so too, when the evaluations until then are known.
    """
    steps = set(self.all_steps())
    for step in sorted(steps - self._retention.find_kept(steps)):
      self.delete(step)


class EverySeconds(policies.ContinuousCheckpointingPolicy):
  """Orbax's policy by time, with a clock that nobody sets.

  Orbax compares the host's time with that of the newest checkpoint's files: a
  host that was ahead when it wrote them would not save for as long.
  """

  _newest: int | None = None
  _seen: float = 0.0

  def should_save(self, step, previous_steps, *, context) -> bool:
    """Returns whether a checkpoint is due; see the base class."""
    newest, now = max((s.step for s in previous_steps), default=None), _clock()
    if newest != self._newest:
      self._newest, self._seen = newest, now
    return super().should_save(
      _Moment(step.step, None, _EPOCH + datetime.timedelta(seconds=now)),
      []
      if newest is None
      else [
        _Moment(newest, None, _EPOCH + datetime.timedelta(seconds=self._seen))
      ],
      context=context,
    )


class _Moment(NamedTuple):
  """When a step was taken: Orbax's `PolicyCheckpointInfo`."""

  step: int
  metrics: None
  time: datetime.datetime
