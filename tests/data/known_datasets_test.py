"""The sizes of data sets that are not there."""

import pytest

from coatnet_jax.data.known_datasets import KNOWN_DATASETS, get_known_dataset
from coatnet_jax.errors import UserError


@pytest.mark.parametrize(
  ('name', 'train', 'evaluation', 'classes'),
  [
    ('imagenet2012', 1_281_167, 50_000, 1_000),
    ('imagenet2012:5.1.0', 1_281_167, 50_000, 1_000),
    ('imagenet21k_fall11', 14_197_122, 0, 21_841),
    ('imagenet21k_winter21', 13_153_500, 0, 19_167),
    ('imagenet21k_p', 11_060_239, 522_500, 10_450),
  ],
)
def test_sizes(name, train, evaluation, classes):
  dataset = get_known_dataset(name)
  assert dataset.num_train_examples == train
  assert dataset.num_eval_examples == evaluation
  assert dataset.num_classes == classes


def test_imagenet_is_as_large_as_tfds_says():
  """TFDS has its classes and CIFAR-100's as text, without the images."""
  import tensorflow_datasets as tfds

  for name in ('imagenet2012', 'cifar100', 'fashion_mnist'):
    label = tfds.builder_cls(name)(data_dir='/nowhere').info.features['label']
    assert get_known_dataset(name).num_classes == label.num_classes


def test_names_are_unique():
  names = [dataset.name for dataset in KNOWN_DATASETS]
  assert len(set(names)) == len(names)


def test_an_unknown_one_says_which_are_known():
  with pytest.raises(UserError, match='imagenet2012, imagenet21k_fall11'):
    get_known_dataset('mine')
  with pytest.raises(UserError, match='did you mean imagenet21k_fall11'):
    get_known_dataset('imagenet21k_fal11')
