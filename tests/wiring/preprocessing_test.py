"""`config.preprocessing`: what training, evaluation and checkpoints have of it.

Normalisation is in `train_step_test.py`, where the network sees it.
"""

import numpy as np
import pytest

from tests.wiring import runs
from tests.wiring.pictures import Pictures
from tests.wiring.registry import proves


def _loop(source, **preprocessing):
  changes = {f'preprocessing.{name}': v for name, v in preprocessing.items()}
  a_run = runs.create_run({'training.num_steps': 1, **changes}, source=source)
  recorded = runs.record_loop(a_run)
  return a_run, recorded.images[0], recorded.eval_batches[0]['image']


def _step_edge(height, width):
  """Returns a picture whose right half is white."""
  image = np.zeros((height, width, 3), np.uint8)
  image[:, width // 2 :] = 255
  return image


@proves('preprocessing.image_size')
def test_pictures_are_of_the_size_in_training_and_evaluation():
  source = Pictures([_step_edge(20, 20)] * 8)
  for size in ((8, 8), (8, 16), (24, 12)):
    a_run, trained, evaluated = _loop(source, image_size=size)
    assert trained.shape == evaluated.shape == (8, *size, 3)
    assert a_run.abstract_batch['image'].shape == (8, *size, 3)


@proves('preprocessing.eval_crop_fraction')
def test_evaluation_crops_to_the_fraction_and_training_does_not():
  column = np.arange(64, dtype=np.uint8) * 4
  source = Pictures([np.tile(column[None, :, None], (64, 1, 3))] * 8)
  for fraction in (1.0, 0.5, 0.25):
    _, trained, evaluated = _loop(
      source, image_size=(16, 16), eval_crop_fraction=fraction
    )
    shown = np.ptp(evaluated[0, 8, :, 0].astype(float)) / 4 * 16 / 15
    assert shown == pytest.approx(64 * fraction, rel=0.1)
    assert np.ptp(trained[0, 8, :, 0]) / 4 * 16 / 15 == pytest.approx(64, 0.1)


@proves('preprocessing.eval_resize')
def test_evaluation_covers_or_squashes_a_picture_that_is_wide():
  # A quarter at each end is white: 'cover' cuts these off.
  image = np.zeros((16, 32, 3), np.uint8)
  image[:, :8] = image[:, -8:] = 255
  source = Pictures([image] * 8)
  white = {}
  for resize in ('cover', 'squash'):
    _, trained, evaluated = _loop(
      source, image_size=(16, 16), eval_resize=resize
    )
    white[resize] = evaluated[0].mean() / 255
    assert not trained.any()
  assert white['cover'] == pytest.approx(0, abs=0.01)
  assert white['squash'] == pytest.approx(0.5, abs=0.01)


@proves('preprocessing.interpolation')
def test_pictures_grow_by_the_interpolation():
  source = Pictures([_step_edge(8, 8) // 2 + 60] * 8)
  shown = {}
  for interpolation in ('nearest', 'bilinear', 'bicubic'):
    for kind, images in zip(
      ('training', 'evaluation'),
      _loop(source, image_size=(32, 32), interpolation=interpolation)[1:],
    ):
      shown[interpolation, kind] = images[0, 16, :, 0].astype(int)
  for kind in ('training', 'evaluation'):
    assert set(shown['nearest', kind]) == {60, 187}
    assert len(set(shown['bilinear', kind])) > 2
    assert shown['bilinear', kind].min() == 60
    assert shown['bilinear', kind].max() == 187
    # It overshoots, beside an edge.
    assert shown['bicubic', kind].min() < 60
    assert shown['bicubic', kind].max() > 187
