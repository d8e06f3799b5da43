"""Writes the Keras files that keras_file_test.py reads.

`python tests/weights/make_keras_fixtures.py`, once with Keras 2 (TensorFlow
2.15) and once with Keras 3. The expected values stand in the test.
"""

import pathlib

import keras
import numpy as np

DIRECTORY = pathlib.Path(__file__).parent


class Positions(keras.layers.Layer):
  """A layer with a weight that it names itself."""

  def build(self, input_shape):
    """Adds the weight."""
    self.table = self.add_weight(
      name='positional_embedding', shape=(2, input_shape[-1])
    )
    super().build(input_shape)

  def call(self, inputs):
    """Adds a row of the table."""
    return inputs + self.table[0]


def main():
  """Writes the files of the installed Keras beside this script."""
  inputs = keras.layers.Input((4, 4, 2))
  x = keras.layers.Conv2D(3, 1, use_bias=False, name='stem_1_conv')(inputs)
  x = keras.layers.BatchNormalization(name='stem_1_bn')(x)
  x = Positions(name='attn_pos_emb')(x)
  model = keras.Model(inputs, x)
  model.set_weights(
    [
      np.arange(value.size).reshape(value.shape) + 100 * index
      for index, value in enumerate(model.get_weights())
    ]
  )
  if keras.__version__.startswith('2.'):
    model.save_weights(DIRECTORY / 'keras2_weights.h5')
    model.save(DIRECTORY / 'keras2_model.h5')
  else:
    model.save(DIRECTORY / 'keras3_model.h5')
    model.save_weights(DIRECTORY / 'keras3.weights.h5')


if __name__ == '__main__':
  main()
