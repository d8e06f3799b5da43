"""Sources of pictures that tests made.

Imports next to nothing: the loop's worker processes import this too.
"""

import os
import threading
import time

import numpy as np

from coatnet_jax.data.image_source import ImageSource

NUM_CLASSES = 4


def level(number: int) -> np.ndarray:
  """Returns a picture of one colour that tells its number."""
  return np.full((8, 8, 3), 10 * number, np.uint8)


class Pictures(ImageSource):
  """Pictures; number k is of class k modulo 4, unless labels say more."""

  description = 'pictures'
  class_names = tuple('abcd')

  def __init__(self, images, labels=None):
    self._images = images
    self._labels = labels or [k % NUM_CLASSES for k in range(len(images))]

  def __len__(self):
    return len(self._images)

  def __getitem__(self, index):
    return {'image': self._images[index], 'label': self._labels[index]}

  def describe(self, index):
    return f'picture {index}'


class Readers(Pictures):
  """Levels of which three pixels say which process and thread read them."""

  def __init__(self):
    super().__init__([level(number) for number in range(16)])
    self._reader = os.getpid()

  def __getitem__(self, index):
    time.sleep(0.002)  # Or one thread is done before another begins.
    example = super().__getitem__(index)
    image = example['image'].copy()
    image[7, 7] = os.getpid() != self._reader, 0, 0
    image[7, 6] = list((threading.get_ident() >> 6).to_bytes(8)[-3:])
    image[7, 5] = list(os.getpid().to_bytes(8)[-3:])
    return {**example, 'image': image}


class Counting(Pictures):
  """Levels; counts how often they are read."""

  def __init__(self):
    super().__init__([level(number) for number in range(16)])
    self.count = 0

  def __getitem__(self, index):
    self.count += 1
    return super().__getitem__(index)
