"""Evaluation crops of other projects, whose weights were measured with them.

Both filter as Pillow does, whatever the scale is: an antialiased filter, where
`augmentation.resize_image` reduces by area averages.

`place_as_timm` is `transforms_imagenet_eval` of timm 1.0
(`data/transforms_factory.py`). `place_as_keras_cv` is
`evaluation_process_crop_resize` of keras_cv_attention_models
(`imagenet/data.py`), which resizes with TensorFlow; TensorFlow's antialiased
filters are the same but for the rounding.
"""

import math
import types
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from coatnet_jax.data.crop_place import CropPlace

_FILTERS = types.MappingProxyType(
  {
    'nearest': Image.Resampling.NEAREST,
    'bilinear': Image.Resampling.BILINEAR,
    'bicubic': Image.Resampling.BICUBIC,
  }
)


def place_as_timm(
  shape: tuple[int, int],
  size: tuple[int, int],
  fraction: float,
  *,
  squash: bool = False,
) -> CropPlace:
  """Returns where timm's evaluation resizes an image and cuts out its centre.

  Args:
    shape: height and width of the image.
    size: height and width of the result.
    fraction: timm's crop_pct: the image is resized to size / fraction, rounded
      down.
    squash: whether both sides are resized, as by timm's crop_mode 'squash';
      else the image keeps its proportions and covers what is resized to.
  """
  target = tuple(math.floor(side / fraction) for side in size)
  height, width = shape
  if squash:
    resized = target
  elif target[0] == target[1]:
    # torchvision's Resize of the short side.
    short, long = min(height, width), max(height, width)
    long = int(target[0] * long / short)
    resized = (target[0], long) if height <= width else (long, target[0])
  else:
    # timm's ResizeKeepRatio.
    ratio = min(height / target[0], width / target[1])
    resized = (round(height / ratio), round(width / ratio))
  # torchvision's CenterCrop.
  top, left = (round((whole - side) / 2) for whole, side in zip(resized, size))
  return CropPlace((0, 0, height, width), resized, (top, left), size)


def place_as_timm_squash(
  shape: tuple[int, int], size: tuple[int, int], fraction: float
) -> CropPlace:
  """Does what `place_as_timm` does with `squash`."""
  return place_as_timm(shape, size, fraction, squash=True)


def place_as_keras_cv(
  shape: tuple[int, int], size: tuple[int, int], fraction: float
) -> CropPlace:
  """Returns which central square keras_cv's evaluation cuts out and resizes.

  Args:
    shape: height and width of the image.
    size: height and width of the result.
    fraction: side of the square, as a part of the image's short side.
  """
  side = max(1, int(fraction * min(shape)))
  top, left = ((whole - side) // 2 for whole in shape)
  return CropPlace((top, left, side, side), size, (0, 0), size)


# By the name that config.preprocessing.eval_resize has for each.
PUBLISHED_CROPS: Mapping[str, Callable[..., CropPlace]] = (
  types.MappingProxyType(
    {
      'timm': place_as_timm,
      'timm_squash': place_as_timm_squash,
      'keras_cv': place_as_keras_cv,
    }
  )
)


def resize_as_pillow(
  image: np.ndarray, size: tuple[int, int], interpolation: str
) -> np.ndarray:
  """Resizes [h, w, 3] uint8 to [*size, 3] by an antialiased filter.

  Arguments, and what is returned, are those of `augmentation.resize_image`.
  """
  if image.shape[:2] == size:
    return image
  resized = Image.fromarray(image).resize(size[::-1], _FILTERS[interpolation])
  return np.asarray(resized)
