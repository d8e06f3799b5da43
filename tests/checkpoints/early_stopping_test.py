"""When evaluations have not become better for long enough."""

import math
from unittest import mock

import pytest

from coatnet_jax.checkpoints import saving
from coatnet_jax.checkpoints.early_stopping import EarlyStopping
from coatnet_jax.checkpoints.metadata import Progress


def _metrics(top1, loss=1.0):
  return {'top1': top1, 'loss': loss}


def _find_end(values, patience, metric='top1', is_resumed=False):
  """Returns the number of the evaluation that ends a run, or None."""
  progress = Progress()
  early = EarlyStopping(patience, metric, progress)
  for step, value in enumerate(values, 1):
    if is_resumed:
      early = EarlyStopping(patience, metric, early.add_to(Progress()))
    early.update(step, {**_metrics(0.5), metric: value})
    if early.is_due:
      return step
  return None


@pytest.mark.parametrize('is_resumed', [False, True])
@pytest.mark.parametrize(
  ('values', 'patience', 'metric', 'end'),
  [
    ([0.1, 0.2, 0.3, 0.3, 0.3], 2, 'top1', 5),
    ([0.1, 0.2, 0.1, 0.3, 0.2, 0.1], 2, 'top1', 6),
    ([0.3, 0.2, 0.1], 1, 'top1', 2),
    ([0.1, 0.2, 0.3], 1, 'top1', None),
    ([0.3, 0.2, 0.1, 0.1, 0.4], 2, 'loss', 5),
    ([0.5] * 9, 0, 'top1', None),
    ([math.nan, 0.1, math.nan, math.nan], 2, 'top1', 4),
    ([math.nan] * 4, 3, 'top1', 3),
    ([0.0, 0.0, 0.0], 2, 'top1', 3),
  ],
)
def test_so_many_that_are_no_better_end_a_run(
  values, patience, metric, end, is_resumed
):
  assert _find_end(values, patience, metric, is_resumed) == end


def test_another_measure_is_counted_anew():
  early = EarlyStopping(2, 'top1', Progress())
  for step in (1, 2):
    early.update(step, _metrics(0.5, loss=0.1))
  progress = early.add_to(Progress(examples_seen=7))
  assert progress.examples_seen == 7
  assert progress.stale_evaluations == 1
  other = EarlyStopping(2, 'loss', progress)
  other.update(3, _metrics(0.5, loss=9.0))
  assert other.add_to(Progress()).best_step == 3


@pytest.mark.parametrize('is_evaluated', [True, False])
def test_no_run_ends_at_a_step_that_is_not_evaluated(is_evaluated):
  """Or it would never end: a start would find nothing to do, and no end."""
  manager = mock.Mock()
  manager.all_steps.return_value = [5]
  manager.evaluations = {5: _metrics(0.1)} if is_evaluated else {}
  progress = Progress(
    best_metric='top1', best_step=1, best_measure=0.5, stale_evaluations=3
  )
  early = EarlyStopping(2, 'top1', progress)
  checkpoints = saving.StepSaver(manager, None, early)
  assert checkpoints.stops_early == is_evaluated
  # Whether it is that step, or the last one, which ends it.
  assert checkpoints.is_complete(9) == is_evaluated
  assert checkpoints.is_complete(5) == is_evaluated


def test_why_a_run_ends_is_said():
  early = EarlyStopping(1, 'top1', Progress())
  early.update(1200, _metrics(0.75))
  early.update(1300, _metrics(0.5))
  assert early.describe() == (
    'top1 has not become better than 0.75, of step 1,200, in 1 evaluation'
  )
  early = EarlyStopping(2, 'top1', Progress())
  for step in (1, 2):
    early.update(step, _metrics(math.nan))
  assert early.describe() == '2 evaluations without finite numbers'


@pytest.mark.parametrize('value', [{'best_metric': 3}, {'best_step': 'x'}])
def test_a_damaged_progress_is_none(value):
  with pytest.raises(ValueError, match='best_'):
    Progress(**value)
