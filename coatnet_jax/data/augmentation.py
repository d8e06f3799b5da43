"""Cropping, resizing and flipping of single images, on the host.

Training: random-resized crop, mirroring, RandAugment, random erasing.
Evaluation and prediction: resize and centre crop. Pixels stay uint8; the
model's step normalises them.
"""

import dataclasses
import math
import types

import cv2
import numpy as np

from coatnet_jax.data.published_crops import keras_cv_crop, timm_crop
from coatnet_jax.data.randaugment import SCALES, apply_randaugment
from coatnet_jax.data.random_erasing import FILLS, erase_randomly
from coatnet_jax.errors import UserError

_INTERPOLATIONS = types.MappingProxyType(
  {
    'nearest': cv2.INTER_NEAREST,
    'bilinear': cv2.INTER_LINEAR,
    'bicubic': cv2.INTER_CUBIC,
  }
)

# How evaluation makes an image of any shape one of image_size.
_EVAL_RESIZES = ('cover', 'squash', 'timm', 'timm_squash', 'keras_cv')

# Draws of a random crop before the centre is taken instead.
_CROP_ATTEMPTS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreprocessingOptions:
  """What every image goes through; see configs/base.py."""

  image_size: tuple[int, int]
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  eval_crop_fraction: float
  eval_resize: str
  interpolation: str

  def __post_init__(self):
    """Checks the values; a UserError says which is impossible."""
    size = self.image_size
    if len(size) != 2 or any(int(n) != n or n < 1 for n in size):
      raise UserError(
        f'config.preprocessing.image_size is {size}; it must be (height, '
        'width) in pixels, two positive integers.'
      )
    for key in ('mean', 'std'):
      if len(getattr(self, key)) != 3:
        raise UserError(
          f'config.preprocessing.{key} is {getattr(self, key)}; it must be '
          'three numbers, for red, green and blue.'
        )
    if min(self.std) <= 0:
      raise UserError(
        f'config.preprocessing.std is {self.std}; it must be positive.'
      )
    if not 0 < self.eval_crop_fraction <= 1:
      raise UserError(
        'config.preprocessing.eval_crop_fraction is '
        f'{self.eval_crop_fraction}; it must be above 0 and at most 1.'
      )
    if self.eval_resize not in _EVAL_RESIZES:
      raise UserError(
        f'config.preprocessing.eval_resize is {self.eval_resize!r}; it must '
        f'be one of {", ".join(_EVAL_RESIZES)}.'
      )
    if self.interpolation not in _INTERPOLATIONS:
      raise UserError(
        f'config.preprocessing.interpolation is {self.interpolation!r}; it '
        f'must be one of {", ".join(_INTERPOLATIONS)}.'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationOptions:
  """What training images go through; see configs/base.py."""

  crop_area: tuple[float, float]
  crop_aspect_ratio: tuple[float, float]
  horizontal_flip: bool
  randaugment_layers: int
  randaugment_magnitude: float
  randaugment_probability: float
  randaugment_scale: str
  random_erasing_probability: float
  random_erasing_fill: str
  repeats: int

  def __post_init__(self):
    """Checks the values; a UserError says which is impossible."""
    area = self.crop_area
    if len(area) != 2 or not 0 < area[0] <= area[1] <= 1:
      raise UserError(
        f'config.augmentation.crop_area is {area}; it must be (smallest, '
        'largest) with 0 < smallest <= largest <= 1.'
      )
    ratio = self.crop_aspect_ratio
    if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
      raise UserError(
        f'config.augmentation.crop_aspect_ratio is {ratio}; it must be '
        '(smallest, largest) with 0 < smallest <= largest.'
      )
    if self.randaugment_layers < 0:
      raise UserError(
        'config.augmentation.randaugment_layers is '
        f'{self.randaugment_layers}; it cannot be negative.'
      )
    if not 0 <= self.randaugment_magnitude <= 30:
      raise UserError(
        'config.augmentation.randaugment_magnitude is '
        f'{self.randaugment_magnitude}; it must be between 0 and 30.'
      )
    if not 0 <= self.randaugment_probability <= 1:
      raise UserError(
        'config.augmentation.randaugment_probability is '
        f'{self.randaugment_probability}; it must be between 0 and 1.'
      )
    if self.randaugment_scale not in SCALES:
      raise UserError(
        'config.augmentation.randaugment_scale is '
        f'{self.randaugment_scale!r}; it must be one of {", ".join(SCALES)}.'
      )
    if not 0 <= self.random_erasing_probability <= 1:
      raise UserError(
        'config.augmentation.random_erasing_probability is '
        f'{self.random_erasing_probability}; it must be between 0 and 1.'
      )
    if self.random_erasing_fill not in FILLS:
      raise UserError(
        'config.augmentation.random_erasing_fill is '
        f'{self.random_erasing_fill!r}; it must be one of {", ".join(FILLS)}.'
      )
    if self.repeats < 1:
      raise UserError(
        f'config.augmentation.repeats is {self.repeats}; it must be at least '
        '1, which repeats nothing.'
      )

  def check_batch_size(self, global_batch_size: int) -> None:
    """Checks that a batch can be made of repeated images.

    Args:
      global_batch_size: images per step, over all processes.

    Raises:
      UserError: `repeats` does not divide it.
    """
    if global_batch_size % self.repeats:
      raise UserError(
        f'config.augmentation.repeats is {self.repeats}, which does not divide '
        f'the global batch size, {global_batch_size}.'
      )


def augment_image(
  image: np.ndarray,
  rng: np.random.Generator,
  preprocessing: PreprocessingOptions,
  augmentation: AugmentationOptions,
) -> np.ndarray:
  """Makes a training image: crop, mirror, RandAugment, random erasing.

  Args:
    image: [h, w, 3] uint8.
    rng: the only source of randomness.
    preprocessing: image size, interpolation, and what is noise to the model.
    augmentation: the rest.

  Returns:
    [H, W, 3] uint8 of `preprocessing.image_size`.
  """
  top, left, height, width = sample_crop(
    image.shape[0],
    image.shape[1],
    rng,
    area=augmentation.crop_area,
    aspect_ratio=augmentation.crop_aspect_ratio,
  )
  image = resize_image(
    image[top : top + height, left : left + width],
    preprocessing.image_size,
    preprocessing.interpolation,
  )
  if augmentation.horizontal_flip and rng.random() < 0.5:
    image = cv2.flip(image, 1)
  image = apply_randaugment(
    image,
    rng,
    num_layers=augmentation.randaugment_layers,
    magnitude=augmentation.randaugment_magnitude,
    probability=augmentation.randaugment_probability,
    scale=augmentation.randaugment_scale,
  )
  return erase_randomly(
    image,
    rng,
    probability=augmentation.random_erasing_probability,
    fill=augmentation.random_erasing_fill,
    mean=preprocessing.mean,
    std=preprocessing.std,
  )


def sample_crop(
  height: int,
  width: int,
  rng: np.random.Generator,
  *,
  area: tuple[float, float],
  aspect_ratio: tuple[float, float],
) -> tuple[int, int, int, int]:
  """Samples the box of an Inception-style random-resized crop.

  The area is uniform, the aspect ratio log-uniform, the place uniform
  (Szegedy et al., arXiv 1409.4842, section 6). Where no draw of ten fits in
  the image, the box is the largest in its centre of an allowed ratio.

  Args:
    height: of the image.
    width: of the image.
    rng: source of randomness.
    area: smallest and largest part of the image.
    aspect_ratio: smallest and largest width / height of the box.

  Returns:
    top, left, height and width of the box, inside the image.
  """
  # All draws in one call: a call costs more than the numbers.
  draws = rng.random((_CROP_ATTEMPTS, 4)).tolist()
  low, high = math.log(aspect_ratio[0]), math.log(aspect_ratio[1])
  for area_draw, ratio_draw, top_draw, left_draw in draws:
    target = height * width * (area[0] + area_draw * (area[1] - area[0]))
    ratio = math.exp(low + ratio_draw * (high - low))
    crop_width = round(math.sqrt(target * ratio))
    crop_height = round(math.sqrt(target / ratio))
    if 0 < crop_width <= width and 0 < crop_height <= height:
      top = int(top_draw * (height - crop_height + 1))
      left = int(left_draw * (width - crop_width + 1))
      return top, left, crop_height, crop_width
  crop_width = min(width, max(1, round(height * aspect_ratio[1])))
  crop_height = min(height, max(1, round(width / aspect_ratio[0])))
  top, left = (height - crop_height) // 2, (width - crop_width) // 2
  return top, left, crop_height, crop_width


def resize_image(
  image: np.ndarray, size: tuple[int, int], interpolation: str
) -> np.ndarray:
  """Resizes without aliasing: area averages to reduce, `interpolation` to grow.

  Args:
    image: [h, w, 3] uint8.
    size: height and width of the result.
    interpolation: 'nearest', 'bilinear' or 'bicubic'.

  Returns:
    [*size, 3] uint8; the image itself if it is of that size.
  """
  height, width = size
  reduced = min(image.shape[0], height), min(image.shape[1], width)
  if reduced != image.shape[:2]:
    image = cv2.resize(image, reduced[::-1], interpolation=cv2.INTER_AREA)
  if reduced != (height, width):
    image = cv2.resize(
      image, (width, height), interpolation=_INTERPOLATIONS[interpolation]
    )
  return image


def evaluation_crop(
  image: np.ndarray, preprocessing: PreprocessingOptions
) -> np.ndarray:
  """Resizes an image and cuts out its centre, as evaluation and prediction do.

  With 'cover' the image is scaled, in proportion, until it just covers
  image_size / eval_crop_fraction: for 224 and 0.875, until its short side is
  256. With 'squash' it becomes of that size, whatever its proportions are. The
  others are rules of other projects: `published_crops.py`.

  Args:
    image: [h, w, 3] uint8.
    preprocessing: size, fraction, kind of resizing and interpolation.

  Returns:
    [H, W, 3] uint8 of `preprocessing.image_size`.
  """
  if preprocessing.eval_resize in ('timm', 'timm_squash'):
    return timm_crop(
      image,
      preprocessing.image_size,
      fraction=preprocessing.eval_crop_fraction,
      interpolation=preprocessing.interpolation,
      squash=preprocessing.eval_resize == 'timm_squash',
    )
  if preprocessing.eval_resize == 'keras_cv':
    return keras_cv_crop(
      image,
      preprocessing.image_size,
      fraction=preprocessing.eval_crop_fraction,
      interpolation=preprocessing.interpolation,
    )
  height, width = preprocessing.image_size
  scales = (
    height / preprocessing.eval_crop_fraction / image.shape[0],
    width / preprocessing.eval_crop_fraction / image.shape[1],
  )
  if preprocessing.eval_resize == 'cover':
    scales = (max(scales),) * 2
  resized = (
    max(height, round(image.shape[0] * scales[0])),
    max(width, round(image.shape[1] * scales[1])),
  )
  image = resize_image(image, resized, preprocessing.interpolation)
  top, left = (resized[0] - height) // 2, (resized[1] - width) // 2
  return image[top : top + height, left : left + width]
