import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.evaluation import few_shot, linear_probe
from coatnet_jax.evaluation.few_shot import LeastSquaresClassifier
from tests.evaluation.painted_images import Painted, create_clusters


# More examples than features, and fewer: two ways to the same weights.
@pytest.mark.parametrize(('num_examples', 'width'), [(60, 5), (12, 40)])
def test_least_squares_minimise_what_they_say(num_examples, width):
  features, labels = create_clusters(num_examples, 3, width)
  classifier = LeastSquaresClassifier(features, labels, 3, l2_penalty=2.0)
  x = (features - features.mean(0)) / (features.std(0) + 1e-5)
  x = np.hstack([x, np.full((num_examples, 1), 100.0)]).astype(np.float64)
  y = np.where(labels[:, None] == np.arange(3), 1.0, -1.0)
  # Ridge regression is least squares with a row for each weight.
  rows = np.vstack([x, np.sqrt(2.0) * np.eye(width + 1)])
  targets = np.vstack([y, np.zeros((width + 1, 3))])
  expected = np.linalg.lstsq(rows, targets, rcond=None)[0]
  np.testing.assert_allclose(
    classifier.scores(features), x @ expected, atol=2e-5
  )


def test_clusters_are_told_apart_by_a_few_examples():
  features, labels = create_clusters(200, 4, 16)
  # As many of each class: the bias is hardly penalised, the rest is.
  rows = np.concatenate([np.flatnonzero(labels == c)[:5] for c in range(4)])
  classifier = LeastSquaresClassifier(features[rows], labels[rows], 4)
  others, truth = create_clusters(200, 4, 16, seed=1)
  assert (classifier.scores(others).argmax(-1) == truth).mean() > 0.95


def _source(counts):
  labels = [c for c, count in enumerate(counts) for _ in range(count)]
  return Painted(labels, labels, class_names=tuple('abcdefg'[: len(counts)]))


def test_as_many_of_every_class_are_chosen():
  source = _source([9, 4, 30])
  chosen, ranks = few_shot.choose_examples(source, 4, seed=3)
  labels = np.array(source.labels)[chosen]
  assert len(set(chosen.tolist())) == 12
  np.testing.assert_array_equal(np.bincount(labels), [4, 4, 4])
  for label in range(3):
    np.testing.assert_array_equal(ranks[labels == label], range(4))
  fewer, _ = few_shot.choose_examples(source, 2, seed=3)
  assert set(fewer.tolist()) == set(chosen[ranks < 2].tolist())
  other, _ = few_shot.choose_examples(source, 4, seed=4)
  assert set(other.tolist()) != set(chosen.tolist())


def test_a_class_with_too_few_images_is_named():
  with pytest.raises(UserError, match=r"class 'b' has 3 images; for 4 shots"):
    few_shot.choose_examples(_source([5, 3, 4]), 4, seed=0)


def _run(data_options):
  return {
    'data': data_options(),
    'batch_size': 8,
    'report_undecodable': print,
  }


def test_few_shots_of_pictures(create_trained, data_options):
  # The features of class c are (10 c, 0): one number tells three apart, by a
  # line through them only the outer two.
  labels = [0, 1] * 10
  train = Painted(labels, [10 * c for c in labels], class_names=('x', 'y'))
  seen = [0, 10, 2, 9, 12]
  evaluated = Painted([0, 1, 0, 1, 0], seen, class_names=('x', 'y'))
  result = few_shot.evaluate_few_shot(
    create_trained(tuple('abcdefg')),
    train,
    evaluated,
    shots=(1, 5),
    seeds=(0, 1),
    **_run(data_options),
  )
  assert result['count'] == 5
  assert result['seeds'] == [0, 1]
  assert [one['shots'] for one in result['shots']] == [1, 5]
  for one in result['shots']:
    assert one['top1_by_seed'] == [0.8, 0.8]
    assert one['top1'] == 0.8
    assert one['top1_std'] == 0


def test_so_many_shots_are_so_many(create_trained, data_options, monkeypatch):
  fitted = []
  fit = few_shot.LeastSquaresClassifier

  def record(features, labels, num_classes):
    fitted.append(np.bincount(labels, minlength=num_classes).tolist())
    return fit(features, labels, num_classes)

  monkeypatch.setattr(few_shot, 'LeastSquaresClassifier', record)
  few_shot.evaluate_few_shot(
    create_trained(tuple('abcdefg')),
    Painted([0, 1] * 10, [0, 10] * 10, class_names=('x', 'y')),
    Painted([0, 1], [0, 10], class_names=('x', 'y')),
    shots=(1, 3, 8),
    seeds=(0,),
    **_run(data_options),
  )
  assert fitted == [[1, 1], [3, 3], [8, 8]]


def test_the_spread_is_that_of_a_sample_of_choices(
  create_trained, data_options
):
  # Half of class x looks like 0 and half like 20: one example is not enough.
  labels = [0, 1] * 10
  shown = [[0, 20][i // 2 % 2] if i % 2 == 0 else 10 for i in range(20)]
  result = few_shot.evaluate_few_shot(
    create_trained(tuple('abcdefg')),
    Painted(labels, shown, class_names=('x', 'y')),
    Painted([0, 0, 1, 1, 1], [0, 1, 10, 12, 19], class_names=('x', 'y')),
    shots=(1,),
    seeds=range(5),
    **_run(data_options),
  )
  (one,) = result['shots']
  assert len(set(one['top1_by_seed'])) > 1
  assert one['top1'] == pytest.approx(np.mean(one['top1_by_seed']))
  assert one['top1_std'] == pytest.approx(np.std(one['top1_by_seed'], ddof=1))


def test_what_cannot_be_decoded_is_replaced(create_trained, data_options):
  labels = [0, 1] * 61
  shown = list(labels)
  # The first that is chosen of its class.
  chosen, ranks = few_shot.choose_examples(
    Painted(labels, shown, class_names=('x', 'y')), 60, seed=0
  )
  (bad, _) = chosen[ranks == 0]
  shown[bad] = None
  named = []
  run = {**_run(data_options), 'report_undecodable': named.append}
  features, found, ranks = few_shot.compute_shots(
    create_trained(tuple('abcdefg')),
    Painted(labels, shown, class_names=('x', 'y')),
    60,
    0,
    **run,
  )
  assert named == [f'picture {bad}: not an image']
  np.testing.assert_array_equal(np.bincount(found), [60, 60])
  np.testing.assert_array_equal(features[:, 0], found)
  np.testing.assert_array_equal(np.bincount(ranks), [2] * 60)


def test_splits_of_other_classes_are_refused(create_trained, data_options):
  for evaluate in (
    few_shot.evaluate_few_shot,
    linear_probe.evaluate_linear_probe,
  ):
    shots = (
      {}
      if evaluate.__name__ == 'evaluate_linear_probe'
      else {
        'shots': (1,),
        'seeds': (0,),
      }
    )
    with pytest.raises(UserError, match='different classes'):
      evaluate(
        create_trained(tuple('ab')),
        _source([2, 2]),
        _source([2, 2, 2]),
        **shots,
        **_run(data_options),
      )
