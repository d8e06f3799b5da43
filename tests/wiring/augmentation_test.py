"""`config.augmentation`: what the loop's training pictures show of it."""

import numpy as np

from tests.wiring import runs
from tests.wiring.pictures import Pictures
from tests.wiring.registry import proves

SIZE = 64


def _places():
  """Returns a picture whose red is the row, and green the column, times 4."""
  row, column = np.meshgrid(
    4 * np.arange(SIZE), 4 * np.arange(SIZE), indexing='ij'
  )
  return np.stack([row, column, np.zeros_like(row)], -1).astype(np.uint8)


def _read(source=None, count=128, **augmentation):
  changes = {f'augmentation.{name}': v for name, v in augmentation.items()}
  changes = {
    'preprocessing.image_size': (16, 16),
    'training.global_batch_size': count,
    **changes,
  }
  source = source or Pictures([_places()] * 4096)
  return runs.read_images(changes, source).astype(float)


def _boxes(images):
  """Returns height and width of the crops, as parts of the picture."""
  # From the middle of the first pixel to that of the last.
  height = np.ptp(images[:, :, 8, 0], axis=1) / 4 / 15 * 16
  width = np.ptp(images[:, 8, :, 1], axis=1) / 4 / 15 * 16
  return height / SIZE, width / SIZE


@proves('augmentation.crop_area')
def test_crops_are_as_large_as_the_area_says():
  for area in ((1.0, 1.0), (0.25, 0.25), (0.3, 0.7)):
    height, width = _boxes(_read(crop_area=area))
    areas = height * width
    assert (areas > area[0] - 0.06).all()
    assert (areas < area[1] + 0.06).all()
    assert np.ptp(areas) >= 0.7 * (area[1] - area[0])


@proves('augmentation.crop_aspect_ratio')
def test_crops_are_as_wide_as_the_aspect_ratio_says():
  for ratio in ((1.0, 1.0), (2.0, 2.0), (0.5, 0.5), (0.5, 2.0)):
    height, width = _boxes(_read(crop_area=(0.2, 0.2), crop_aspect_ratio=ratio))
    ratios = width / height
    assert (ratios > 0.85 * ratio[0]).all()
    assert (ratios < 1.15 * ratio[1]).all()
    assert np.ptp(ratios) >= 0.6 * (ratio[1] - ratio[0])


@proves('augmentation.horizontal_flip')
def test_half_of_the_pictures_are_mirrored_or_none():
  for flip in (False, True):
    images = _read(horizontal_flip=flip)
    is_mirrored = images[:, 8, 0, 1] > images[:, 8, -1, 1]
    upside_down = images[:, 0, 8, 0] > images[:, -1, 8, 0]
    assert not upside_down.any()
    # 128 pictures: five standard deviations are 28.
    assert abs(is_mirrored.sum() - 64 * flip) <= 28 * flip


def _dark(number):
  """Returns pictures of one dark level, which few operations brighten."""
  return Pictures([np.full((16, 16, 3), number, np.uint8)] * 4096)


@proves('augmentation.randaugment_layers')
def test_as_many_operations_as_layers_are_applied():
  same = {}
  for layers in (0, 1, 2, 6):
    images = _read(
      _dark(10), 400, randaugment_layers=layers, randaugment_magnitude=5.0
    )
    same[layers] = (images == 10).all((1, 2, 3)).mean()
  # Some operations leave dark pictures as they are; several do if all do.
  assert same[0] == 1
  assert 0.2 < same[1] < 0.8
  # Five standard deviations.
  assert abs(same[2] - same[1] ** 2) < 0.125
  assert abs(same[6] - same[1] ** 6) < 0.1


@proves('augmentation.randaugment_magnitude')
def test_operations_are_as_strong_as_the_magnitude():
  # SolarizeAdd brightens what is dark by 11 times the magnitude.
  for magnitude, added in ((5.0, 55), (10.0, 110), (15.0, 165)):
    images = _read(
      _dark(10), 200, randaugment_layers=1, randaugment_magnitude=magnitude
    )
    levels = set(images[:, 8, 8, 0].astype(int).tolist())
    assert 10 + added in levels
    assert not levels & {10 + 55, 10 + 110, 10 + 165} - {10 + added}


@proves('augmentation.randaugment_probability')
def test_operations_are_applied_as_often_as_the_probability():
  changed = {}
  for probability in (0.0, 0.5, 1.0):
    images = _read(
      _dark(10),
      400,
      randaugment_layers=1,
      randaugment_magnitude=10.0,
      randaugment_probability=probability,
    )
    changed[probability] = int((images != 10).any((1, 2, 3)).sum())
  assert changed[0.0] == 0
  # Half as many; five standard deviations are 50.
  assert changed[1.0] > 120
  assert abs(changed[0.5] - changed[1.0] / 2) < 50


@proves('augmentation.randaugment_scale')
def test_a_magnitude_means_what_the_scale_says():
  # At 2 TensorFlow keeps no bit, and its factors are 0.46; timm keeps four,
  # and has 1.18 and 0.82.
  levels = {}
  for scale in ('tensorflow', 'timm'):
    images = _read(
      _dark(150),
      400,
      randaugment_layers=1,
      randaugment_magnitude=2.0,
      randaugment_scale=scale,
    )
    levels[scale] = set(images[:, 8, 8, 0].astype(int).tolist())
  assert {0, 69} <= levels['tensorflow']
  assert {123, 144, 177} <= levels['timm']
  assert not levels['tensorflow'] & {123, 144, 177}
  assert not levels['timm'] & {0, 69}


@proves('augmentation.random_erasing_probability')
def test_so_many_pictures_have_a_box_erased():
  # 128 pictures: four standard deviations are 20.
  for probability, bound in ((0.0, 0), (0.3, 20), (1.0, 0)):
    images = _read(_dark(10), random_erasing_probability=probability)
    is_erased = (images != 10).any((1, 2, 3))
    assert abs(is_erased.sum() - 128 * probability) <= bound + 0.5


@proves('augmentation.random_erasing_fill')
def test_a_box_is_filled_with_noise_or_the_mean():
  kinds = {}
  for fill in ('noise', 'mean'):
    images = runs.read_images(
      {
        'preprocessing.image_size': (16, 16),
        'preprocessing.mean': (0.4, 0.4, 0.4),
        'preprocessing.std': (0.1, 0.1, 0.1),
        'augmentation.random_erasing_probability': 1.0,
        'augmentation.random_erasing_fill': fill,
        'training.global_batch_size': 128,
      },
      _dark(10),
    )
    kinds[fill] = images[images != 10].astype(float)
  assert set(kinds['mean'].tolist()) == {102}
  # N(0, 1) once it is normalised: 0.4 and 0.1 of 255.
  assert abs(kinds['noise'].mean() - 102) < 2
  assert abs(kinds['noise'].std() - 25.5) < 2


@proves('augmentation.repeats')
def test_each_picture_is_so_often_in_a_batch():
  source = Pictures(
    [np.full((16, 16, 3), 10 * number, np.uint8) for number in range(16)]
  )
  for repeats in (1, 2, 4):
    images = _read(source, runs.BATCH_SIZE, repeats=repeats)
    _, counts = np.unique(images[:, 8, 8, 0], return_counts=True)
    assert counts.tolist() == [repeats] * (runs.BATCH_SIZE // repeats)
