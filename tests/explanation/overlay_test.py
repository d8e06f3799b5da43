"""A map lies on the part of the picture that the model sees."""

import cv2
import numpy as np
import pytest

from coatnet_jax.data.augmentation import (
  crop_for_evaluation,
  place_evaluation_crop,
)
from coatnet_jax.explanation import overlay
from tests.quick_configs import create_preprocessing

SHAPES = [(120, 120), (120, 200), (333, 150), (60, 90), (40, 1500)]
RULES = ['cover', 'squash', 'timm', 'timm_squash', 'keras_cv']


def _options(rule, size=(32, 48), fraction=0.8):
  return create_preprocessing(
    image_size=size,
    eval_crop_fraction=fraction,
    eval_resize=rule,
    interpolation='bilinear',
  )


@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize('shape', SHAPES)
def test_a_planted_spot_is_where_the_crop_shows_it(rule, shape):
  """The crop as a map of itself, laid back over the picture."""
  options = _options(rule)
  place = place_evaluation_crop(shape, options)
  top, left, height, width = place.find_box()
  for part in ((0.25, 0.7), (0.6, 0.2), (0.5, 0.5)):
    center = top + part[0] * height, left + part[1] * width
    picture = np.zeros((*shape, 3), np.uint8)
    rows, columns = np.indices(shape) + 0.5
    # A spot that neither resizing nor its own cells hide.
    radii = max(height / 10, 1.5), max(width / 10, 1.5)
    spot = np.hypot(
      (rows - center[0]) / radii[0], (columns - center[1]) / radii[1]
    )
    picture[spot < 1] = 255
    crop = crop_for_evaluation(picture, options)
    spread = overlay.spread_over_picture(
      crop[..., 0].astype(np.float32), shape, place
    )
    weights = np.nan_to_num(spread)
    for axis, indices in enumerate((rows, columns)):
      for values in (weights, picture[..., 0].astype(float)):
        found = (indices * values).sum() / values.sum()
        cell = (height / 32, width / 48)[axis]
        assert abs(found - center[axis]) < max(0.6, 0.5 * cell)
    outside = np.isnan(spread)
    assert not (outside & (weights > 0)).any()
    inside = (
      (rows >= top)
      & (rows < top + height)
      & (columns >= left)
      & (columns < left + width)
    )
    np.testing.assert_array_equal(inside, ~outside)


def test_a_centre_crop_leaves_the_sides_of_a_wide_picture():
  place = place_evaluation_crop((100, 300), _options('cover', (50, 50), 1.0))
  assert place.find_box() == (0, 100, 100, 100)
  spread = overlay.spread_over_picture(
    np.ones((5, 5), np.float32), (100, 300), place
  )
  assert np.isnan(spread[:, :100]).all()
  assert np.isnan(spread[:, 200:]).all()
  assert (spread[:, 100:200] == 1).all()
  picture = np.random.default_rng(0).integers(0, 256, (100, 300, 3), np.uint8)
  shown = overlay.lay_over(picture, spread)
  assert shown.shape == picture.shape
  # Apart from the frame, what the model does not see stays as it is.
  np.testing.assert_array_equal(shown[:, :96], picture[:, :96])
  np.testing.assert_array_equal(shown[:, 204:], picture[:, 204:])


def test_a_map_is_interpolated_between_the_middles_of_its_cells():
  place = place_evaluation_crop((8, 16), _options('squash', (8, 16), 1.0))
  spread = overlay.spread_over_picture(
    np.array([[0.0, 1.0]], np.float32), (8, 16), place
  )
  # Cells of 8 columns, with their middles at 4 and 12.
  np.testing.assert_allclose(
    spread[3], np.clip((np.arange(16) + 0.5 - 4) / 8, 0, 1), atol=0.02
  )


def test_levels_are_told_without_colour():
  levels = np.linspace(0, 1, 11)[None]
  grey = cv2.cvtColor(overlay.color_levels(levels), cv2.COLOR_RGB2GRAY)
  steps = np.diff(grey[0].astype(int))
  assert (steps > 8).all()
  assert steps.max() < 2 * steps.min()


def test_a_line_surrounds_what_is_above_half():
  picture = np.full((64, 64, 3), 100, np.uint8)
  spread = np.zeros((64, 64), np.float32)
  spread[20:40, 10:50] = 1
  with_line = overlay.lay_over(picture, spread)
  without = overlay.lay_over(picture, spread, with_line=False)
  rows, columns = np.nonzero((with_line != without).any(-1))
  assert 17 <= rows.min() <= 20
  assert 39 <= rows.max() <= 42
  assert 7 <= columns.min() <= 10
  assert 49 <= columns.max() <= 52
  assert (with_line == 255).all(-1).any()


def test_a_map_of_nothing_stays_0():
  assert not overlay.scale_to_one(np.zeros((3, 3))).any()
  few = np.zeros((10, 10))
  few[0, 0] = 5  # Above the quantile alone.
  assert overlay.scale_to_one(few, 0.9).max() == 1
