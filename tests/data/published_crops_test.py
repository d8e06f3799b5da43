"""Evaluation of imported weights sees what their publishers measured with."""

import numpy as np
import pytest
from PIL import Image

from coatnet_jax.data.augmentation import (
  crop_for_evaluation,
)
from coatnet_jax.data.decoding import decode_image
from coatnet_jax.weights.published import PUBLISHED_WEIGHTS
from tests.golden.timm_crop_cases import (
  CASES,
  FILE,
  STEP,
  read_photograph,
)
from tests.quick_configs import create_preprocessing

SIZES = [(37, 53), (600, 333), (224, 224), (90, 400), (1000, 999)]


def _crop(image, size, fraction, eval_resize, interpolation='bicubic'):
  options = create_preprocessing(
    image_size=size,
    eval_crop_fraction=fraction,
    eval_resize=eval_resize,
    interpolation=interpolation,
  )
  return crop_for_evaluation(image, options)


@pytest.mark.parametrize('name', CASES)
def test_a_photograph_is_within_a_level_of_timms(name):
  size, fraction, mode, interpolation, on_side = CASES[name]
  image = decode_image(read_photograph())
  if on_side:
    image = np.ascontiguousarray(np.rot90(image))
  rule = {'center': 'timm', 'squash': 'timm_squash'}[mode]
  crop = _crop(image, size, fraction, rule, interpolation)
  assert crop.dtype == np.uint8
  assert crop.shape == (*size, 3)
  expected = np.load(FILE)[name].astype(int)
  assert np.abs(crop[::STEP, ::STEP] - expected).max() <= 1
  # The rule of our own runs is another one.
  ours = {'timm': 'cover', 'timm_squash': 'squash'}[rule]
  other = _crop(image, size, fraction, ours, interpolation)
  assert np.abs(other[::STEP, ::STEP] - expected).max() > 1


@pytest.mark.parametrize('size', SIZES)
def test_keras_cv_cuts_before_it_resizes(size):
  """Against the definition; Pillow rounds and clips after either pass."""
  rng = np.random.default_rng(0)
  small = rng.integers(0, 256, (9, 9, 3), np.uint8)
  image = np.asarray(Image.fromarray(small).resize(size[::-1]))
  crop = _crop(image, (32, 48), 0.95, 'keras_cv')
  assert crop.shape == (32, 48, 3)
  side = int(0.95 * min(size))
  top, left = (size[0] - side) // 2, (size[1] - side) // 2
  square = image[top : top + side, left : left + side].astype(float)
  expected = np.tensordot(_weights(side, 32), square, 1)
  expected = np.einsum('oj,ijc->ioc', _weights(side, 48), expected)
  assert np.abs(crop - np.clip(expected, 0, 255)).max() <= 2


def _weights(size, resized):
  """[resized, size]: Keys' cubic with a = -0.5, wider where it reduces."""
  scale = size / resized
  centers = (np.arange(resized) + 0.5) * scale - 0.5
  x = np.abs(np.arange(size) - centers[:, None]) / max(scale, 1)
  near = ((1.5 * x) - 2.5) * x * x + 1
  far = ((-0.5 * x + 2.5) * x - 4) * x + 2
  weights = np.where(x < 1, near, np.where(x < 2, far, 0))
  return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize('rule', ['timm', 'timm_squash', 'keras_cv'])
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('fraction', [1.0, 0.87])
def test_every_shape_becomes_the_images(rule, size, fraction):
  image = np.full((*size, 3), 7, np.uint8)
  for wanted in ((32, 32), (17, 40)):
    crop = _crop(image, wanted, fraction, rule)
    assert crop.shape == (*wanted, 3)
    assert (crop == 7).all()


def test_timm_rounds_down():
  """224 / 0.95 is 235.8: of 235 rows 5 are cut off above, of 236 six."""
  image = np.zeros((235, 235, 3), np.uint8)
  image[:, :, 0] = np.arange(235)[:, None]
  crop = _crop(image, (224, 224), 0.95, 'timm')
  # round(5.5) is 6 for Python, and so for torchvision.
  assert crop[0, 0, 0] == 6
  assert crop[-1, 0, 0] == 229


def test_published_weights_have_their_publishers_rule():
  for published in PUBLISHED_WEIGHTS:
    theirs = {'timm', 'timm_squash'}
    if 'keras_cv' in published.variant:
      theirs = {'keras_cv'}
    assert published.eval_resize in theirs
