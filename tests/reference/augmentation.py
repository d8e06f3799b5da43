"""Pictures of any shape to those of a batch, and which are in it."""

import math

import cv2
import numpy as np

from tests.reference import draws
from tests.reference.randaugment import randaugment

_INTERPOLATION = {'bilinear': cv2.INTER_LINEAR, 'bicubic': cv2.INTER_CUBIC}


def train_batch(pictures, config: dict, step: int):
  """Returns the pictures [B, H, W, 3] uint8 and classes [B] of a step."""
  seed, size = config['seed'], config['training.global_batch_size']
  images, labels = [], []
  for place in range(step * size, (step + 1) * size):
    epoch, position = divmod(place, len(pictures))
    if config['mistake'] == 'every epoch has the same order':
      epoch = 0
    picture, label = pictures[draws.order(seed, epoch, len(pictures))[position]]
    rng = draws.augmentation_rng(seed, place)
    images.append(_augment(picture, rng, config))
    labels.append(label)
  return np.stack(images), np.array(labels)


def _augment(picture, rng, config):
  """Crops at random and resizes, mirrors, applies RandAugment."""
  top, left, height, width = _random_crop(*picture.shape[:2], rng, config)
  image = _resize(
    picture[top : top + height, left : left + width],
    *config['preprocessing.image_size'],
    config['preprocessing.interpolation'],
  )
  if config['augmentation.horizontal_flip'] and rng.uniform() < 0.5:
    image = image[:, ::-1]
  return randaugment(np.ascontiguousarray(image), rng, config)


def _random_crop(height, width, rng, config):
  """Draws area, log of the ratio, and place, up to ten times."""
  low_area, high_area = config['augmentation.crop_area']
  low_ratio, high_ratio = config['augmentation.crop_aspect_ratio']
  # Four numbers for each of ten attempts, whether they are needed or not.
  attempts = rng.uniform(size=(10, 4))
  for for_area, for_ratio, for_top, for_left in attempts:
    area = (low_area + (high_area - low_area) * for_area) * height * width
    ratio = low_ratio * (high_ratio / low_ratio) ** for_ratio
    crop_width = round(math.sqrt(area * ratio))
    crop_height = round(math.sqrt(area / ratio))
    if 0 < crop_width <= width and 0 < crop_height <= height:
      top = math.floor(for_top * (height - crop_height + 1))
      left = math.floor(for_left * (width - crop_width + 1))
      return top, left, crop_height, crop_width
  # The largest in the centre, of an allowed ratio.
  ratio = min(max(width / height, low_ratio), high_ratio)
  crop_width = min(width, round(height * ratio))
  crop_height = min(height, round(width / ratio))
  return (
    (height - crop_height) // 2,
    (width - crop_width) // 2,
    crop_height,
    crop_width,
  )


def _resize(image, height, width, interpolation):
  """Averages areas where a side shrinks; then interpolates where one grows."""
  rows, columns = image.shape[:2]
  if rows > height or columns > width:
    size = (min(columns, width), min(rows, height))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
  if image.shape[:2] != (height, width):
    image = cv2.resize(
      image, (width, height), interpolation=_INTERPOLATION[interpolation]
    )
  return image


def eval_image(picture, config: dict):
  """Resizes and cuts out the centre."""
  height, width = config['preprocessing.image_size']
  rows, columns = picture.shape[:2]
  fraction = config['preprocessing.eval_crop_fraction']
  row_scale = height / (fraction * rows)
  column_scale = width / (fraction * columns)
  if config['preprocessing.eval_resize'] == 'cover':
    row_scale = column_scale = max(row_scale, column_scale)
  rows, columns = round(rows * row_scale), round(columns * column_scale)
  image = _resize(picture, rows, columns, config['preprocessing.interpolation'])
  top, left = (rows - height) // 2, (columns - width) // 2
  return image[top : top + height, left : left + width]
