"""How far a pass over batches runs ahead of what is read of it."""

import numpy as np

from coatnet_jax.evaluation.dispatch import read_behind


def test_results_come_in_order_with_two_batches_in_flight():
  dispatched, waiting = [], []

  def compute():
    for number in range(6):
      dispatched.append(number)
      yield {'number': np.array(number)}

  for index, result in enumerate(read_behind(compute())):
    assert result['number'] == index
    waiting.append(len(dispatched) - index - 1)
  assert waiting == [2, 2, 2, 2, 1, 0]


def test_fewer_batches_than_are_in_flight():
  assert [*read_behind(iter([{'number': np.array(7)}]))] == [{'number': 7}]
  assert [*read_behind(iter([]))] == []
