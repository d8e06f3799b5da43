"""Evaluation crops of other projects, whose weights were measured with them.

Both filter as Pillow does, whatever the scale is: an antialiased filter, where
`augmentation.resize_image` reduces by area averages.

`crop_as_timm` is `transforms_imagenet_eval` of timm 1.0
(`data/transforms_factory.py`). `crop_as_keras_cv` is
`evaluation_process_crop_resize` of keras_cv_attention_models
(`imagenet/data.py`), which resizes with TensorFlow; TensorFlow's antialiased
filters are the same but for the rounding.
"""

import functools
import math
import types

import numpy as np
from PIL import Image

_FILTERS = types.MappingProxyType(
  {
    'nearest': Image.Resampling.NEAREST,
    'bilinear': Image.Resampling.BILINEAR,
    'bicubic': Image.Resampling.BICUBIC,
  }
)


def crop_as_timm(
  image: np.ndarray,
  size: tuple[int, int],
  *,
  fraction: float,
  interpolation: str,
  squash: bool,
) -> np.ndarray:
  """Resizes an image and cuts out its centre, as timm's evaluation does.

  Args:
    image: [h, w, 3] uint8.
    size: height and width of the result.
    fraction: timm's crop_pct: the image is resized to size / fraction, rounded
      down.
    interpolation: 'nearest', 'bilinear' or 'bicubic'.
    squash: whether both sides are resized, as by timm's crop_mode 'squash';
      else the image keeps its proportions and covers what is resized to.

  Returns:
    [*size, 3] uint8.
  """
  target = tuple(math.floor(side / fraction) for side in size)
  height, width = image.shape[:2]
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
  image = _resize(image, resized, interpolation)
  # torchvision's CenterCrop.
  top, left = (round((whole - side) / 2) for whole, side in zip(resized, size))
  return image[top : top + size[0], left : left + size[1]]


def crop_as_keras_cv(
  image: np.ndarray,
  size: tuple[int, int],
  *,
  fraction: float,
  interpolation: str,
) -> np.ndarray:
  """Cuts out a central square and resizes it, as keras_cv's evaluation does.

  Args:
    image: [h, w, 3] uint8.
    size: height and width of the result.
    fraction: side of the square, as a part of the image's short side.
    interpolation: 'nearest', 'bilinear' or 'bicubic'.

  Returns:
    [*size, 3] uint8.
  """
  side = max(1, int(fraction * min(image.shape[:2])))
  top, left = ((whole - side) // 2 for whole in image.shape[:2])
  square = image[top : top + side, left : left + side]
  return _resize(square, size, interpolation)


# By the name that config.preprocessing.eval_resize has for each.
PUBLISHED_CROPS = types.MappingProxyType(
  {
    'timm': functools.partial(crop_as_timm, squash=False),
    'timm_squash': functools.partial(crop_as_timm, squash=True),
    'keras_cv': crop_as_keras_cv,
  }
)


def _resize(
  image: np.ndarray, size: tuple[int, int], interpolation: str
) -> np.ndarray:
  if image.shape[:2] == size:
    return image
  resized = Image.fromarray(image).resize(size[::-1], _FILTERS[interpolation])
  return np.asarray(resized)
