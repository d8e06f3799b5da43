import cv2
import numpy as np
import pytest

from coatnet_jax.data.randaugment import SCALES, Draw


@pytest.mark.slow
@pytest.mark.parametrize('magnitude', [2.0, 5.0, 15.0, 20.0, 30.0])
def test_operations_are_those_that_they_are_compared_with(magnitude):
  # Here, because it takes TensorFlow along.
  import tensorflow as tf

  from benchmarks import tf_randaugment

  small = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
  image = cv2.resize(small, (96, 80), interpolation=cv2.INTER_CUBIC)
  operations = SCALES['tensorflow']
  assert set(tf_randaugment.OPERATIONS) == set(operations)
  for name, operation in operations.items():
    for sign, place in ((1.0, (0.5, 0.1)), (-1.0, (0.99, 0.3))):
      arguments = operation.arguments(magnitude, Draw(sign, *place))
      expected = operation.apply(image, *arguments).astype(int)
      found = tf_randaugment.OPERATIONS[name](
        tf.constant(image), magnitude, sign, tf.constant(place)
      )
      difference = np.abs(found.numpy() - expected)
      # OpenCV's and TensorFlow's bilinear weights are rounded differently, and
      # so are factors that enlarge what was rounded before.
      assert difference.max() <= 5, name
      assert difference.mean() < 1, name
