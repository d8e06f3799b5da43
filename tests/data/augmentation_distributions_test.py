"""How often and how strongly each augmentation is drawn.

Against formulas, with bounds of five standard deviations of what is counted, on
fixed seeds.
"""

import collections
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from coatnet_jax.data import randaugment
from coatnet_jax.data.augmentation import augment_image, sample_crop
from coatnet_jax.data.randaugment import SCALES, apply_randaugment
from coatnet_jax.data.random_erasing import erase_randomly, sample_box


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


def check_same_distribution(found, expected):
  """Checks samples by Kolmogorov and Smirnov, at 1 in a million."""
  assert stats.ks_2samp(found, expected).pvalue > 1e-6


def check_uniform_places(starts, spaces, rng):
  """Checks the starts of boxes, whole pixels of 0 .. space."""
  for start, space in zip(starts, spaces):
    place = (start + rng.random(len(start))) / (space + 1)
    assert stats.kstest(place, 'uniform').pvalue > 1e-6


def simulate_boxes(height, width, area, log_ratio, at_border):
  """Draws areas and log aspect ratios of boxes that fit, by rejection.

  Args:
    height: image height in pixels.
    width: image width in pixels.
    area: smallest and largest area of a box, as parts of that of the image.
    log_ratio: smallest and largest logarithm of width / height.
    at_border: whether a box may be as high or as wide as the image.
  """
  rng = np.random.default_rng(100)
  areas = rng.uniform(*area, 60_000) * height * width
  ratios = rng.uniform(*log_ratio, 60_000)
  heights = np.rint(np.sqrt(areas / np.exp(ratios)))
  widths = np.rint(np.sqrt(areas * np.exp(ratios)))
  limit = 0 if at_border else 1
  fits = (heights <= height - limit) & (widths <= width - limit)
  return heights[fits] * widths[fits], np.log(widths[fits] / heights[fits])


@pytest.mark.parametrize(
  ('size', 'area', 'ratio'),
  [
    ((500, 500), (0.08, 1.0), (3 / 4, 4 / 3)),
    ((375, 500), (0.08, 1.0), (3 / 4, 4 / 3)),
    ((640, 427), (0.25, 1.0), (1 / 2, 2.0)),
    ((300, 900), (0.1, 0.5), (0.9, 1.6)),
  ],
)
def test_crops_have_their_areas_and_aspect_ratios(size, area, ratio):
  rng = np.random.default_rng(0)
  crops = np.array(
    [
      sample_crop(*size, rng, area=area, aspect_ratio=ratio)
      for _ in range(5000)
    ]
  )
  heights, widths = crops[:, 2], crops[:, 3]
  areas, log_ratios = simulate_boxes(*size, area, np.log(ratio), at_border=True)
  check_same_distribution(heights * widths, areas)
  check_same_distribution(np.log(widths / heights), log_ratios)
  spaces = (size[0] - heights, size[1] - widths)
  check_uniform_places(crops.T[:2], spaces, rng)


def test_crops_are_wide_as_often_as_tall():
  rng = np.random.default_rng(0)
  settings = {'area': (0.08, 1.0), 'aspect_ratio': (3 / 4, 4 / 3)}
  crops = [sample_crop(500, 500, rng, **settings)[2:] for _ in range(10_000)]
  wide = sum(width > height for height, width in crops)
  tall = sum(width < height for height, width in crops)
  check_counts([wide], wide + tall, 0.5)


def test_half_of_the_pictures_are_mirrored(preprocessing, augmentation):
  image = np.zeros((4, 4, 3), np.uint8)
  image[:, :2] = 255
  whole = {'crop_area': (1.0, 1.0), 'crop_aspect_ratio': (1.0, 1.0)}
  options = augmentation(**whole, randaugment_layers=0)
  rng = np.random.default_rng(0)
  size = preprocessing(image_size=(4, 4))
  mirrored = [
    augment_image(image, rng, size, options)[0, 0, 0] == 0 for _ in range(4000)
  ]
  check_counts([sum(mirrored)], 4000, 0.5)
  # Whether one is does not follow from the one before.
  pairs = sum(a and b for a, b in itertools.pairwise(mirrored))
  check_counts([pairs], 4000, 0.25)


@pytest.mark.parametrize('key', ['magnitude', 'probability', 'scale', 'layers'])
def test_pictures_show_the_keys_of_randaugment(
  key, preprocessing, augmentation, levels
):
  """Of one generator: nothing else changes a picture."""
  changes = {
    'magnitude': 10.0,
    'probability': 0.0,
    'scale': 'tensorflow',
    'layers': 1,
  }
  whole = {'crop_area': (1.0, 1.0), 'crop_aspect_ratio': (1.0, 1.0)}
  size = preprocessing(image_size=(16, 16))

  def count_changed(**changed):
    return sum(
      not np.array_equal(
        *(
          augment_image(levels, np.random.default_rng(seed), size, options)
          for options in (
            augmentation(**whole),
            augmentation(**whole, **changed),
          )
        )
      )
      for seed in range(40)
    )

  assert not count_changed()
  assert count_changed(**{f'randaugment_{key}': changes[key]}) > 20


@pytest.mark.parametrize('size', [(400, 400), (300, 500)])
def test_erased_boxes_have_their_areas_and_aspect_ratios(size):
  rng = np.random.default_rng(0)
  boxes = np.array([sample_box(*size, rng) for _ in range(5000)])
  heights, widths = boxes[:, 2], boxes[:, 3]
  limits = (math.log(0.3), math.log(1 / 0.3))
  areas, log_ratios = simulate_boxes(
    *size, (0.02, 1 / 3), limits, at_border=False
  )
  check_same_distribution(heights * widths, areas)
  check_same_distribution(np.log(widths / heights), log_ratios)
  spaces = (size[0] - heights, size[1] - widths)
  check_uniform_places(boxes.T[:2], spaces, rng)


@pytest.mark.parametrize('probability', [0.1, 0.25, 0.8])
def test_pictures_are_erased_as_often_as_they_should(probability):
  image = np.zeros((32, 32, 3), np.uint8)
  rng = np.random.default_rng(0)
  settings = {'fill': 'mean', 'mean': (0.5,) * 3, 'std': (0.5,) * 3}
  erased = sum(
    erase_randomly(image, rng, probability=probability, **settings).any()
    for _ in range(5000)
  )
  check_counts([erased], 5000, probability)
