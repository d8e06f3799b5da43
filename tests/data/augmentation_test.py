import cv2
import numpy as np
import pytest

from coatnet_jax.data.augmentation import (
  augment_image,
  crop_for_evaluation,
  resize_image,
  sample_crop,
)
from coatnet_jax.errors import UserError


@pytest.fixture
def gradient():
  """[60, 80, 3]: red tells the column, green the row, blue is 0."""
  image = np.zeros((60, 80, 3), np.uint8)
  image[..., 0] = np.arange(80) * 3
  image[..., 1] = np.arange(60)[:, None] * 4
  return image


def sample_crops(height, width, count=20_000, **settings):
  rng = np.random.default_rng(0)
  settings = {'area': (0.08, 1.0), 'aspect_ratio': (3 / 4, 4 / 3), **settings}
  return np.array(
    [sample_crop(height, width, rng, **settings) for _ in range(count)]
  ).T


def test_crops_lie_in_the_image_and_in_the_ranges():
  top, left, height, width = sample_crops(300, 400)
  assert top.min() == 0
  assert left.min() == 0
  assert (top + height).max() == 300
  assert (left + width).max() == 400
  area = height * width / (300 * 400)
  assert 0.075 < area.min() < 0.09
  # A whole 4:3 image has the largest ratio that is allowed.
  assert 0.95 < area.max() <= 1
  ratio = width / height
  assert 0.74 < ratio.min() < 0.76
  assert 1.32 < ratio.max() < 1.35


def test_crop_area_is_uniform_and_ratio_log_uniform():
  # Small enough that every draw fits.
  _, _, height, width = sample_crops(1000, 1000, area=(0.1, 0.5))
  area = height * width / 1e6
  assert area.mean() == pytest.approx(0.3, abs=0.005)
  assert area.std() == pytest.approx(0.4 / np.sqrt(12), rel=0.03)
  log_ratio = np.log(width / height)
  assert log_ratio.mean() == pytest.approx(0, abs=0.005)
  assert log_ratio.std() == pytest.approx(
    2 * np.log(4 / 3) / np.sqrt(12), rel=0.03
  )


@pytest.mark.parametrize('ratio', [2.0, 0.5, 1.25])
def test_the_ratio_of_a_crop_is_width_by_height(ratio):
  _, _, height, width = sample_crops(
    1000, 1000, count=20, area=(0.1, 0.2), aspect_ratio=(ratio, ratio)
  )
  assert width / height == pytest.approx(ratio, rel=0.01)


def test_crop_place_is_uniform():
  top, left, height, width = sample_crops(200, 200, area=(0.25, 0.25))
  for start, extent in ((top, height), (left, width)):
    place = start / (200 - extent)
    assert place.mean() == pytest.approx(0.5, abs=0.01)
    assert np.quantile(place, 0.25) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
  ('size', 'expected'),
  [((100, 1000), (0, 433, 100, 133)), ((1000, 100), (433, 0, 133, 100))],
)
def test_crop_falls_back_to_the_centre(size, expected):
  # Nine tenths of a 10:1 image cannot be had at a ratio of 4:3.
  crops = sample_crops(*size, count=50, area=(0.9, 1.0)).T
  assert {tuple(crop) for crop in crops.tolist()} == {expected}


@pytest.mark.parametrize('size', [(1, 1), (1, 500), (2, 3)])
def test_crop_of_a_tiny_image_is_in_it(size):
  top, left, height, width = sample_crops(*size, count=200)
  assert min(height.min(), width.min()) == 1
  assert (top + height).max() <= size[0]
  assert (left + width).max() <= size[1]


def test_crop_reaches_both_ends_of_one_pixel_to_spare():
  top, left, height, width = sample_crops(2, 2, count=200, area=(0.2, 0.3))
  assert set(height) == set(width) == {1}
  assert set(top) == set(left) == {0, 1}


def test_reduction_averages_whole_areas():
  image = np.zeros((4, 4, 3), np.uint8)
  image[::2, ::2] = 200
  np.testing.assert_array_equal(
    resize_image(image, (2, 2), 'nearest'), np.full((2, 2, 3), 50)
  )


def test_enlargement_uses_the_interpolation():
  image = np.array([[[0] * 3, [100] * 3]], np.uint8)
  nearest = resize_image(image, (1, 4), 'nearest')
  assert nearest[0, :, 0].tolist() == [0, 0, 100, 100]
  bilinear = resize_image(image, (1, 4), 'bilinear')
  assert bilinear[0, :, 0].tolist() == [0, 25, 75, 100]
  bicubic = resize_image(image, (1, 4), 'bicubic')
  assert bicubic[0, :, 0].tolist() not in ([0, 0, 100, 100], [0, 25, 75, 100])


def test_resize_may_reduce_one_side_and_enlarge_the_other(gradient):
  image = resize_image(gradient, (120, 40), 'bilinear')
  assert image.shape == (120, 40, 3)
  np.testing.assert_allclose(
    image[60, :, 0], (np.arange(40) * 2 + 0.5) * 3, atol=1
  )


def test_resize_to_the_same_size_changes_nothing(gradient):
  assert resize_image(gradient, (60, 80), 'bicubic') is gradient


@pytest.mark.parametrize(
  ('eval_resize', 'image_size', 'fraction', 'columns', 'rows'),
  [
    # Short side 60 to 60: the centre square, columns 10 .. 70 of 80.
    ('cover', (60, 60), 1.0, (10, 69), (0, 59)),
    # Short side to 60 of 48 / 0.8: no scaling, 48 in the middle.
    ('cover', (48, 48), 0.8, (16, 63), (6, 53)),
    # Half the size.
    ('cover', (30, 30), 1.0, (10.5, 68.5), (0.5, 58.5)),
    # Wide: the width decides, rows 20 .. 40 remain.
    ('cover', (20, 80), 1.0, (0, 79), (20, 39)),
    # Tall.
    ('cover', (60, 20), 1.0, (30, 49), (0, 59)),
    # Without the proportions, 80 columns to 60 and 60 rows to 60: all of them.
    ('squash', (60, 60), 1.0, (0, 79), (0, 59)),
    # To 60x60 of 48 / 0.8: the middle 48 of each, 1 1/3 columns a pixel.
    ('squash', (48, 48), 0.8, (8.2, 70.8), (6, 53)),
    ('squash', (30, 40), 1.0, (0.5, 78.5), (0.5, 58.5)),
    ('squash', (20, 80), 1.0, (0, 79), (1, 58)),
  ],
)
def test_evaluation_crop_takes_the_centre(
  gradient, preprocessing, eval_resize, image_size, fraction, columns, rows
):
  options = preprocessing(
    image_size=image_size,
    eval_crop_fraction=fraction,
    eval_resize=eval_resize,
    interpolation='bilinear',
  )
  image = crop_for_evaluation(gradient, options)
  assert image.shape == (*image_size, 3)
  # Squashing may reduce one side alone, whose pixels are means then.
  tolerance = 1 if eval_resize == 'cover' else 1.5
  assert image[0, [0, -1], 0].tolist() == pytest.approx(
    [3 * column for column in columns], abs=tolerance
  )
  assert image[[0, -1], 0, 1].tolist() == pytest.approx(
    [4 * row for row in rows], abs=tolerance
  )


def test_evaluation_resizes_the_short_side_to_256_for_224(preprocessing):
  image = np.zeros((300, 400, 3), np.uint8)
  image[:, 200:] = 255
  crop = crop_for_evaluation(image, preprocessing())
  scaled = cv2.resize(image, (341, 256), interpolation=cv2.INTER_AREA)
  np.testing.assert_array_equal(crop, scaled[16:240, 58:282])


@pytest.mark.parametrize('size', [(1, 1), (3, 700), (499, 2), (2000, 31)])
@pytest.mark.parametrize('eval_resize', ['cover', 'squash'])
def test_any_image_becomes_one_of_the_image_size(
  preprocessing, augmentation, size, eval_resize
):
  image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
  options = preprocessing(image_size=(32, 48), eval_resize=eval_resize)
  assert crop_for_evaluation(image, options).shape == (32, 48, 3)
  for seed in range(10):
    rng = np.random.default_rng(seed)
    augmented = augment_image(image, rng, options, augmentation())
    assert augmented.shape == (32, 48, 3)
    assert augmented.dtype == np.uint8


def test_half_of_the_images_are_mirrored(gradient, preprocessing, augmentation):
  options = preprocessing(image_size=(60, 80))
  whole = augmentation(
    crop_area=(1.0, 1.0), crop_aspect_ratio=(4 / 3, 4 / 3), randaugment_layers=0
  )
  rng = np.random.default_rng(0)
  images = [augment_image(gradient, rng, options, whole) for _ in range(400)]
  mirrored = sum(np.array_equal(image, gradient[:, ::-1]) for image in images)
  plain = sum(np.array_equal(image, gradient) for image in images)
  assert mirrored + plain == 400
  assert 160 < mirrored < 240


def test_nothing_is_mirrored_when_it_is_off(
  gradient, preprocessing, augmentation
):
  options = preprocessing(image_size=(30, 40))
  never = augmentation(horizontal_flip=False, randaugment_layers=0)
  rng = np.random.default_rng(0)
  for _ in range(50):
    image = augment_image(gradient, rng, options, never).astype(int)
    assert (np.diff(image[..., 0], axis=1) >= 0).all()


def test_a_generator_determines_the_image(
  gradient, preprocessing, augmentation
):
  options = preprocessing(image_size=(30, 40))

  def augmented(seed):
    rng = np.random.default_rng(seed)
    return augment_image(gradient, rng, options, augmentation()).tobytes()

  assert augmented(3) == augmented(3)
  assert len({augmented(seed) for seed in range(20)}) == 20


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('image_size', (224,), r'2 values, .*\(height, width\) in pixels'),
    ('image_size', (0, 224), r'2 values, .*\(height, width\) in pixels'),
    ('image_size', (224.5, 224), r'2 values, .*\(height, width\) in pixels'),
    ('mean', (124.0, 116.0, 104.0), '0..255 divided by 255'),
    ('mean', (0.5, 0.5), '3 values, each a number'),
    ('std', (0.5,), '3 values, each a number'),
    ('std', (0.5, 0.0, 0.5), 'at least 0.0001'),
    ('eval_crop_fraction', 0.0, 'at least 0.01 and at most 1'),
    ('eval_crop_fraction', 1.2, 'at least 0.01 and at most 1'),
    ('eval_resize', 'stretch', "'stretch'.* one of cover, squash"),
    ('interpolation', 'cubic', "'cubic'.* one of nearest, bilinear, bicubic"),
  ],
)
def test_impossible_preprocessing_is_refused(
  preprocessing, key, value, message
):
  with pytest.raises(UserError, match=f'preprocessing.{key} is .*{message}'):
    preprocessing(**{key: value})


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('crop_area', (0.0, 1.0)),
    ('crop_area', (0.5, 0.2)),
    ('crop_area', (0.5, 1.2)),
    ('crop_area', (0.5,)),
    ('crop_aspect_ratio', (0.0, 1.0)),
    ('crop_aspect_ratio', (2.0, 1.0)),
    ('randaugment_layers', -1),
    ('randaugment_magnitude', 30.5),
    ('randaugment_magnitude', -1.0),
    ('randaugment_probability', -0.5),
    ('randaugment_probability', 1.5),
    ('randaugment_scale', 'tf'),
    ('randaugment_scale', ''),
    ('randaugment_scale', 'Timm'),
    ('random_erasing_probability', -0.1),
    ('random_erasing_probability', 1.1),
    ('random_erasing_fill', 'pixel'),
    ('repeats', 0),
  ],
)
def test_impossible_augmentation_is_refused(augmentation, key, value):
  with pytest.raises(UserError, match=f'augmentation.{key} is '):
    augmentation(**{key: value})


def test_unknown_and_missing_keys_are_type_errors(preprocessing):
  with pytest.raises(TypeError, match='sizes'):
    preprocessing(sizes=3)
  with pytest.raises(TypeError, match='missing'):
    type(preprocessing())(image_size=(2, 2))
