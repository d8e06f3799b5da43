"""What our models are compared with keras_cv_attention_models' on.

The same for the script that writes the golden files and for the tests that read
them. Needs neither TensorFlow nor keras_cv_attention_models.
"""

import numpy as np

from tests.golden import timm_cases

# S3 is no wider than S2: its shortcut has a 1x1 convolution nevertheless.
STEM_WIDTH = 32
NUM_BLOCKS = (1, 2, 2, 1)
WIDTHS = (32, 64, 64, 96)
# Square: of other images its attention mixes rows and columns up.
IMAGE_SIZE = (64, 64)
NUM_CLASSES = 7
MAP_NAMES = timm_cases.MAP_NAMES


def create_images() -> np.ndarray:
  """Returns the images, normalised, [2, 64, 64, 3] float32."""
  return timm_cases.normalise(timm_cases.create_images(2, IMAGE_SIZE))


def summarise_map(array: np.ndarray) -> dict[str, np.ndarray]:
  """Returns what the golden file keeps of a map [B, H, W, C]."""
  return timm_cases.summarise_map(array, columns=2)
