"""Balanced sampling: each class equally often, by seed and place alone."""

import pickle

import numpy as np
import pytest

from coatnet_jax.data.batching import create_train_batches
from coatnet_jax.data.sampling import BalancedIndices, find_class_counts
from coatnet_jax.errors import UserError
from tests.wiring.pictures import Pictures, level

LABELS = np.array([0] * 20 + [1] * 3 + [3] * 7)


def _take(indices, start, end):
  return [indices[place] for place in range(start, end)]


def test_each_round_has_each_class_that_there_is_once():
  chosen = LABELS[_take(BalancedIndices(LABELS, seed=1), 0, 300)]
  rounds = chosen.reshape(100, 3)
  assert (np.sort(rounds, axis=1) == [0, 1, 3]).all()
  # In all orders, so that a neighbour in the batch is of any class.
  assert len({tuple(row) for row in rounds.tolist()}) == 6


def test_all_of_a_class_come_up_before_one_does_again():
  chosen = np.array(_take(BalancedIndices(LABELS, seed=1), 0, 3 * 40))
  for label, size in ((0, 20), (1, 3), (3, 7)):
    of_class = chosen[LABELS[chosen] == label]
    orders = set()
    for epoch in range(40 // size):
      part = of_class[epoch * size : (epoch + 1) * size]
      assert sorted(part) == np.flatnonzero(label == LABELS).tolist()
      orders.add(tuple(part))
    assert len(orders) > 1


def test_what_is_at_a_place_depends_on_seed_and_place_alone():
  indices = BalancedIndices(LABELS, seed=5)
  expected = _take(indices, 0, 90)
  other = pickle.loads(pickle.dumps(indices))
  places = np.random.default_rng(0).permutation(90)
  assert [other[int(p)] for p in places] == [expected[p] for p in places]
  assert _take(BalancedIndices(LABELS, seed=6), 0, 90) != expected
  assert list(BalancedIndices(LABELS, seed=5)[30:60]) == expected[30:60]


def test_examples_without_a_label_are_left_out():
  labels = np.array([0, -1, 1, -1])
  assert set(_take(BalancedIndices(labels, seed=0), 0, 20)) == {0, 2}
  with pytest.raises(ValueError, match='no example with a label'):
    BalancedIndices(np.array([-1]), seed=0)


def test_classes_are_counted_and_checked():
  source = Pictures([level(number) for number in range(6)])
  assert find_class_counts(source).tolist() == [2, 2, 1, 1]
  source.class_names = ('a', 'b')
  with pytest.raises(
    UserError, match=r'label of .* is 3; it must be in 0 .. 1'
  ):
    find_class_counts(source)


@pytest.fixture
def read(data_options, preprocessing, augmentation):
  """Returns a function: options of the data to labels and images of steps."""
  # Of 14 pictures three are of the class 3, of 16 of others four.
  source = Pictures([level(number) for number in (*range(8), *[8, 12, 16] * 2)])

  def read_batches(start_step=0, shards=(0,), num_shards=1, **options):
    batches = create_train_batches(
      source,
      data=data_options(sampling='balanced', **options),
      preprocessing=preprocessing(image_size=(8, 8)),
      augmentation=augmentation(),
      global_batch_size=8,
      seed=3,
      start_step=start_step,
      shards=shards,
      num_shards=num_shards,
    )
    try:
      return [next(batches) for _ in range(6 - start_step)]
    finally:
      batches.close()

  return read_batches


@pytest.mark.parametrize(
  'changes',
  [
    {'num_threads': 0},
    pytest.param({'num_workers': 2}, marks=pytest.mark.slow),
  ],
)
def test_batches_are_balanced_and_the_same_wherever_they_begin(read, changes):
  expected = read(num_threads=4)
  labels = np.concatenate([batch['label'] for batch in expected])
  assert np.bincount(labels).tolist() == [12] * 4
  for start in (0, 3):
    for one, other in zip(
      read(start, **changes), expected[start:], strict=True
    ):
      for name in ('image', 'label'):
        np.testing.assert_array_equal(one[name], other[name])


def test_processes_read_parts_of_the_same_batches(read):
  expected = read()
  parts = [read(shards=(shard,), num_shards=2) for shard in (0, 1)]
  for whole, first, second in zip(expected, *parts, strict=True):
    for name in ('image', 'label'):
      both = np.concatenate([first[name], second[name]])
      np.testing.assert_array_equal(both, whole[name])
