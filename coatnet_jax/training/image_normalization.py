"""Pixels as the model takes them: preprocessing that happens on the device.

Cropping and resizing are the host's: `data/augmentation.py`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def normalize_images(
  images: jax.Array, *, mean: Sequence[float], std: Sequence[float]
) -> jax.Array:
  """Gives pixels the mean 0 and the standard deviation 1.

  >>> images = jnp.array([0, 255], jnp.uint8).reshape(1, 1, 2, 1)
  >>> normalize_images(images, mean=[0.5], std=[0.5]).ravel().tolist()
  [-1.0, 1.0]

  Args:
    images: [B, H, W, 3] uint8.
    mean: mean of the data, a number per channel, of pixels in 0..1.
    std: standard deviation of the data, a number per channel, of pixels in
      0..1.

  Returns:
    [B, H, W, 3] float32.
  """
  means = 255 * np.asarray(mean, np.float32)
  stds = 255 * np.asarray(std, np.float32)
  return (images.astype(jnp.float32) - means) / stds
