"""What stands in for a picture that cannot be decoded has its own label."""

import numpy as np
import pytest

from coatnet_jax.data.batching import create_train_batches
from tests.wiring.pictures import Pictures


@pytest.mark.parametrize('damaged', [{3}, {0, 6}, {11}])
def test_every_picture_has_its_own_label(
  damaged, data_options, preprocessing, augmentation
):
  # A number, in twelve pictures of four classes.
  images = [
    b'no picture' if k in damaged else np.full((4, 4, 3), k, np.uint8)
    for k in range(12)
  ]
  iterator = create_train_batches(
    Pictures(images),
    data=data_options(),
    preprocessing=preprocessing(image_size=(4, 4)),
    augmentation=augmentation(randaugment_layers=0),
    global_batch_size=12,
    seed=0,
  )
  batch = next(iterator)
  iterator.close()
  shown = batch['image'][:, 0, 0, 0]
  assert set(shown) == set(range(12)) - damaged
  np.testing.assert_array_equal(batch['label'], shown % 4)
  assert set(batch['corrupt']) == damaged | {-1}
