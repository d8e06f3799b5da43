"""Cropping, resizing and flipping of single images, on the host.

Training: random-resized crop, mirroring, RandAugment, random erasing.
Evaluation and prediction: resize and centre crop. Pixels stay uint8; the
model's step normalises them.
"""

import dataclasses
import math
import types
from typing import Annotated

import cv2
import numpy as np

from coatnet_jax.data.crop_place import CropPlace
from coatnet_jax.data.published_crops import (
  PUBLISHED_CROPS,
  resize_as_pillow,
)
from coatnet_jax.data.randaugment import SCALES, apply_randaugment
from coatnet_jax.data.random_erasing import FILLS, erase_randomly
from coatnet_jax.errors import UserError
from coatnet_jax.values import ImageSize, OneOf, Options, Range

_INTERPOLATIONS = types.MappingProxyType(
  {
    'nearest': cv2.INTER_NEAREST,
    'bilinear': cv2.INTER_LINEAR,
    'bicubic': cv2.INTER_CUBIC,
  }
)

# How evaluation makes an image of any shape one of image_size.
_EVAL_RESIZES = ('cover', 'squash', *PUBLISHED_CROPS)

_Mean = Annotated[float, Range(at_least=0, at_most=1)]
_Deviation = Annotated[float, Range(at_least=1e-4, at_most=1)]
_Part = Annotated[float, Range(above=0, at_most=1)]
_AspectRatio = Annotated[float, Range(at_least=0.01, at_most=100)]

# Draws of a random crop before the centre is taken instead.
_CROP_ATTEMPTS = 10
# The most by which a picture's long side exceeds its short one in evaluation.
MAX_PROPORTION = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreprocessingOptions(Options, section='config.preprocessing'):
  """What every image goes through; see configs/base.py."""

  image_size: ImageSize
  mean: Annotated[
    tuple[_Mean, _Mean, _Mean],
    'red, green and blue of pixels in 0..1, those of 0..255 divided by 255',
  ]
  std: Annotated[
    tuple[_Deviation, _Deviation, _Deviation],
    'red, green and blue of pixels in 0..1, those of 0..255 divided by 255',
  ]
  eval_crop_fraction: Annotated[float, Range(at_least=0.01, at_most=1)]
  eval_resize: Annotated[str, OneOf(_EVAL_RESIZES)]
  interpolation: Annotated[str, OneOf(_INTERPOLATIONS)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationOptions(Options, section='config.augmentation'):
  """What training images go through; see configs/base.py."""

  crop_area: Annotated[
    tuple[_Part, _Part], '(smallest, largest) part of the image'
  ]
  crop_aspect_ratio: Annotated[
    tuple[_AspectRatio, _AspectRatio], '(smallest, largest) width / height'
  ]
  horizontal_flip: bool
  randaugment_layers: Annotated[int, Range(at_least=0, at_most=100)]
  randaugment_magnitude: Annotated[float, Range(at_least=0, at_most=30)]
  randaugment_probability: Annotated[float, Range(at_least=0, at_most=1)]
  randaugment_scale: Annotated[str, OneOf(SCALES)]
  random_erasing_probability: Annotated[float, Range(at_least=0, at_most=1)]
  random_erasing_fill: Annotated[str, OneOf(FILLS)]
  repeats: Annotated[int, Range(at_least=1, at_most=2**20)]

  def check(self):
    """Raises UserError for a range from a larger to a smaller number."""
    for key in ('crop_area', 'crop_aspect_ratio'):
      smallest, largest = getattr(self, key)
      if smallest > largest:
        raise UserError(
          f'config.augmentation.{key} is {(smallest, largest)}; it must be'
          ' (smallest, largest).'
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
        f'config.augmentation.repeats is {self.repeats}; it must divide the '
        f'global batch size, {global_batch_size}.'
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
    rng: source of all randomness.
    preprocessing: image size, interpolation, and what is noise to the model.
    augmentation: crop, flip, RandAugment and random erasing.

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

  >>> rng = np.random.default_rng(0)
  >>> sample_crop(480, 640, rng, area=(0.08, 1), aspect_ratio=(0.75, 4 / 3))
  (20, 53, 448, 568)

  Args:
    height: image height in pixels.
    width: image width in pixels.
    rng: source of random numbers.
    area: smallest and largest area of the box, as parts of that of the image.
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

  >>> image = np.zeros((480, 640, 3), np.uint8)
  >>> resize_image(image, (224, 224), 'bicubic').shape
  (224, 224, 3)

  Args:
    image: [h, w, 3] uint8.
    size: height and width of the result.
    interpolation: 'nearest', 'bilinear' or 'bicubic'.

  Returns:
    [*size, 3] uint8; the image itself if it is of that size.
  """
  height, width = size
  # An interpolation reads a few pixels around each place; reducing by it would
  # skip rows. So the sides that shrink are averaged over areas first.
  reduced = min(image.shape[0], height), min(image.shape[1], width)
  if reduced != image.shape[:2]:
    image = cv2.resize(image, reduced[::-1], interpolation=cv2.INTER_AREA)
  if reduced != (height, width):
    image = cv2.resize(
      image, (width, height), interpolation=_INTERPOLATIONS[interpolation]
    )
  return image


def cut_to_proportions(image: np.ndarray) -> np.ndarray:
  """Cuts out the middle of a picture that is far longer than it is wide.

  Where the short side is enlarged to cover a size, the long one grows with it:
  a line of 2 x 60,000 pixels would take 6 GB. No photograph is so long.

  Args:
    image: [h, w, 3] uint8.

  Returns:
    The part of it whose long side is at most `MAX_PROPORTION` times the short.
  """
  return _cut(image, _find_proportionate(image.shape[:2]))


def _find_proportionate(shape: tuple[int, int]) -> tuple[int, int, int, int]:
  """Returns top, left, height and width of such a middle."""
  height, width = shape
  largest = MAX_PROPORTION * min(height, width)
  top, left = max(0, (height - largest) // 2), max(0, (width - largest) // 2)
  return top, left, min(height, largest), min(width, largest)


def _cut(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
  top, left, height, width = box
  return image[top : top + height, left : left + width]


def place_evaluation_crop(
  shape: tuple[int, int], preprocessing: PreprocessingOptions
) -> CropPlace:
  """Returns which part of a picture `crop_for_evaluation` shows.

  Args:
    shape: height and width of the picture.
    preprocessing: size, fraction and kind of resizing.
  """
  size, fraction = preprocessing.image_size, preprocessing.eval_crop_fraction
  top, left, height, width = 0, 0, *shape
  if not preprocessing.eval_resize.endswith('squash'):
    top, left, height, width = _find_proportionate(shape)
  if place := PUBLISHED_CROPS.get(preprocessing.eval_resize):
    found = place((height, width), size, fraction)
    inner_top, inner_left, cut_height, cut_width = found.cut
    return found._replace(
      cut=(top + inner_top, left + inner_left, cut_height, cut_width)
    )
  scales = size[0] / fraction / height, size[1] / fraction / width
  if preprocessing.eval_resize == 'cover':
    scales = (max(scales),) * 2
  resized = (
    max(size[0], round(height * scales[0])),
    max(size[1], round(width * scales[1])),
  )
  window = (resized[0] - size[0]) // 2, (resized[1] - size[1]) // 2
  return CropPlace((top, left, height, width), resized, window, size)


def crop_for_evaluation(
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
  place = place_evaluation_crop(image.shape[:2], preprocessing)
  is_published = preprocessing.eval_resize in PUBLISHED_CROPS
  resize = resize_as_pillow if is_published else resize_image
  resized = resize(
    _cut(image, place.cut), place.resized, preprocessing.interpolation
  )
  return _cut(resized, (*place.window, *place.size))
