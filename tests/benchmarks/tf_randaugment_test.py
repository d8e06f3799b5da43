import cv2
import numpy as np
import pytest

from coatnet_jax.data import randaugment


@pytest.mark.slow
def test_operations_are_those_that_they_are_compared_with():
  # Here, because it takes TensorFlow along.
  import tensorflow as tf

  from benchmarks import tf_randaugment

  small = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
  image = cv2.resize(small, (48, 40), interpolation=cv2.INTER_CUBIC)
  assert list(tf_randaugment.OPERATIONS) == list(randaugment.OPERATIONS)
  for name, operation in randaugment.OPERATIONS.items():
    for sign in (1.0, -1.0):
      expected = operation(image, 15.0, sign).astype(int)
      found = tf_randaugment.OPERATIONS[name](tf.constant(image), 15.0, sign)
      difference = np.abs(found.numpy() - expected)
      # OpenCV's and TensorFlow's bilinear weights are rounded differently.
      assert difference.max() <= 3, name
      assert difference.mean() < 1, name
