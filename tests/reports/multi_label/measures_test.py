"""Figures of several labels, and their intervals, by scikit-learn and SciPy."""

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics

from coatnet_jax.reports.measures import compute_wilson
from coatnet_jax.reports.multi_label import measures
from tests.reports.multi_label.examples import draw_labels, judge_labels


def test_classes_are_measured_as_scikit_learn_does():
  outcomes, figures = draw_labels(300, 6)
  found = measures.measure_labels(outcomes)
  said = outcomes.logits >= 0
  expected = metrics.precision_recall_fscore_support(
    outcomes.targets, said, zero_division=np.nan
  )
  assert np.isnan(found.recall[-1])
  for name, values in zip(('precision', 'recall', 'f1', 'support'), expected):
    np.testing.assert_allclose(getattr(found, name), values, err_msg=name)
  for label in range(5):
    assert found.average_precision[label] == pytest.approx(
      metrics.average_precision_score(
        outcomes.targets[:, label], outcomes.logits[:, label]
      )
    )
  assert np.isnan(found.average_precision[-1])
  assert (
    found.micro_f1
    == figures['micro_f1']
    == pytest.approx(metrics.f1_score(outcomes.targets, said, average='micro'))
  )
  assert (
    found.macro_f1
    == figures['macro_f1']
    == pytest.approx(
      metrics.f1_score(outcomes.targets, said, labels=range(5), average='macro')
    )
  )
  hits = (said & outcomes.targets).sum(axis=0)
  for name, counts in (
    ('precision', said.sum(axis=0)),
    ('recall', outcomes.targets.sum(axis=0)),
  ):
    np.testing.assert_array_equal(
      getattr(found, f'{name}_interval'), compute_wilson(hits, counts)
    )


def test_curves_are_those_of_scikit_learn():
  outcomes, figures = draw_labels(200, 4)
  *found, absent = measures.measure_label_detections(outcomes)
  assert absent is None  # No image has it.
  for label, one in enumerate(found):
    is_class, scores = outcomes.targets[:, label], outcomes.logits[:, label]
    assert one.auc == pytest.approx(metrics.roc_auc_score(is_class, scores))
    average = figures['per_class'][label]['average_precision']
    assert one.average_precision == pytest.approx(average)
    rate, recall, _ = metrics.roc_curve(
      is_class, scores, drop_intermediate=False
    )
    np.testing.assert_allclose(one.false_positive_rate, rate)
    np.testing.assert_allclose(one.recall, recall)
  assert measures.measure_label_detections(draw_labels(50, 21)[0]) == []


def test_precision_of_a_resample_is_scikit_learns():
  outcomes, _ = draw_labels(60, 5)
  # One class has a single image, which some samples lack.
  outcomes.targets[:, 0] = False
  outcomes.targets[17, 0] = True
  rng = np.random.default_rng(3)
  weights = np.stack(
    [np.bincount(rng.integers(60, size=60), minlength=60) for _ in range(9)]
  ).astype(float)
  assert 0 < (weights[:, 17] == 0).sum() < 9
  found = measures.create_resampled_precision(outcomes)(weights)
  for weight, precision in zip(weights, found):
    expected = [
      metrics.average_precision_score(
        outcomes.targets[:, label],
        outcomes.logits[:, label],
        sample_weight=weight,
      )
      for label in range(4)
      if weight[outcomes.targets[:, label]].any()
    ]
    assert precision == pytest.approx(np.mean(expected))


def test_intervals_are_those_of_scipys_bootstrap():
  outcomes, figures = draw_labels(150, 4)
  found = measures.find_label_intervals(outcomes)
  assert found == measures.find_label_intervals(outcomes)
  rows = np.arange(150)

  def micro(some):
    said = outcomes.logits[some] >= 0
    return metrics.f1_score(outcomes.targets[some], said, average='micro')

  def macro(some):
    said = outcomes.logits[some] >= 0
    return metrics.f1_score(
      outcomes.targets[some], said, labels=range(3), average='macro'
    )

  def precision(some):
    return metrics.average_precision_score(
      outcomes.targets[some, :3], outcomes.logits[some, :3]
    )

  for name, compute in (
    ('micro_f1', micro),
    ('macro_f1', macro),
    ('mean_average_precision', precision),
  ):
    expected = scipy.stats.bootstrap(
      (rows,),
      compute,
      vectorized=False,
      n_resamples=120,
      method='percentile',
      rng=np.random.default_rng(1),
    ).confidence_interval
    width = expected.high - expected.low
    np.testing.assert_allclose(
      found[name], list(expected), atol=0.3 * width, err_msg=name
    )
    assert found[name][0] < figures[name] < found[name][1]
  for name in ('top1', 'top5', 'loss'):
    low, high = found[name]
    assert low < figures[name] < high


def test_very_many_scores_have_no_interval_of_their_precision(monkeypatch):
  outcomes, _ = draw_labels(50, 4)
  assert measures.count_label_resamples(outcomes) == 1000
  monkeypatch.setattr(measures, '_MAX_SCORES', 50 * 4 * 300)
  assert measures.count_label_resamples(outcomes) == 300
  monkeypatch.setattr(measures, '_MAX_SCORES', 1)
  assert measures.count_label_resamples(outcomes) == 100
  monkeypatch.setattr(measures, '_MOST_SCORES', 50 * 4 * 100 - 1)
  found = measures.find_label_intervals(outcomes)
  assert 'mean_average_precision' not in found
  assert 'macro_f1' in found


def test_what_is_nan_is_no_prediction():
  logits = np.array([[1.0, -2.0], [np.nan, 3.0], [-1.0, 2.0]])
  targets = np.array([[True, False], [True, True], [False, True]])
  outcomes, _ = judge_labels(logits, targets)
  assert outcomes.hits.tolist() == [True, False, True]
  assert outcomes.valid.tolist() == [True, False, True]
  found = measures.measure_labels(outcomes)
  assert found.predicted.tolist() == [1, 2]
  assert measures.measure_label_detections(outcomes) == [None, None]
