import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.evaluation import measures
from coatnet_jax.evaluation.measures import Predictions, Tally


def _predictions(labels, classes, confidences=None, losses=None, valid=None):
  n = len(labels)
  return Predictions(
    indices=np.arange(n),
    labels=np.array(labels, np.int32),
    classes=np.array(classes, np.int32).reshape(n, -1),
    confidences=np.array(confidences or [0.5] * n, np.float32),
    losses=np.array(losses or [1.0] * n, np.float32),
    valid=np.array(valid or [True] * n, bool),
    probabilities=np.zeros((n, 0), np.float32),
  )


def _tally(predictions, num_classes, hits=None):
  tally = Tally(num_classes)
  if hits is None:
    hits = measures.find_single_label_hits(predictions)
  tally.update(predictions, hits)
  return tally


def test_calibration_error_by_hand():
  # Bins of 1/15: 0.9 is in the 14th with two examples, 0.3 in the 5th.
  bins = measures.bin_confidences(
    np.array([0.9, 0.9, 0.3, 0.3]), np.array([True, False, False, False])
  )
  assert bins[0, 13] == 2
  assert bins[0, 4] == 2
  # (2 * |0.5 - 0.9| + 2 * |0 - 0.3|) / 4
  assert measures.compute_calibration_error(bins) == pytest.approx(0.35)


def test_too_sure_and_too_unsure_do_not_cancel():
  # 0.9 is right half the time, and 0.1 too.
  bins = measures.bin_confidences(
    np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, False, True, False])
  )
  assert measures.compute_calibration_error(bins) == pytest.approx(0.4)


def test_calibration_error_is_that_of_a_loop_over_bins():
  rng = np.random.default_rng(0)
  confidences = rng.random(5000).astype(np.float32)
  hits = rng.random(5000) < confidences**2
  expected = 0.0
  for k in range(15):
    inside = (confidences > k / 15) & (confidences <= (k + 1) / 15)
    if inside.any():
      gap = abs(hits[inside].mean() - confidences[inside].mean())
      expected += inside.mean() * gap
  result = measures.compute_calibration_error(
    measures.bin_confidences(confidences, hits)
  )
  assert result == pytest.approx(expected, rel=1e-5)
  assert 0.1 < result < 0.25  # Of x - x**2 the mean is 1/6.


@pytest.mark.parametrize(
  ('confidence', 'expected'), [(0.0, 0), (1.0, 14), (0.2, 2), (0.20001, 3)]
)
def test_a_bin_has_its_upper_end(confidence, expected):
  bins = measures.bin_confidences(np.array([confidence]), np.array([True]))
  np.testing.assert_array_equal(np.flatnonzero(bins[0]), [expected])


def test_a_network_that_says_nan_has_no_calibration():
  predictions = _predictions([0], [[0]], confidences=[np.nan], valid=[False])
  summary = _tally(predictions, 2).summarize()
  assert np.isnan(summary['calibration_error'])
  assert summary['top1'] == summary['top5'] == 0


def test_accuracies_are_those_of_a_loop():
  rng = np.random.default_rng(1)
  labels = rng.integers(0, 7, 300)
  classes = np.array([rng.permutation(7)[:5] for _ in range(300)])
  losses = rng.random(300)
  tally = Tally(8)  # One class does not occur.
  for part in np.array_split(np.arange(300), 7):
    predictions = _predictions(
      labels[part], classes[part], losses=losses[part].tolist()
    )
    tally.update(predictions, measures.find_single_label_hits(predictions))
  summary = tally.summarize()
  right = classes[:, 0] == labels
  assert summary['count'] == 300
  assert summary['top1'] == right.mean()
  assert summary['top5'] == np.mean([a in b for a, b in zip(labels, classes)])
  assert summary['loss'] == pytest.approx(losses.mean(), rel=1e-6)
  by_class = [right[labels == c].mean() for c in range(7)]
  assert summary['mean_class_accuracy'] == pytest.approx(np.mean(by_class))
  names = tuple('abcdefgh')
  assert [one['class'] for one in tally.per_class(names)] == list('abcdefg')
  np.testing.assert_allclose(
    [one['top1'] for one in tally.per_class(names)], by_class
  )
  pairs = {}
  for true, predicted in zip(labels[~right], classes[~right, 0]):
    pairs[true, predicted] = pairs.get((true, predicted), 0) + 1
  assert tally.confusions == pairs


def test_the_most_confused_pairs_come_first():
  predictions = _predictions(
    [0, 0, 0, 1, 1, 2, 2], [[1], [1], [0], [0], [1], [0], [1]]
  )
  tally = _tally(predictions, 3)
  assert tally.most_confused('abc', 3) == [
    {'true': 'a', 'predicted': 'b', 'count': 2, 'share': 2 / 3},
    {'true': 'b', 'predicted': 'a', 'count': 1, 'share': 1 / 2},
    {'true': 'c', 'predicted': 'a', 'count': 1, 'share': 1 / 2},
  ]


def test_nan_is_wrong_and_confuses_nothing():
  predictions = _predictions([1, 0], [[1], [1]], valid=[False, True])
  tally = _tally(predictions, 2)
  assert tally.summarize()['top1'] == 0
  assert tally.confusions == {(0, 1): 1}


def test_any_of_several_labels_is_right():
  predictions = _predictions(
    [0, 1, 2], [[4, 0], [3, 1], [2, 0]], valid=[True, True, False]
  )
  hits = measures.find_multi_label_hits(predictions, [[3, 4], [1, 5], [2]])
  np.testing.assert_array_equal(
    hits, [[True, False], [False, True], [False, False]]
  )


def test_no_labels_at_all_make_an_empty_array():
  predictions = _predictions([0], [[0, 1]]).take(np.array([False]))
  assert measures.find_multi_label_hits(predictions, []).shape == (0, 2)


def test_no_examples_are_a_sentence():
  with pytest.raises(UserError, match='no examples'):
    Tally(3).summarize()


def test_mean_corruption_error_by_hand():
  by_corruption, mean = measures.compute_mean_corruption_error(
    {'fog': [0.1, 0.3], 'snow': [0.5, 0.5]}, {'fog': 0.4, 'snow': 0.5}
  )
  # The mean of the sums' ratios, not of the ratios.
  assert by_corruption == pytest.approx({'fog': 0.5, 'snow': 1.0})
  assert mean == pytest.approx(0.75)
