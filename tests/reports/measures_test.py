"""Figures by class, and their intervals, against scikit-learn and SciPy."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics

from coatnet_jax.reports import measures
from tests.reports.examples import draw_outcomes, judge


@pytest.mark.parametrize('num_classes', [2, 10, 20])
def test_classes_are_measured_as_scikit_learn_does(num_classes):
  outcomes = draw_outcomes(500, num_classes)
  found = measures.measure_classes(outcomes)
  expected = metrics.precision_recall_fscore_support(
    outcomes.labels,
    outcomes.predicted,
    labels=range(num_classes),
    zero_division=np.nan,
  )
  for name, value in zip(('precision', 'recall', 'f1', 'support'), expected):
    np.testing.assert_allclose(getattr(found, name), value, rtol=1e-12)
  assert np.isnan(found.recall[-1])
  assert found.support[-1] == 0
  occurs = np.unique(outcomes.labels)
  assert measures.compute_macro_f1(found) == pytest.approx(
    metrics.f1_score(
      outcomes.labels, outcomes.predicted, labels=occurs, average='macro'
    )
  )
  confusions = measures.count_confusions(outcomes)
  expected = metrics.confusion_matrix(
    outcomes.labels, outcomes.predicted, labels=range(num_classes)
  )
  np.testing.assert_array_equal(confusions[:, :-1], expected)
  assert not confusions[:, -1].any()


def test_curves_are_those_of_scikit_learn():
  outcomes = draw_outcomes(300, 5)
  # Rounded, so that many are equal.
  scores = outcomes.probabilities.round(1)
  outcomes = dataclasses.replace(outcomes, probabilities=scores)
  *found, absent = measures.measure_detections(outcomes)
  assert absent is None  # It has no examples.
  for label, one in enumerate(found):
    is_class = outcomes.labels == label
    assert one.auc == pytest.approx(
      metrics.roc_auc_score(is_class, scores[:, label])
    )
    assert one.average_precision == pytest.approx(
      metrics.average_precision_score(is_class, scores[:, label])
    )
    rate, recall, _ = metrics.roc_curve(
      is_class, scores[:, label], drop_intermediate=False
    )
    np.testing.assert_allclose(one.false_positive_rate, rate)
    np.testing.assert_allclose(one.recall, recall)
    precision, _, _ = metrics.precision_recall_curve(is_class, scores[:, label])
    # From the lowest threshold on, and 1 at the end where ours has the first.
    np.testing.assert_allclose(one.precision[:0:-1], precision[:-1])


def test_what_is_nan_is_wrong_and_no_prediction():
  scores = np.array([[0.9, 0.1], [np.nan, np.nan], [0.2, 0.8]], np.float32)
  outcomes, _ = judge(scores, np.array([0, 0, 1]))
  found = measures.measure_classes(outcomes)
  assert found.predicted.tolist() == [1, 1]
  assert found.recall.tolist() == [0.5, 1.0]
  assert measures.count_confusions(outcomes).tolist() == [[1, 0, 1], [0, 1, 0]]
  assert measures.measure_detections(outcomes) == [None, None]
  low, high = measures.find_intervals(outcomes)['loss']
  assert np.isnan([low, high]).all()
  assert 0 <= measures.find_intervals(outcomes)['top1'][0] < 1


def test_wilsons_interval_is_scipys():
  hits, counts = np.array([0, 5, 17, 200, 0]), np.array([3, 5, 40, 1000, 0])
  found = measures.compute_wilson(hits, counts)
  for place, (hit, count) in enumerate(zip(hits[:-1], counts)):
    interval = scipy.stats.binomtest(hit, count).proportion_ci(method='wilson')
    np.testing.assert_allclose(found[:, place], list(interval), atol=1e-12)
  assert np.isnan(found[:, -1]).all()


def test_intervals_are_those_of_scipys_bootstrap():
  outcomes = draw_outcomes(400, 3)
  found = measures.find_intervals(outcomes)
  assert found == measures.find_intervals(outcomes)  # The same every time.
  for name, values in (('top1', outcomes.hits), ('loss', outcomes.losses)):
    expected = scipy.stats.bootstrap(
      (values.astype(float),),
      np.mean,
      n_resamples=2000,
      method='percentile',
      rng=np.random.default_rng(1),
    )
    width = expected.confidence_interval.high - expected.confidence_interval.low
    np.testing.assert_allclose(
      found[name], list(expected.confidence_interval), atol=0.08 * width
    )

  def compute_f1(labels, predicted):
    # The classes that have examples.
    return metrics.f1_score(labels, predicted, labels=[0, 1], average='macro')

  expected = scipy.stats.bootstrap(
    (outcomes.labels, outcomes.predicted),
    compute_f1,
    paired=True,
    vectorized=False,
    n_resamples=200,
    method='percentile',
    rng=np.random.default_rng(1),
  ).confidence_interval
  np.testing.assert_allclose(found['macro_f1'], list(expected), atol=0.015)
  balanced = found['mean_class_accuracy']
  recalls = measures.measure_classes(outcomes).recall[:-1]
  assert balanced[0] < recalls.mean() < balanced[1]


def test_an_interval_holds_the_truth_as_often_as_it_says(monkeypatch):
  # Of a model that is right with probability 0.8, whose loss has the mean 1.
  monkeypatch.setattr(measures, '_MAX_RESAMPLES', 400)
  rng = np.random.default_rng(5)
  held = {'top1': 0, 'loss': 0}
  trials = 300
  for _ in range(trials):
    outcomes = draw_outcomes(150, 2, labels=np.arange(150) % 2)
    hits = rng.random(150) < 0.8
    outcomes = dataclasses.replace(
      outcomes,
      hits=hits,
      predicted=np.where(hits, outcomes.labels, 1 - outcomes.labels),
      losses=rng.exponential(size=150),
    )
    found = measures.find_intervals(outcomes)
    for name, truth in (('top1', 0.8), ('loss', 1.0)):
      low, high = found[name]
      held[name] += low <= truth <= high
  # 95 %, within three deviations of so many trials, and less what percentiles
  # of a skewed distribution lack.
  for count in held.values():
    assert 0.90 <= count / trials <= 0.985


@pytest.mark.parametrize(
  ('num_examples', 'number'),
  [(1, 1000), (100_000, 1000), (200_000, 500), (10**7, 100)],
)
def test_resamples_are_fewer_where_they_are_long(num_examples, number):
  assert measures.count_resamples(num_examples) == number


def test_resamples_are_drawn_a_part_at_a_time(monkeypatch):
  outcomes = draw_outcomes(50, 3)
  whole = measures.find_intervals(outcomes)
  monkeypatch.setattr(measures, '_DRAWS_AT_A_TIME', 60)
  parts = measures.find_intervals(outcomes)
  assert parts == whole


def test_classes_take_memory_as_examples_do(monkeypatch):
  numbers, draw_weights = [], measures._draw_weights

  def draw(rng, number, num_examples):
    numbers.append(number)
    return draw_weights(rng, number, num_examples)

  monkeypatch.setattr(measures, '_draw_weights', draw)
  monkeypatch.setattr(measures, '_DRAWS_AT_A_TIME', 60_000)
  measures.find_intervals(draw_outcomes(5, 100))
  assert numbers == [200] * 5
