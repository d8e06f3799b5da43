"""How often and how strongly each augmentation is drawn.

Against formulas, with bounds of five standard deviations of what is counted, on
fixed seeds.
"""

import collections
import math

import numpy as np
import pytest

from coatnet_jax.data import randaugment
from coatnet_jax.data.randaugment import SCALES, apply_randaugment


@pytest.fixture
def levels():
  """[16, 16, 3]: every level once in each channel."""
  return np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, -1)


@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize('probability', [1.0, 0.5])
def test_operations_signs_and_places_are_equally_likely(
  monkeypatch, levels, scale, probability
):
  draws = []

  def record(name):
    def arguments(magnitude, draw):
      assert magnitude == 15
      draws.append((name, *draw))
      return ()

    return randaugment.Operation(lambda image: image, arguments)

  monkeypatch.setitem(
    SCALES, scale, {name: record(name) for name in SCALES[scale]}
  )
  rng = np.random.default_rng(0)
  num_images = 4000
  for _ in range(num_images):
    apply_randaugment(
      levels,
      rng,
      num_layers=2,
      magnitude=15,
      probability=probability,
      scale=scale,
    )
  if probability == 1:
    assert len(draws) == 2 * num_images
    # The second operation does not follow from the first.
    pairs = collections.Counter(
      (first[0], second[0])
      for first, second in zip(draws[::2], draws[1::2], strict=True)
    )
    check_counts(list(pairs.values()), num_images, len(SCALES[scale]) ** -2)
    assert len(pairs) == len(SCALES[scale]) ** 2
  check_counts([len(draws)], 2 * num_images, probability)
  counts = collections.Counter((name, sign) for name, sign, _, _ in draws)
  assert len(counts) == 2 * len(SCALES[scale])
  check_counts(list(counts.values()), len(draws), 1 / len(counts))
  check_counts([sum(draw[1] > 0 for draw in draws)], len(draws), 0.5)
  places = np.array([draw[2:] for draw in draws])
  for fraction in (0.1, 0.5, 0.9):
    below = (places < fraction).sum(0)
    check_counts(below, len(draws), fraction)
    check_counts([(places < fraction).all(1).sum()], len(draws), fraction**2)


def check_counts(counts, draws, probability):
  """Checks counts of a binomial distribution: within five deviations."""
  deviation = math.sqrt(draws * probability * (1 - probability))
  assert np.abs(np.asarray(counts) - draws * probability).max() <= 5 * deviation
