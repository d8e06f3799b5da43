"""Options, pictures and idx files that the data tests share."""

import contextlib
import gzip
import struct

import cv2
import numpy as np
import pytest

from coatnet_jax.data.augmentation import (
  AugmentationOptions,
)
from coatnet_jax.data.batching import (
  create_eval_batches,
  create_train_batches,
)
from coatnet_jax.data.sources import DataOptions
from configs import base
from tests.quick_configs import create_preprocessing


@pytest.fixture
def data_options():
  """Returns a function: what differs from configs/base.py to DataOptions."""

  def create(**changes):
    return DataOptions(**{**base.get_config().data.to_dict(), **changes})

  return create


@pytest.fixture
def preprocessing():
  return create_preprocessing


@pytest.fixture
def augmentation():
  def create(**changes):
    options = base.get_config().augmentation.to_dict()
    # For small pictures, which the other scale makes grey.
    options.update(randaugment_magnitude=5.0, randaugment_scale='timm')
    return AugmentationOptions(**{**options, **changes})

  return create


@pytest.fixture
def read_plain_batch(preprocessing, augmentation):
  """Returns a function: a source to a training batch without augmentation."""

  def read(source, data, image_size, batch_size, seed=0):
    height, width = image_size
    batches = create_train_batches(
      source,
      data=data,
      preprocessing=preprocessing(image_size=image_size),
      augmentation=augmentation(
        crop_area=(1.0, 1.0),
        crop_aspect_ratio=(width / height, width / height),
        horizontal_flip=False,
        randaugment_layers=0,
      ),
      global_batch_size=batch_size,
      seed=seed,
    )
    with contextlib.closing(batches):
      return next(batches)

  return read


@pytest.fixture
def read_whole_batch(preprocessing):
  """Returns a function: a source to its evaluation batch of whole pictures."""

  def read(source, data, image_size, batch_size):
    (batch,) = create_eval_batches(
      source,
      data=data,
      preprocessing=preprocessing(
        image_size=image_size, eval_crop_fraction=1.0
      ),
      global_batch_size=batch_size,
    )
    return batch

  return read


@pytest.fixture
def picture():
  """Returns a function: height, width and seed to a smooth RGB picture."""

  def create(height=48, width=64, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)

  return create


@pytest.fixture
def encode():
  """Returns a function: suffix, RGB picture and OpenCV settings to a file."""

  def create(suffix, image, *parameters):
    if image.ndim == 3:
      image = image[..., [2, 1, 0, *range(3, image.shape[-1])]]
    return cv2.imencode(suffix, image, parameters)[1].tobytes()

  return create


@pytest.fixture
def write_idx():
  """Returns a function that writes [N, H, W] and [N] uint8 as idx files."""

  def write(directory, images, labels, prefix='train', compress=False):
    for kind, array in (('images-idx3', images), ('labels-idx1', labels)):
      header = bytes((0, 0, 8, array.ndim))
      header += struct.pack(f'>{array.ndim}I', *array.shape)
      data = header + array.astype(np.uint8).tobytes()
      path = directory / f'{prefix}-{kind}-ubyte'
      if compress:
        path.with_name(path.name + '.gz').write_bytes(gzip.compress(data))
      else:
        path.write_bytes(data)

  return write
