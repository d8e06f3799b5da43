"""RandAugment against Pillow's operations at strengths that stand here.

Two statements of each scale that share no code with ours: a table of strengths
and what Pillow makes of a photograph-like picture at each of them.
"""

import math

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from coatnet_jax.data.randaugment import SCALES, Draw, apply_randaugment

GREY = 128
HEIGHT, WIDTH = 160, 224

# What each operation gets at these magnitudes, with a positive sign: degrees,
# slope, pixels (timm: of 160 rows or 224 columns), bits kept, threshold, what
# is added, factor, half of a side.
MAGNITUDES = (5, 9, 15, 20)
ENHANCEMENTS = ('Color', 'Contrast', 'Brightness', 'Sharpness')
_COMMON = {
  'Rotate': (15, 27, 45, 60),
  **dict.fromkeys(('ShearX', 'ShearY'), (0.15, 0.27, 0.45, 0.6)),
}
STRENGTHS = {
  'tensorflow': {
    **_COMMON,
    **dict.fromkeys(('TranslateX', 'TranslateY'), (50, 90, 150, 200)),
    'Posterize': (2, 3, 6, 8),
    'Solarize': (128, 230, 384, 512),
    'SolarizeAdd': (55, 99, 165, 220),
    **dict.fromkeys(ENHANCEMENTS, (1.0, 1.72, 2.8, 3.7)),
    'Cutout': (20, 36, 60, 80),
  },
  'timm': {
    **_COMMON,
    'TranslateX': (50.4, 90.72, 151.2, 201.6),
    'TranslateY': (36, 64.8, 108, 144),
    'Posterize': (2, 1, 0, 0),
    'Solarize': (128, 26, 0, 0),
    'SolarizeAdd': (55, 99, 128, 128),
    **dict.fromkeys(ENHANCEMENTS, (1.45, 1.81, 2.35, 2.8)),
  },
}
# The factors of timm's with a negative sign.
REDUCED = dict(zip(MAGNITUDES, (0.55, 0.19, 0.1, 0.1), strict=True))
WARPS = ('Rotate', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY')
WITHOUT_STRENGTH = ('AutoContrast', 'Equalize', 'Invert')


def _warp(image, matrix):
  """Returns Pillow's: `matrix` leads from the result to its source."""
  return image.transform(
    image.size,
    Image.Transform.AFFINE,
    matrix,
    resample=Image.Resampling.BILINEAR,
    fillcolor=(GREY,) * 3,
  )


def _cut(image, half_side):
  """Cuts a square about the middle."""
  row, column = HEIGHT // 2, WIDTH // 2
  box = (column - half_side, row - half_side)
  image.paste((GREY,) * 3, (*box, column + half_side, row + half_side))
  return image


def _brighten(image, addition):
  return image.point(lambda x: x + addition if x < 128 else x)


PILLOW = {
  'AutoContrast': lambda image, _: ImageOps.autocontrast(image),
  'Equalize': lambda image, _: ImageOps.equalize(image),
  'Invert': lambda image, _: ImageOps.invert(image),
  'Rotate': lambda image, degrees: image.rotate(
    degrees, Image.Resampling.BILINEAR, fillcolor=(GREY,) * 3
  ),
  'ShearX': lambda image, slope: _warp(
    image, (1, -slope, slope * HEIGHT / 2, 0, 1, 0)
  ),
  'ShearY': lambda image, slope: _warp(
    image, (1, 0, 0, -slope, 1, slope * WIDTH / 2)
  ),
  'TranslateX': lambda image, pixels: _warp(image, (1, 0, -pixels, 0, 1, 0)),
  'TranslateY': lambda image, pixels: _warp(image, (1, 0, 0, 0, 1, -pixels)),
  'Posterize': lambda image, bits: image.point(
    lambda x: x & (256 - 2 ** (8 - bits))
  ),
  'Solarize': ImageOps.solarize,
  'SolarizeAdd': _brighten,
  'Color': lambda image, factor: ImageEnhance.Color(image).enhance(factor),
  'Contrast': lambda image, factor: ImageEnhance.Contrast(image).enhance(
    factor
  ),
  'Brightness': lambda image, factor: ImageEnhance.Brightness(image).enhance(
    factor
  ),
  'Sharpness': lambda image, factor: ImageEnhance.Sharpness(image).enhance(
    factor
  ),
  'Cutout': _cut,
}


@pytest.fixture(scope='module')
def photograph():
  """[160, 224, 3]: smooth, with other extremes in each channel."""
  noise = np.random.default_rng(0).random((12, 16, 3)).astype(np.float32)
  image = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
  return (image.clip(0, 1) * (200, 150, 240) + (20, 60, 5)).astype(np.uint8)


@pytest.fixture
def levels():
  """[16, 16, 3]: every level once in each channel, in another order."""
  ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
  return np.stack([ramp, ramp[::-1], ramp.T], axis=-1)


@pytest.fixture
def dot():
  """[41, 41, 3]: a white dot on black, 10 right of and 5 below the centre."""
  image = np.zeros((41, 41, 3), np.uint8)
  image[24:27, 29:32] = 255
  return image


def apply(name, image, magnitude, sign=1.0, scale='timm', place=(0.5, 0.5)):
  operation = SCALES[scale][name]
  draw = Draw(sign, *place)
  result = operation.apply(image, *operation.arguments(magnitude, draw))
  assert result.shape == image.shape
  assert result.dtype == np.uint8
  return result


def place_of_dot(image):
  """Returns row and column of the centre of what is brighter than grey."""
  weights = image[..., 0].clip(min=GREY).astype(float) - GREY
  rows, columns = np.indices(weights.shape)
  total = weights.sum()
  return (rows * weights).sum() / total, (columns * weights).sum() / total


def test_the_operations_of_both_scales():
  for scale, strengths in STRENGTHS.items():
    assert sorted(SCALES[scale]) == sorted([*strengths, *WITHOUT_STRENGTH])
  assert list(SCALES) == list(STRENGTHS)
  assert [len(SCALES[scale]) for scale in SCALES] == [16, 15]


def _compare(found, expected, name):
  difference = np.abs(found.astype(int) - np.asarray(expected).astype(int))
  if name == 'Sharpness':
    # Pillow leaves the outermost pixels as they are.
    difference = difference[1:-1, 1:-1]
  # Pillow cuts off what we round, has whole greys, and fills what lies half
  # outside with nothing but grey. Its histograms have whole steps.
  exact = {'Equalize': 10, **dict.fromkeys(ENHANCEMENTS, 4)}.get(name, 1)
  share = 0.97 if name in WARPS else 1.0
  assert (difference <= exact).mean() >= share, name
  assert difference.mean() < 3, name


@pytest.mark.parametrize('name', WITHOUT_STRENGTH)
def test_what_has_no_strength_is_pillows(photograph, name):
  expected = PILLOW[name](Image.fromarray(photograph), None)
  for scale in SCALES:
    for magnitude in MAGNITUDES:
      _compare(apply(name, photograph, magnitude, scale=scale), expected, name)


@pytest.mark.parametrize(
  ('scale', 'name'),
  [(scale, name) for scale, row in STRENGTHS.items() for name in row],
)
def test_strengths_are_those_of_the_table_in_pillow(photograph, scale, name):
  for magnitude, strength in zip(
    MAGNITUDES, STRENGTHS[scale][name], strict=True
  ):
    for sign in (1.0, -1.0):
      signed = strength
      if name in WARPS:
        signed = sign * strength
      elif name in ENHANCEMENTS and scale == 'timm' and sign < 0:
        signed = REDUCED[magnitude]
      found = apply(name, photograph, magnitude, sign, scale)
      expected = PILLOW[name](Image.fromarray(photograph), signed)
      _compare(found, expected, name)


def test_posterize_and_solarize_below_their_ranges(levels):
  assert not apply('Posterize', levels, 30).any()
  np.testing.assert_array_equal(apply('Solarize', levels, 30), 255 - levels)


def test_tensorflows_scale_at_large_magnitudes_keeps_every_level(levels):
  for name in ('Posterize', 'Solarize'):
    for magnitude in (20, 25.5, 30):
      found = apply(name, levels, magnitude, scale='tensorflow')
      np.testing.assert_array_equal(found, levels)


@pytest.mark.parametrize('size', [(28, 28), (224, 224), (384, 512)])
def test_tensorflow_moves_by_pixels_and_timm_by_a_part(size):
  image = np.zeros((*size, 3), np.uint8)
  for name, side in (('TranslateX', size[1]), ('TranslateY', size[0])):
    for scale, expected in (
      ('tensorflow', min(50, side)),
      ('timm', math.ceil(0.225 * side)),
    ):
      moved = apply(name, image, 5, scale=scale)
      line = moved[0, :, 0] if name == 'TranslateX' else moved[:, 0, 0]
      assert np.count_nonzero(line) == expected


@pytest.mark.parametrize(
  ('place', 'rows', 'columns'),
  [
    ((0.5, 0.5), (30, 70), (80, 120)),
    ((0.0, 0.0), (0, 20), (0, 20)),
    ((0.999, 0.25), (79, 100), (30, 70)),
  ],
)
def test_cutout_is_a_square_about_its_place(place, rows, columns):
  image = np.zeros((100, 200, 3), np.uint8)
  found = apply('Cutout', image, 5, scale='tensorflow', place=place)
  expected = image.copy()
  expected[slice(*rows), slice(*columns)] = GREY
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('scale', SCALES)
def test_no_operation_changes_its_input(levels, scale):
  before = levels.copy()
  for name in SCALES[scale]:
    for sign in (1.0, -1.0):
      for magnitude in (0, 10.5, 30):
        apply(name, levels, magnitude, sign, scale)
        np.testing.assert_array_equal(levels, before)


@pytest.mark.parametrize(
  'name',
  sorted(set(SCALES['timm']) - {'AutoContrast', 'Equalize', 'Invert'}),
)
def test_timms_magnitude_zero_changes_next_to_nothing(levels, name):
  for sign in (1.0, -1.0):
    expected = levels & 0b11110000 if name == 'Posterize' else levels
    np.testing.assert_array_equal(apply(name, levels, 0, sign), expected)


def test_invert(levels):
  np.testing.assert_array_equal(apply('Invert', levels, 10), 255 - levels)


def test_auto_contrast_stretches_each_channel():
  image = np.zeros((2, 2, 3), np.uint8)
  image[..., 0] = [[100, 120], [120, 200]]
  image[..., 1] = [[0, 255], [10, 20]]
  image[..., 2] = 77
  result = apply('AutoContrast', image, 10)
  assert result[..., 0].tolist() == [[0, 51], [51, 255]]
  assert result[..., 1].tolist() == [[0, 255], [10, 20]]
  assert (result[..., 2] == 77).all()


def test_equalize_flattens_the_histogram():
  rng = np.random.default_rng(0)
  image = rng.normal(100, 10, (64, 64, 3)).round().astype(np.uint8)
  result = apply('Equalize', image, 10)
  quartiles = np.quantile(result, [0.25, 0.5, 0.75])
  np.testing.assert_allclose(quartiles, [64, 128, 192], atol=10)


@pytest.mark.parametrize(
  ('magnitude', 'sign', 'factor'), [(10, 1, 1.9), (10, -1, 0.1), (5, -1, 0.55)]
)
def test_brightness_multiplies(levels, magnitude, sign, factor):
  expected = np.clip(np.rint(levels * factor), 0, 255)
  result = apply('Brightness', levels, magnitude, sign)
  np.testing.assert_allclose(result.astype(int), expected, atol=1)


def test_factors_are_at_least_a_tenth(levels):
  expected = np.rint(levels * 0.1)
  for magnitude in (10.5, 30):
    result = apply('Brightness', levels, magnitude, -1.0)
    np.testing.assert_array_equal(result, expected)


def test_contrast_moves_levels_from_the_mean():
  image = np.zeros((2, 2, 3), np.uint8)
  image[0], image[1] = 80, 120
  assert apply('Contrast', image, 10, 1.0)[:, 0, 0].tolist() == [62, 138]
  assert apply('Contrast', image, 10, -1.0)[:, 0, 0].tolist() == [98, 102]


def test_color_moves_channels_from_grey():
  image = np.full((2, 2, 3), (150, 100, 50), np.uint8)
  grey = 0.299 * 150 + 0.587 * 100 + 0.114 * 50
  for sign, factor in ((1.0, 1.9), (-1.0, 0.1)):
    expected = grey + factor * (np.array([150, 100, 50]) - grey)
    np.testing.assert_allclose(
      apply('Color', image, 10, sign)[0, 0], expected.clip(0, 255), atol=1
    )


def test_sharpness_moves_levels_from_a_smoothed_image():
  image = np.full((9, 9, 3), 100, np.uint8)
  image[4, 4] = 150
  blurred = apply('Sharpness', image, 10, -1.0)
  # A tenth of the picture and nine tenths of the smoothed one.
  assert blurred[4, 4, 0] == round(100 + 50 * (0.1 + 0.9 * 5 / 13))
  assert blurred[4, 5, 0] == round(100 + 50 * 0.9 / 13)
  sharpened = apply('Sharpness', image, 10, 1.0)
  assert sharpened[4, 4, 0] == round(100 + 50 * (1.9 - 0.9 * 5 / 13))
  assert sharpened[4, 5, 0] == round(100 - 50 * 0.9 / 13)
  assert sharpened[0, 0, 0] == 100


@pytest.mark.parametrize(
  ('name', 'magnitude', 'sign', 'place'),
  [
    # 0.45 of 41 pixels at magnitude 10.
    ('TranslateX', 10, -1.0, (25, 30 - 18.45)),
    ('TranslateX', 2, 1.0, (25, 30 + 3.69)),
    ('TranslateY', 10, -1.0, (25 - 18.45, 30)),
    # The dot is 5 rows below the centre and 10 columns right of it.
    ('ShearX', 10, 1.0, (25, 30 + 0.3 * 5)),
    ('ShearX', 20, -1.0, (25, 30 - 0.6 * 5)),
    ('ShearY', 10, -1.0, (25 - 0.3 * 10, 30)),
    # A quarter turn, to the left and to the right.
    ('Rotate', 30, 1.0, (10, 25)),
    ('Rotate', 30, -1.0, (30, 15)),
  ],
)
def test_geometry_moves_the_dot(dot, name, magnitude, sign, place):
  moved = place_of_dot(apply(name, dot, magnitude, sign))
  assert moved == pytest.approx(place, abs=0.3)


@pytest.mark.parametrize(
  'name', ['Rotate', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY']
)
def test_what_moves_in_is_grey(name):
  image = np.zeros((40, 40, 3), np.uint8)
  result = apply(name, image, 15)
  values, counts = np.unique(result, return_counts=True)
  assert values.min() == 0
  assert values.max() == GREY
  assert counts[-1] > 100


@pytest.mark.parametrize('settings', [(0, 1.0), (2, 0.0)])
def test_no_layers_and_no_probability_change_nothing(levels, settings):
  result = apply_randaugment(
    levels,
    np.random.default_rng(0),
    num_layers=settings[0],
    magnitude=15,
    probability=settings[1],
    scale='tensorflow',
  )
  np.testing.assert_array_equal(result, levels)
