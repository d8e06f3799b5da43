"""Sums and means counted by hand, padding, ties and diverged networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.training import metrics


def _compute(logits, labels, mask=None, loss=None):
  logits = jnp.asarray(logits)
  batch = len(logits)
  sums = jax.jit(metrics.compute_metric_sums)(
    logits,
    jnp.asarray(labels),
    jnp.ones(batch, bool) if mask is None else jnp.asarray(mask),
    jnp.zeros(batch) if loss is None else jnp.asarray(loss),
  )
  assert all(
    x.shape == () and x.dtype == jnp.float32 for x in jax.tree.leaves(sums)
  )
  return {name: float(value) for name, value in sums.items()}


def test_known_answers():
  logits = [
    [9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    [6.0, 9.0, 2.0, 3.0, 4.0, 5.0, 1.0],
    [6.0, 9.0, 2.0, 3.0, 4.0, 5.0, 1.0],
    [6.0, 9.0, 2.0, 3.0, 4.0, 5.0, 1.0],
  ]
  # First, second, fifth and sixth.
  sums = _compute(logits, [0, 0, 3, 2], loss=[0.5, 1.0, 2.0, 4.0])
  assert sums == {'loss': 7.5, 'top1': 1.0, 'top5': 3.0, 'count': 4.0}
  assert metrics.normalize_metrics(sums) == {
    'loss': 1.875,
    'top1': 0.25,
    'top5': 0.75,
    'count': 4,
  }


@pytest.mark.parametrize(
  ('target', 'right'),
  [
    ([0.0, 1.0, 0.0], True),
    ([1.0, 0.0, 0.0], False),
    ([0.4, 0.6, 0.0], True),  # Mixed of two.
    ([0.6, 0.4, 0.0], False),
    ([0.5, 0.5, 0.0], True),
    ([0.0, 1.0, 1.0], True),  # Two labels.
    ([1.0, 0.0, 1.0], False),
    ([0.0, 0.0, 0.0], False),  # None.
  ],
)
def test_a_training_image_is_right_by_its_largest_target(target, right):
  logits = jnp.array([[-1.0, 2.0, 0.5], [9.0, 0.0, 0.0]])
  targets = jnp.array([target, [1.0, 0.0, 0.0]])
  found = metrics.compute_batch_top1(logits, targets)
  assert found.dtype == jnp.float32
  assert float(found) == (1 + right) / 2


def test_equals_sorting_in_numpy():
  rng = np.random.default_rng(2)
  # Few values, so that there are ties.
  logits = rng.integers(0, 12, size=(500, 20)).astype(np.float32)
  labels = rng.integers(0, 20, size=500)
  order = np.argsort(-logits, axis=1, kind='stable')
  rank = np.argmax(order == labels[:, None], axis=1)
  sums = _compute(logits, labels)
  assert sums['top1'] == np.sum(rank < 1)
  assert sums['top5'] == np.sum(rank < 5)
  assert sums['top1'] == np.sum(np.argmax(logits, 1) == labels)


@pytest.mark.parametrize('dtype', [bool, np.int32, np.float32])
def test_masked_examples_do_not_count(dtype):
  logits = np.float32([[1, 0], [1, 0], [np.nan, 0], [1, 0]])
  # XLA turns 0/1 * NaN into a choice, on some backends; what is written must
  # not depend on that.
  with jax.disable_jit():
    sums = _compute(
      logits,
      [0, 1, 0, -1],
      mask=np.array([1, 1, 0, 0], dtype),
      loss=np.float32([1, 2, np.nan, np.inf]),
    )
  assert sums == {'loss': 3.0, 'top1': 1.0, 'top5': 2.0, 'count': 2.0}


@pytest.mark.parametrize('batch_size', [1, 3, 7, 64])
def test_the_same_at_any_batch_size(batch_size):
  rng = np.random.default_rng(3)
  logits = rng.normal(size=(50, 8)).astype(np.float32)
  labels = rng.integers(0, 8, size=50)
  loss = rng.exponential(size=50).astype(np.float32)
  whole = metrics.normalize_metrics(_compute(logits, labels, loss=loss))
  batches = []
  for start in range(0, 50, batch_size):
    part = slice(start, start + batch_size)
    size = len(labels[part])
    # Copies of the first example, which would count without the mask.
    rows = np.where(np.arange(batch_size) < size, np.arange(batch_size), 0)
    batches.append(
      _compute(
        logits[part][rows],
        labels[part][rows],
        mask=np.arange(batch_size) < size,
        loss=loss[part][rows],
      )
    )
  found = metrics.normalize_metrics(metrics.total_metric_sums(batches))
  assert found['count'] == 50
  assert found['top1'] == whole['top1']
  assert found['top5'] == whole['top5']
  assert found['loss'] == pytest.approx(whole['loss'], rel=1e-6)


def test_a_constant_network_scores_the_share_of_one_class():
  labels = np.repeat(np.arange(10), 3)
  found = metrics.normalize_metrics(_compute(np.zeros((30, 10)), labels))
  assert found['top1'] == 0.1
  assert found['top5'] == 0.5


@pytest.mark.parametrize('num_classes', [3, 10])
def test_nan_logits_are_wrong(num_classes):
  logits = np.zeros((3, num_classes), np.float32)
  logits[0] = np.nan
  logits[1, 0] = np.nan
  # The third is right, and infinity is a logit like others.
  logits[2, 0] = np.inf
  sums = _compute(logits, [0, 0, 0])
  assert (sums['top1'], sums['top5'], sums['count']) == (1.0, 1.0, 3.0)


def test_a_nan_loss_is_seen():
  sums = _compute(np.eye(3), [0, 1, 2], loss=[1.0, np.nan, 1.0])
  assert np.isnan(metrics.normalize_metrics(sums)['loss'])
  totals = metrics.total_metric_sums([sums, sums])
  assert np.isnan(metrics.normalize_metrics(totals)['loss'])


@pytest.mark.parametrize('num_classes', [1, 2, 4, 5])
def test_top5_of_five_classes_or_fewer(num_classes):
  rng = np.random.default_rng(4)
  logits = rng.normal(size=(20, num_classes)).astype(np.float32)
  labels = rng.integers(0, num_classes, size=20)
  sums = _compute(logits, labels)
  assert sums['top5'] == 20
  assert sums['top1'] == np.sum(np.argmax(logits, 1) == labels)


def test_bfloat16_logits():
  sums = _compute(jnp.eye(8, dtype=jnp.bfloat16), np.arange(8))
  assert sums['top1'] == 8


def test_totals_are_exact_beyond_float32():
  # 20,000,001 of 20,000,002 examples: float32 has only even numbers there.
  batches = [
    {'top1': np.float32(1), 'count': np.float32(1)},
    {'top1': np.float32(1e7), 'count': np.float32(1e7)},
    {'top1': np.float32(1e7), 'count': np.float32(1e7)},
    {'top1': np.float32(0), 'count': np.float32(1)},
  ]
  totals = metrics.total_metric_sums(iter(batches))
  assert totals == {'top1': 20_000_001.0, 'count': 20_000_002.0}
  assert all(type(value) is float for value in totals.values())
  found = metrics.normalize_metrics(totals)
  assert found['count'] == 20_000_002
  assert type(found['count']) is int
  assert found['top1'] == 20_000_001 / 20_000_002


def test_no_examples_is_an_error():
  for sums in (metrics.total_metric_sums([]), {'loss': 0.0, 'count': 0.0}):
    with pytest.raises(UserError, match='no examples'):
      metrics.normalize_metrics(sums)
