import math

import numpy as np
import pytest

from coatnet_jax.data.augmentation import augment_image
from coatnet_jax.data.random_erasing import erase_randomly, sample_box

SETTINGS = {
  'probability': 1.0,
  'fill': 'noise',
  'mean': (0.5, 0.4, 0.6),
  'std': (0.1, 0.05, 0.02),
}


@pytest.fixture
def black():
  return np.zeros((64, 96, 3), np.uint8)


def test_boxes_are_uniform_in_area_ratio_and_place():
  rng = np.random.default_rng(0)
  # Large enough that rounding and what does not fit are no matter.
  boxes = [sample_box(3000, 3000, rng) for _ in range(20_000)]
  top, left, height, width = np.array(boxes).T
  area = height * width / 3000**2
  assert area.min() == pytest.approx(0.02, abs=5e-4)
  assert area.max() == pytest.approx(1 / 3, abs=2e-3)
  assert area.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=5e-3)
  log_ratio = np.log(height / width)
  assert log_ratio.min() == pytest.approx(math.log(0.3), abs=5e-3)
  assert log_ratio.max() == pytest.approx(-math.log(0.3), abs=5e-3)
  assert log_ratio.mean() == pytest.approx(0, abs=0.02)
  for start, extent in ((top, height), (left, width)):
    place = start / (3000 - extent)
    assert place.mean() == pytest.approx(0.5, abs=0.01)
    assert place.max() == pytest.approx(1, abs=1e-2)
    assert (start + extent <= 3000).all()


def test_a_box_reaches_the_borders_of_a_small_image():
  rng = np.random.default_rng(0)
  boxes = [sample_box(4, 5, rng) for _ in range(2000)]
  top, left, height, width = np.array([b for b in boxes if b]).T
  assert (top.min(), left.min()) == (0, 0)
  assert ((top + height).max(), (left + width).max()) == (4, 5)
  assert (height.max(), width.max()) == (3, 4)


def test_nothing_is_erased_where_no_box_fits():
  image = np.full((1, 200, 3), 7, np.uint8)
  rng = np.random.default_rng(0)
  assert all(sample_box(1, 200, rng) is None for _ in range(20))
  assert erase_randomly(image, rng, **SETTINGS) is image


def test_a_constant_is_the_mean(black):
  erased = erase_randomly(
    black, np.random.default_rng(0), **SETTINGS | {'fill': 'mean'}
  )
  assert not black.any()
  rows, columns = np.nonzero(erased.any(-1))
  box = erased[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
  # 255 * 0.5 is rounded to even.
  assert set(map(tuple, box.reshape(-1, 3).tolist())) == {(128, 102, 153)}
  assert len(rows) == box.shape[0] * box.shape[1] > 0.015 * 64 * 96


def test_noise_is_normal_once_it_is_normalised(black):
  rng = np.random.default_rng(0)
  pixels = []
  for _ in range(100):
    erased = erase_randomly(black, rng, **SETTINGS)
    pixels.append(erased[erased.any(-1)] / 255)
  noise = (np.concatenate(pixels) - SETTINGS['mean']) / SETTINGS['std']
  assert len(noise) > 30_000
  np.testing.assert_allclose(noise.mean(0), 0, atol=0.02)
  np.testing.assert_allclose(noise.std(0), 1, atol=0.02)
  # Every pixel and channel has its own.
  assert abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.02
  assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 0.02


def test_noise_is_cut_off_and_does_not_wrap():
  image = np.full((64, 64, 3), 200, np.uint8)
  wide = SETTINGS | {'mean': (0.0, 0.5, 1.0), 'std': (10.0, 10.0, 10.0)}
  erased = erase_randomly(image, np.random.default_rng(0), **wide)
  values = erased[(erased != 200).all(-1)]
  assert np.isin(values, (0, 255)).mean() > 0.9
  assert 0.4 < (values == 255).mean() < 0.6


@pytest.mark.parametrize('probability', [0.0, 0.25, 1.0])
def test_so_many_images_are_erased(black, probability):
  rng = np.random.default_rng(0)
  settings = SETTINGS | {'probability': probability}
  erased = sum(
    erase_randomly(black, rng, **settings).any() for _ in range(2000)
  )
  assert erased / 2000 == pytest.approx(probability, abs=0.03)


def test_off_it_draws_nothing(black):
  rng = np.random.default_rng(0)
  erase_randomly(black, rng, **SETTINGS | {'probability': 0.0})
  assert rng.random() == np.random.default_rng(0).random()


def test_training_images_are_erased_last(preprocessing, augmentation):
  """With the mean of the preprocessing, and after RandAugment."""
  options = preprocessing(image_size=(40, 40), mean=(0.2, 0.4, 0.6))
  image = np.random.default_rng(1).integers(100, 256, (50, 60, 3), np.uint8)

  def augment(probability):
    return augment_image(
      image,
      np.random.default_rng(3),
      options,
      augmentation(
        random_erasing_probability=probability, random_erasing_fill='mean'
      ),
    )

  plain, erased = augment(0.0), augment(1.0)
  box = (erased == (51, 102, 153)).all(-1)
  assert 0.015 < box.mean() < 0.35
  np.testing.assert_array_equal(plain[~box], erased[~box])
