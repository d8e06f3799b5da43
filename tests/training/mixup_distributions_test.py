"""How strongly and where MixUp and CutMix mix, against NumPy's draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from coatnet_jax.training import mixup

BATCH, HEIGHT, WIDTH = 2048, 12, 20
# That of five standard deviations of a normal distribution.
CHANCE = 6e-7


def _mix(mixup_alpha, cutmix_alpha, probability=0.3):
  """Returns which part of a pixel, and of a label, each example keeps.

  Args:
    mixup_alpha: option.
    cutmix_alpha: option.
    probability: option `cutmix_probability`.

  Returns:
    Parts of pixels, [B, H, W], and of labels, [B].
  """
  options = mixup.MixupOptions(
    mixup_alpha=mixup_alpha,
    cutmix_alpha=cutmix_alpha,
    cutmix_probability=probability,
  )
  # Neighbours are of two kinds.
  kinds = jnp.eye(2)[jnp.arange(BATCH) % 2]
  images = jnp.broadcast_to(kinds[:, None, None], (BATCH, HEIGHT, WIDTH, 2))
  mix = jax.jit(mixup.apply_mixup, static_argnames='options')
  images, targets = mix(jax.random.key(7), images, kinds, options=options)
  own = np.arange(BATCH)
  return np.asarray(images)[own, :, :, own % 2], np.asarray(targets)[
    own, own % 2
  ]


def _cut(alpha, count=BATCH):
  """Returns [count, H, W], what CutMix keeps, as its paper says."""
  rng = np.random.default_rng(3)
  part = np.sqrt(1 - rng.beta(alpha, alpha, count))
  masks = np.ones((count, HEIGHT, WIDTH))
  for mask, side in zip(masks, part):
    height, width = np.rint((side * HEIGHT, side * WIDTH)).astype(int)
    top = rng.integers(HEIGHT) - height // 2
    left = rng.integers(WIDTH) - width // 2
    mask[max(top, 0) : top + height, max(left, 0) : left + width] = 0
  return masks


@pytest.mark.parametrize('alpha', [0.2, 3.0])
def test_mixup_keeps_beta(alpha):
  pixels, labels = _mix(alpha, 0.0)
  assert stats.kstest(labels, 'beta', (alpha, alpha)).pvalue > CHANCE
  np.testing.assert_allclose(pixels[:, 0, 0], labels, atol=1e-6)


@pytest.mark.parametrize('alpha', [0.2, 3.0])
def test_cutmix_keeps_what_is_outside_a_box_anywhere(alpha):
  pixels, labels = _mix(0.0, alpha)
  expected = _cut(alpha)
  found = stats.ks_2samp(labels, expected.mean((1, 2)))
  assert found.pvalue > CHANCE
  # Each pixel as often.
  share = expected.mean(0)
  bound = 5 * np.sqrt(2 * share * (1 - share) / BATCH)
  assert (abs(pixels.mean(0) - share) < bound).all()


@pytest.mark.parametrize('probability', [0.1, 0.8])
def test_one_of_the_two_is_chosen_for_each_example(probability):
  pixels, labels = _mix(0.4, 1.0, probability)
  whole = ((pixels == 0) | (pixels == 1)).all((1, 2))
  chosen = stats.binomtest(int(whole.sum()), BATCH, probability)
  assert chosen.pvalue > CHANCE
  # Each by its own alpha.
  assert stats.kstest(labels[~whole], 'beta', (0.4, 0.4)).pvalue > CHANCE
  found = stats.ks_2samp(labels[whole], _cut(1.0).mean((1, 2)))
  assert found.pvalue > CHANCE
