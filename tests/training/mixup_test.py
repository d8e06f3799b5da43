"""Mixing with fixed weights and boxes, its distribution, and its switches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.training import mixup

BATCH, HEIGHT, WIDTH, CLASSES = 64, 12, 20, 64


def _options(mixup_alpha=0.0, cutmix_alpha=0.0, cutmix_probability=0.25):
  return mixup.MixupOptions(
    mixup_alpha=mixup_alpha,
    cutmix_alpha=cutmix_alpha,
    cutmix_probability=cutmix_probability,
  )


def _numbered_batch():
  """Image i is full of the number i; its target is one-hot at i."""
  numbers = jnp.arange(BATCH, dtype=jnp.float32)
  images = jnp.broadcast_to(
    numbers[:, None, None, None], (BATCH, HEIGHT, WIDTH, 3)
  )
  return images, jnp.eye(CLASSES)


def _apply(options, seed=0):
  images, targets = _numbered_batch()
  apply = jax.jit(mixup.apply_mixup, static_argnames='options')
  mixed, mixed_targets = apply(
    jax.random.key(seed), images, targets, options=options
  )
  return np.asarray(mixed), np.asarray(mixed_targets)


def _kept_weights(targets):
  """Each example's weight of itself, after checking whose the rest is."""
  own = np.arange(BATCH)
  kept = targets[own, own]
  np.testing.assert_allclose(targets[own, own - 1], 1 - kept, atol=1e-6)
  assert np.count_nonzero(targets) <= 2 * BATCH
  return kept


def test_mixes_with_the_example_before():
  array = jnp.array([[0.0, 1.0], [10.0, 2.0], [20.0, 4.0]])
  keep = jnp.array([[1.0], [0.75], [0.0]])
  np.testing.assert_allclose(
    mixup.mix_with_previous(array, keep), [[0, 1], [7.5, 1.75], [10, 2]]
  )


def test_the_first_of_a_group_is_mixed_with_its_last():
  array = jnp.array([[0.0], [10.0], [20.0], [40.0]])
  keep = jnp.zeros((4, 1))
  np.testing.assert_array_equal(
    mixup.mix_with_previous(array, keep, 2), [[10], [0], [40], [20]]
  )


@pytest.mark.parametrize(
  ('weight', 'centre', 'box', 'kept_pixels'),
  [
    # sqrt(1/4) of 12 x 20 is a box of 6 x 10.
    (0.75, (6, 10), (3, 5, 9, 15), 240 - 60),
    # At the corners it is cut off.
    (0.75, (0, 0), (0, 0, 3, 5), 240 - 15),
    (0.75, (11, 19), (8, 14, 12, 20), 240 - 24),
    # Nothing and everything.
    (1.0, (6, 10), (6, 10, 6, 10), 240),
    (0.0, (6, 10), (0, 0, 12, 20), 0),
    # sqrt(0.5): 8.49 and 14.14 pixels, rounded.
    (0.5, (6, 10), (2, 3, 10, 17), 240 - 8 * 14),
  ],
)
def test_cutmix_boxes(weight, centre, box, kept_pixels):
  boxes = mixup.compute_cutmix_boxes(
    jnp.array([weight]), jnp.array([centre]), height=12, width=20
  )
  np.testing.assert_array_equal(boxes, [box])
  outside = mixup.compute_outside_mask(boxes, height=12, width=20)
  assert outside.shape == (1, 12, 20)
  assert outside.sum() == kept_pixels
  top, left, bottom, right = box
  assert (outside[0, top:bottom, left:right] == 0).all()


def test_mixup_weighs_images_and_targets_alike():
  images, targets = _apply(_options(mixup_alpha=0.8))
  kept = _kept_weights(targets)
  own = np.arange(BATCH)
  expected = kept * own + (1 - kept) * np.roll(own, 1)
  np.testing.assert_allclose(
    images,
    np.broadcast_to(expected[:, None, None, None], images.shape),
    rtol=1e-5,
    atol=1e-4,
  )
  # One weight for each example.
  assert len(np.unique(kept)) == BATCH


def test_cutmix_weighs_targets_by_the_area_that_is_left():
  images, targets = _apply(_options(cutmix_alpha=1.0))
  kept = _kept_weights(targets)
  own = np.arange(BATCH)
  is_own = images == own[:, None, None, None]
  is_previous = images == np.roll(own, 1)[:, None, None, None]
  assert (is_own ^ is_previous).all()
  np.testing.assert_allclose(is_own.mean((1, 2, 3)), kept, atol=1e-6)
  assert 0.1 < np.mean(kept) < 0.9
  assert len(np.unique(kept)) > BATCH // 2
  # What is replaced is one box: full rows and columns of it.
  for inside in ~is_own[..., 0]:
    rows, columns = inside.any(1), inside.any(0)
    np.testing.assert_array_equal(inside, rows[:, None] & columns)
    for side in (rows, columns):
      assert np.count_nonzero(np.diff(side.astype(int))) <= 2


def test_cutmix_boxes_are_as_often_on_either_side():
  own = np.arange(BATCH)[:, None, None]
  replaced = np.mean(
    [
      _apply(_options(cutmix_alpha=1.0), seed)[0][..., 0] != own
      for seed in range(16)
    ],
    axis=(0, 1),
  )
  for axis, size in ((0, HEIGHT), (1, WIDTH)):
    first, second = np.split(replaced, [size // 2], axis)
    assert first.mean() == pytest.approx(second.mean(), rel=0.15)


def test_cutmix_probability():
  options = _options(0.8, 1.0, cutmix_probability=0.25)
  is_whole = [_apply(options, seed)[0] % 1 == 0 for seed in range(8)]
  # CutMix leaves every pixel whole, MixUp hardly any; 3 standard deviations of
  # 512 draws are 0.06.
  share = np.mean([whole.all((1, 2, 3)) for whole in is_whole])
  assert share == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize('alpha', [0.2, 0.8])
def test_mixup_weights_are_beta_distributed(alpha):
  kept = np.concatenate(
    [
      _kept_weights(_apply(_options(mixup_alpha=alpha), seed)[1])
      for seed in range(16)
    ]
  )
  # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
  assert kept.mean() == pytest.approx(0.5, abs=0.05)
  assert kept.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)


@pytest.mark.parametrize(
  'options',
  [_options(0.8), _options(0.0, 1.0), _options(0.8, 1.0), _options(0.01, 0.01)],
)
def test_targets_sum_to_one(options):
  _, targets = _apply(options)
  np.testing.assert_allclose(targets.sum(1), 1.0, atol=1e-6)
  assert (targets >= 0).all()


def test_same_key_same_result_other_key_another():
  options = _options(0.8, 1.0)
  images, targets = _apply(options, seed=3)
  same_images, same_targets = _apply(options, seed=3)
  np.testing.assert_array_equal(same_images, images)
  np.testing.assert_array_equal(same_targets, targets)
  assert not np.array_equal(_apply(options, seed=4)[1], targets)


def test_off_adds_nothing():
  images, targets = _numbered_batch()
  key = jax.random.key(0)
  found = mixup.apply_mixup(key, images, targets, options=_options())
  assert found[0] is images
  assert found[1] is targets
  program = jax.make_jaxpr(
    lambda *args: mixup.apply_mixup(*args, options=_options())
  )(key, images, targets)
  assert not program.eqns


def test_dtypes_stay():
  images, targets = _numbered_batch()
  found = jax.eval_shape(
    lambda *args: mixup.apply_mixup(*args, options=_options(0.8, 1.0)),
    jax.random.key(0),
    images.astype(jnp.bfloat16),
    targets,
  )
  assert [x.dtype for x in found] == [jnp.bfloat16, jnp.float32]
  assert [x.shape for x in found] == [images.shape, targets.shape]


def test_a_batch_of_one_is_mixed_with_itself():
  array = jnp.array([[7.0, 3.0]])
  mixed = mixup.mix_with_previous(array, jnp.array([[0.25]]))
  np.testing.assert_allclose(mixed, array)


def test_integers_are_refused():
  images, targets = _numbered_batch()
  key, options = jax.random.key(0), _options(0.8)
  with pytest.raises(ValueError, match='images are uint8; they must be floats'):
    mixup.apply_mixup(key, images.astype('uint8'), targets, options=options)
  with pytest.raises(
    ValueError, match='targets are int32; they must be floats'
  ):
    mixup.apply_mixup(key, images, targets.astype('int32'), options=options)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ((-0.1, 0.0, 0.5), r'mixup_alpha is -0.1; it must be a number, at least 0'),
    (
      (0.0, float('nan'), 0.5),
      r'mixup\.cutmix_alpha is nan; it must be a number',
    ),
    ((0.8, 1.0, 1.5), r'mixup\.cutmix_probability is 1.5; .* at most 1'),
  ],
)
def test_options_refuse(values, message):
  with pytest.raises(UserError, match=message):
    _options(*values)
