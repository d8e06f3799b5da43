"""A model that reads its prediction off a picture, and TFDS's true data sets.

A painted picture has one colour, which is a class: red counts hundreds.
"""

import json
import shutil

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from ml_collections import ConfigDict

from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.data.sources import DataOptions
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.evaluation.corruptions import ALEXNET_ERRORS, SEVERITIES
from coatnet_jax.evaluation.data_sets import CORRUPTED
from coatnet_jax.trained_model import TrainedModel
from coatnet_jax.training.losses import LossOptions
from configs import base

# Added to the logit of the class that the picture shows.
SCALE = 3.0


class ReadsColour(nn.Module):
  """The largest logit is that of the painted class, then its neighbours'."""

  num_classes: int

  @nn.compact
  def __call__(self, images, train):
    """Maps [B, H, W, 3] in 0..1 to [B, num_classes]."""
    colour = jnp.round(images.mean((1, 2)) * 255)  # [B, 3]
    shown = 100 * colour[:, :1] + colour[:, 1:2]
    # What blue says is not in the logits: another feature.
    features = jnp.concatenate([shown, colour[:, 2:]], axis=-1)
    self.sow(
      'intermediates',
      'pre_logits',
      features,
      reduce_fn=lambda _, new: new,
      init_fn=tuple,
    )
    classes = jnp.arange(self.num_classes)
    return -SCALE * jnp.abs(classes - shown - 0.1)


def paint(label, blue=0, size=8):
  """Returns the pixels of a class, [size, size, 3] uint8."""
  colour = (label // 100, label % 100, blue)
  return np.broadcast_to(np.array(colour, np.uint8), (size, size, 3))


@pytest.fixture(scope='session')
def imagenet_names():
  path = epath.Path(tfds.core.tfds_path('datasets/imagenet2012/labels.txt'))
  return tuple(path.read_text().split())


@pytest.fixture(scope='session')
def create_trained():
  """Returns a function: class names to a `TrainedModel` that reads colour."""

  def create(class_names):
    config = base.get_config().to_dict()
    config['model']['name'] = 'reads_colour'
    return TrainedModel(
      model=ReadsColour(len(class_names)),
      variables={'params': {}, 'batch_stats': {}},
      preprocessing=PreprocessingOptions(
        image_size=(8, 8),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        eval_crop_fraction=0.875,
        eval_resize='cover',
        interpolation='bilinear',
      ),
      loss=LossOptions(kind='softmax', label_smoothing=0.1),
      class_names=tuple(class_names),
      config=ConfigDict(config),
      step=7,
      path=epath.Path('/nowhere/checkpoints/7'),
      mesh=mesh_lib.create_mesh(replica=-1, data=-1, fsdp=1, tensor=1),
      changes=(),
    )

  return create


@pytest.fixture(scope='session')
def trained(create_trained, imagenet_names):
  return create_trained(imagenet_names)


@pytest.fixture
def data_options():
  """Returns a function: what differs from configs/base.py to DataOptions."""

  def create(**changes):
    small = {'num_workers': 0, 'num_threads': 1, 'cache_mebibytes': 0}
    return DataOptions(
      **{**base.get_config().data.to_dict(), **small, **changes}
    )

  return create


def store(data_dir, name, split, examples):
  """Prepares a data set of TFDS with its own features, and our examples.

  Args:
    data_dir: where to.
    name: of the data set, with its config after a slash where it has some.
    split: of all examples.
    examples: dictionaries; an 'image' is pixels, any of which are kept.
  """
  name, _, config = name.partition('/')
  builder = tfds.builder(
    name, data_dir=str(data_dir), **({'config': config} if config else {})
  )
  features = dict(builder.info.features)
  # Not JPEG, which changes colours.
  features['image'] = tfds.features.Image(encoding_format='png')
  return tfds.dataset_builders.store_as_tfds_dataset(
    name=name,
    config=config or None,
    version=str(builder.version),
    features=tfds.features.FeaturesDict(features),
    split_datasets={split: list(enumerate(examples))},
    data_dir=str(data_dir),
    file_format='array_record',
    disable_shuffling=True,
  )


def store_corruptions(data_dir, imagenet_names):
  """Prepares all 75 parts of ImageNet-C, with five painted images each.

  As many are wrong as the severity says. One part is prepared for each
  severity, and copied for each corruption.

  Args:
    data_dir: where to.
    imagenet_names: of the 1,000 classes.
  """
  for severity in SEVERITIES:
    builder = store(
      data_dir,
      f'{CORRUPTED}/gaussian_noise_{severity}',
      'validation',
      [
        {
          'image': paint(label + 500 * (label < severity), size=16),
          'label': imagenet_names[label],
          'file_name': f'{label}.JPEG',
        }
        for label in range(5)
      ],
    )
    for corruption in ALEXNET_ERRORS:
      config = f'{corruption}_{severity}'
      copy = data_dir / CORRUPTED / config / str(builder.version)
      if not copy.exists():
        shutil.copytree(builder.data_dir, copy)
        info = copy / 'dataset_info.json'
        said = json.loads(info.read_text())
        info.write_text(json.dumps({**said, 'configName': config}))
