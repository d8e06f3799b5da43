"""Keys that only a whole training step shows, and the evaluation beside it.

`runs.create_probe` says how a step shows its pictures and targets.
"""

import jax
import numpy as np
import pytest

import train
from tests.wiring import runs
from tests.wiring.pictures import Pictures
from tests.wiring.registry import proves

LABELS = np.arange(8, dtype=np.int32) % 4
MIXED = np.array([0.25] * 4)


def _noise(seed=0, height=8):
  rng = np.random.default_rng(seed)
  # Darker and brighter pictures, so that any part of the batch is different.
  levels = rng.integers(0, 256, (8, height, 8, 3))
  return (levels * np.linspace(0.2, 1, 8)[:, None, None, None]).astype(np.uint8)


NOISE = _noise()


def _plain(step=0):
  return runs.take_step({}, NOISE, LABELS, step=step)


def _stem_statistics(images=NOISE):
  """Returns mean and variance of red, green and blue where the stem looks."""
  seen = images[:, ::2, ::2].astype(np.float64) / 255
  return seen.mean((0, 1, 2)), seen.var((0, 1, 2))


def _check_pixels(seen, mean, var):
  assert seen.pixel_mean[[0, 2, 3]] == pytest.approx(mean, abs=1e-4)
  assert seen.pixel_var[[0, 2, 3]] == pytest.approx(var, rel=2e-3)


def _cross_entropy(targets, logits=runs.LOGITS):
  """Returns softmax's loss, written anew."""
  return float(np.log(np.exp(logits).sum()) - (targets * logits).sum())


def test_a_plain_step_is_what_the_others_differ_from():
  seen = _plain()
  _check_pixels(seen, *_stem_statistics())
  assert seen.targets == pytest.approx(MIXED, abs=1e-5)
  assert seen.metrics['loss'] == pytest.approx(_cross_entropy(MIXED), rel=1e-5)
  # The optimizer's rate is the one that is logged.
  moved = seen.after.params['head_logits']['bias'] - runs.LOGITS
  assert np.abs(moved) == pytest.approx([0.01] * 4, rel=1e-3)
  assert seen.metrics['learning_rate'] == pytest.approx(0.01)
  # Nothing is random.
  again = _plain(step=1)
  np.testing.assert_array_equal(again.features, seen.features)


@proves('preprocessing.mean', 'preprocessing.std')
def test_pixels_are_normalised_by_mean_and_deviation():
  mean, std = np.array([0.1, 0.5, 0.3]), np.array([0.5, 0.25, 0.2])
  changes = {'preprocessing.mean': tuple(mean), 'preprocessing.std': tuple(std)}
  seen = runs.take_step(changes, NOISE, LABELS)
  pixel_mean, pixel_var = _stem_statistics()
  _check_pixels(seen, (pixel_mean - mean) / std, pixel_var / std**2)
  assert seen.metrics['loss'] == pytest.approx(_plain().metrics['loss'])


def test_evaluation_normalises_by_mean_and_deviation_too():
  images = NOISE // 2
  expected = _evaluate({}, 2 * images)
  halved = _evaluate({'preprocessing.std': (0.5,) * 3}, images)
  assert halved['loss'] == pytest.approx(expected['loss'], rel=1e-6)
  assert _evaluate({}, images)['loss'] != pytest.approx(
    expected['loss'], rel=1e-4
  )


def _evaluate(changes, images=NOISE, *, change_state=None, head=3.0):
  """Evaluates pictures with the probe."""
  a_run = runs.create_run(changes, source=Pictures(list(images)))
  state = runs.create_probe(a_run, head=head)
  if change_state:
    state = change_state(state)
  return train.evaluate_run(a_run, jax.device_put(state))


@proves('loss.label_smoothing')
def test_labels_are_smoothed_in_training_and_not_in_evaluation():
  for smoothing in (0.2, 0.6):
    changes = {'loss.label_smoothing': smoothing}
    seen = runs.take_step(changes, NOISE, LABELS % 2)
    targets = (1 - smoothing) * np.array([0.5, 0.5, 0, 0]) + smoothing / 4
    assert seen.targets == pytest.approx(targets, abs=1e-5)
    assert seen.metrics['loss'] == pytest.approx(
      _cross_entropy(targets), rel=1e-5
    )
    assert _evaluate(changes, head=0)['loss'] == pytest.approx(
      _cross_entropy(MIXED), rel=1e-5
    )


@proves('loss.class_weights')
def test_classes_count_in_inverse_proportion_to_their_pictures():
  """They are not equally many among the 16 of the run."""
  a_run = runs.create_run({'loss.class_weights': 'inverse'})
  counts = np.bincount([a_run.train_source[k]['label'] for k in range(16)])
  weights = 16 / (4 * counts)
  np.testing.assert_allclose(a_run.class_weights, weights)
  assert runs.create_run().class_weights == ()
  seen = runs.take_step({'loss.class_weights': 'inverse'}, NOISE, LABELS)
  losses = [_cross_entropy(np.eye(4)[label]) for label in LABELS]
  expected = np.mean(np.array(losses) * weights[LABELS])
  assert seen.metrics['loss'] == pytest.approx(expected, rel=1e-5)
  # Not in evaluation.
  plain = _evaluate({}, head=0)['loss']
  assert _evaluate({'loss.class_weights': 'inverse'}, head=0)['loss'] == plain


@proves('loss.kind')
def test_the_loss_is_of_the_kind_in_training_and_evaluation():
  assert _plain().metrics['loss'] == pytest.approx(_cross_entropy(MIXED))
  changes = {'loss.kind': 'sigmoid', 'loss.label_smoothing': 0.1}
  seen = runs.take_step(changes, NOISE, LABELS)
  logits = runs.LOGITS.astype(np.float64)

  def loss(targets):
    return (np.log1p(np.exp(logits)) - targets * logits).sum()

  smoothed = 0.25 * 0.8 + 0.1
  assert seen.targets == pytest.approx([smoothed] * 4, abs=1e-5)
  assert seen.metrics['loss'] == pytest.approx(loss(smoothed), rel=1e-5)
  assert _evaluate(changes, head=0)['loss'] == pytest.approx(
    loss(0.25), rel=1e-5
  )


# Black pictures of class 0 and white ones of class 1, in turn.
CHESS = np.zeros((8, 8, 8, 3), np.uint8)
CHESS[1::2] = 255


def _mix(step=0, **mixup):
  changes = {f'mixup.{name}': value for name, value in mixup.items()}
  return runs.take_step(changes, CHESS, LABELS % 2, step=step)


@proves('mixup.mixup_alpha')
def test_pictures_and_labels_are_mixed_by_weights_from_beta():
  off, even = _mix(mixup_alpha=0.0), _mix(mixup_alpha=1000.0)
  assert off.pixel_var[0] == pytest.approx(0.25, rel=1e-3)
  assert off.targets[:2].tolist() == pytest.approx([0.5, 0.5], abs=1e-6)
  # Beta(1000, 1000): all weights are almost a half.
  assert even.pixel_var[0] < 0.01
  extreme = _mix(mixup_alpha=0.5)
  assert 0.01 < extreme.pixel_var[0] < 0.25
  for seen in (even, extreme):
    # As much white as class 1, in the same example.
    assert seen.targets[1] == pytest.approx(seen.pixel_mean[0], abs=1e-4)
  assert abs(extreme.targets[1] - 0.5) > 1e-3
  # Drawn anew at each step.
  later = _mix(mixup_alpha=0.5, step=1)
  assert abs(later.targets[1] - extreme.targets[1]) > 1e-3


@proves('mixup.group_size')
def test_pictures_are_mixed_within_their_group():
  # With itself; a neighbour would make all of them grey.
  assert _mix(mixup_alpha=1000.0, group_size=1).pixel_var[0] == pytest.approx(
    0.25, rel=1e-3
  )
  # White and black follow each other, in every pair as in the batch.
  assert _mix(mixup_alpha=1000.0, group_size=2).pixel_var[0] < 0.01


@proves('mixup.cutmix_alpha', 'mixup.cutmix_probability')
def test_boxes_replace_a_part_of_the_examples_by_weights_from_beta():
  both = {'mixup_alpha': 1000.0, 'cutmix_alpha': 1000.0}
  boxes = _mix(**both, cutmix_probability=1.0)
  # Every pixel is black or white: E[x^2] = E[x].
  mean = boxes.pixel_mean[0]
  assert boxes.pixel_var[0] == pytest.approx(mean * (1 - mean), rel=1e-3)
  assert boxes.pixel_var[1] > 0.01  # Edges inside the pictures.
  assert abs(boxes.targets[1] - 0.5) > 1e-3
  blends = _mix(**both, cutmix_probability=0.0)
  assert blends.pixel_var[0] < 0.01
  assert blends.pixel_var[1] < 1e-4
  # Beta(0.001, 0.001): a box is everything or nothing.
  whole = _mix(mixup_alpha=1000.0, cutmix_alpha=0.001, cutmix_probability=1.0)
  assert whole.pixel_var[1] < 1e-4
  mean = whole.pixel_mean[0]
  assert whole.pixel_var[0] == pytest.approx(mean * (1 - mean), rel=1e-3)


@proves('training.gradient_accumulation_steps', 'model.batch_norm_momentum')
def test_parts_of_a_batch_have_statistics_of_their_own_and_one_average():
  plain = _plain()
  seen = runs.take_step(
    {
      'training.gradient_accumulation_steps': 2,
      'model.batch_norm_momentum': 0.5,
    },
    NOISE,
    LABELS,
  )
  # Normalised in other groups; targets, loss and running statistics as ever.
  assert np.abs(seen.features - plain.features).max() > 1e-3
  assert seen.metrics['loss'] == pytest.approx(plain.metrics['loss'], rel=1e-5)
  _check_pixels(seen, *_stem_statistics())
  # With the momentum: half of the old mean, 0, and variance, 1.
  mean, var = _stem_statistics()
  stats = seen.after.batch_stats['s0_norm']
  assert stats['mean'][[0, 2, 3]] == pytest.approx(0.5 * mean, abs=1e-4)
  assert stats['var'][[0, 2, 3]] == pytest.approx(0.5 + 0.5 * var, rel=1e-3)
  stats = plain.after.batch_stats['s0_norm']
  assert stats['mean'][[0, 2, 3]] == pytest.approx(0.25 * mean, abs=1e-4)
  assert stats['var'][[0, 2, 3]] == pytest.approx(0.75 + 0.25 * var, rel=1e-3)


@proves('model.batch_norm_group_size')
def test_groups_are_normalised_by_their_own_statistics():
  seen = runs.take_step({'model.batch_norm_group_size': 4}, NOISE, LABELS)
  plain = _plain()
  assert np.abs(seen.features - plain.features).max() > 1e-3
  _check_pixels(seen, *_stem_statistics())
  # Where the groups are alike, they are as the whole batch.
  twice = np.concatenate([NOISE[:4], NOISE[:4]])
  grouped, whole = (
    runs.take_step(changes, twice, LABELS).features
    for changes in ({'model.batch_norm_group_size': 4}, {})
  )
  np.testing.assert_allclose(grouped, whole, atol=1e-4)


@proves('model.stochastic_depth_rate')
def test_branches_are_dropped_by_another_key_at_each_step():
  changes = {'model.stochastic_depth_rate': 0.6}
  first, second = (
    runs.take_step(changes, NOISE, LABELS, step=step) for step in (0, 1)
  )
  plain = _plain()
  assert np.abs(first.features - plain.features).max() > 1e-3
  assert np.abs(first.features - second.features).max() > 1e-3
  _check_pixels(first, *_stem_statistics())
  expected = _evaluate({})['loss']
  assert _evaluate(changes)['loss'] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.rotating
@proves('model.remat', 'model.scan_blocks')
def test_recomputing_and_scanning_change_no_result():
  variant = {'model.name': runs.MORE_CONVOLUTIONS}
  changes = {'model.remat': 'blocks', 'model.scan_blocks': True}
  plain, seen = (
    runs.take_step(changed, NOISE, LABELS)
    for changed in (variant, variant | changes)
  )
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, atol=1e-4),
    (seen.features, seen.after.batch_stats, seen.metrics),
    (plain.features, plain.after.batch_stats, plain.metrics),
  )


@proves('optimizer.frozen')
def test_what_is_frozen_stays_and_uses_its_running_statistics():
  frozen = {'optimizer.frozen': ('^s0_', '^s1_block_0/')}
  for parts in (1, 2):
    changes = {**frozen, 'training.gradient_accumulation_steps': parts}
    seen = runs.take_step(changes, NOISE, LABELS, head=1.0)
    changes = jax.tree_util.tree_leaves_with_path(
      jax.tree.map(
        lambda after, before: np.abs(after - before).max(),
        (seen.after.params, seen.after.batch_stats),
        (seen.before.params, seen.before.batch_stats),
      )
    )
    for path, change in changes:
      name = jax.tree_util.keystr(path)
      is_frozen = "'s0_" in name or "'s1_block_0'" in name
      assert (change == 0) == is_frozen, name
  assert _plain().pixel_mean[0] > 0.1


@proves('training.ema_decay', 'training.ema_warmup')
def test_averages_keep_as_much_as_the_decay_and_are_evaluated():
  always = {'training.ema_decay': 0.75, 'training.ema_warmup': False}
  warmed_up = {'training.ema_decay': 0.9, 'training.ema_warmup': True}
  # (1 + t) / (10 + t) at most after t steps, where it is to.
  for changes, step, kept in (
    (always, 0, 0.75),
    (always, 10**6, 0.75),
    (warmed_up, 0, 2 / 11),
    (warmed_up, 10**6, 0.9),
  ):
    seen = runs.take_step(changes, NOISE, LABELS, step=step)
    for average, new, old in zip(
      jax.tree.leaves(seen.after.ema),
      jax.tree.leaves(seen.after.variables),
      jax.tree.leaves(seen.before.variables),
      strict=True,
    ):
      expected = kept * old + (1 - kept) * new
      np.testing.assert_allclose(average, expected, atol=1e-5)
  assert _plain().after.ema is None


def test_averages_are_what_is_evaluated():
  def with_other_averages(state):
    head = {**state.params['head_logits'], 'bias': -runs.LOGITS}
    params = {**state.params, 'head_logits': head}
    return state.replace(ema={**state.variables, 'params': params})

  for decay, logits in ((0.0, runs.LOGITS), (0.9, -runs.LOGITS)):
    metrics = _evaluate(
      {'training.ema_decay': decay},
      head=0,
      change_state=with_other_averages if decay else None,
    )
    assert metrics['loss'] == pytest.approx(
      _cross_entropy(MIXED, logits), rel=1e-5
    )


@pytest.mark.slow
@pytest.mark.rotating
@proves('training.skip_nonfinite_steps')
def test_a_step_that_is_not_finite_changes_nothing_where_it_may_be_skipped():
  allowed = {'training.skip_nonfinite_steps': 1, 'training.ema_decay': 0.9}
  # Its first update is too large for float32.
  too_large = {
    'schedule.peak_learning_rate': 3e38,
    'training.gradient_accumulation_steps': 2,
    'optimizer.frozen': ('^s0_',),
  }
  seen = runs.take_step({**allowed, **too_large}, NOISE, LABELS)
  assert seen.metrics['skipped'] == 1
  assert int(seen.after.step) == 1
  for name in ('params', 'batch_stats', 'ema'):
    jax.tree.map(
      np.testing.assert_array_equal,
      getattr(seen.after, name),
      getattr(seen.before, name),
    )
  assert not any(np.any(x) for x in jax.tree.leaves(seen.after.opt_state))
  seen = runs.take_step(allowed, NOISE, LABELS)
  plain = runs.take_step({'training.ema_decay': 0.9}, NOISE, LABELS)
  assert seen.metrics.pop('skipped') == 0
  assert 'skipped' not in plain.metrics
  assert seen.metrics == pytest.approx(plain.metrics, rel=1e-6)
  for name in ('params', 'batch_stats', 'opt_state', 'ema'):
    jax.tree.map(
      lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5),
      getattr(seen.after, name),
      getattr(plain.after, name),
    )
