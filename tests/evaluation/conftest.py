"""What the tests of evaluation start from."""

import pytest
import tensorflow_datasets as tfds
from etils import epath
from ml_collections import ConfigDict

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data.sources import DataOptions
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.training.losses import LossOptions
from configs import base
from tests.evaluation.painted_images import ReadsColour
from tests.quick_configs import create_preprocessing

_PREPROCESSING = {
  'image_size': (8, 8),
  'mean': (0.0, 0.0, 0.0),
  'std': (1.0, 1.0, 1.0),
  'interpolation': 'bilinear',
}


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
      preprocessing=create_preprocessing(**_PREPROCESSING),
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
