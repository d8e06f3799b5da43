"""Average precision, against a definition that goes over all thresholds."""

import numpy as np
import pytest

from coatnet_jax.evaluation.average_precision import (
  compute_average_precision,
  compute_mean_average_precision,
)


def _by_thresholds(scores, targets):
  total, before = 0.0, 0.0
  for threshold in sorted(set(scores.tolist()), reverse=True):
    chosen = scores >= threshold
    recall = targets[chosen].sum() / targets.sum()
    total += (recall - before) * targets[chosen].mean()
    before = recall
  return total


@pytest.mark.parametrize('num_levels', [3, 1000])
def test_it_is_the_area_over_all_thresholds(num_levels):
  rng = np.random.default_rng(num_levels)
  for _ in range(20):
    scores = rng.integers(0, num_levels, 40) / num_levels
    targets = rng.integers(0, 2, 40)
    targets[0] = 1
    assert compute_average_precision(scores, targets) == pytest.approx(
      _by_thresholds(scores, targets)
    )


def test_it_is_scikit_learns():
  metrics = pytest.importorskip('sklearn.metrics')
  rng = np.random.default_rng(0)
  scores = rng.normal(size=(50, 4)).round(1)
  targets = rng.integers(0, 2, (50, 4))
  assert compute_mean_average_precision(scores, targets) == pytest.approx(
    metrics.average_precision_score(targets, scores)
  )


def test_classes_that_do_not_occur_do_not_count():
  scores = np.array([[0.9, 0.2], [0.1, 0.8]])
  targets = np.array([[1.0, 0.0], [0.0, 0.0]])
  assert compute_mean_average_precision(scores, targets) == 1.0
  assert np.isnan(compute_mean_average_precision(scores, 0 * targets))


def test_a_score_that_is_no_number_is_the_lowest():
  scores, targets = np.array([np.nan, 0.5, 0.4]), np.array([1, 0, 0])
  assert compute_average_precision(scores, targets) == pytest.approx(1 / 3)
  assert np.isnan(compute_average_precision(scores, 0 * targets))
