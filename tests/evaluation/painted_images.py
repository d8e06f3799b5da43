"""Painted pictures, a model that reads them, and TFDS's data sets of them.

A painted picture has one colour, which is a class: red counts hundreds.
"""

import json
import shutil

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds

from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.evaluation.corruptions import ALEXNET_ERRORS, SEVERITIES
from coatnet_jax.evaluation.data_sets import CORRUPTED

# Added to the logit of the class that the picture shows.
SCALE = 3.0
NAMES = tuple('abcdefg')


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


class Painted(ImageSource):
  """Pictures of given classes; None cannot be decoded."""

  description = 'painted'

  def __init__(self, labels, shown, class_names=NAMES):
    self.labels, self.shown, self.class_names = labels, shown, class_names

  def __len__(self):
    return len(self.labels)

  def __getitem__(self, index):
    shown = self.shown[index]
    image = b'none' if shown is None else paint(shown)
    return {'image': image, 'label': self.labels[index]}

  def describe(self, index):
    return f'picture {index}'


def create_clusters(num_examples, num_classes, width, seed=0, spread=0.3):
  """Returns features [N, width] float32 of noisy classes, and labels."""
  rng = np.random.default_rng(seed)
  centres = np.random.default_rng(7).normal(size=(num_classes, width))
  labels = rng.integers(0, num_classes, num_examples)
  noise = spread * rng.normal(size=(num_examples, width))
  return (centres[labels] + noise).astype(np.float32), labels


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
