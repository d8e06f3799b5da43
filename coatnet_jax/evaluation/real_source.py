"""ImageNet's validation images with the labels of ReaL, as TFDS has them.

An image has any number of labels there, also none (arXiv 2006.07159).
"""

import tensorflow_datasets as tfds

from coatnet_jax.data.sources import DataOptions
from coatnet_jax.data.tfds_source import TfdsSource, create_tfds_source
from coatnet_jax.errors import UserError


class RealSource(TfdsSource):
  """TFDS's imagenet2012_real; an example's label is its original one."""

  label_feature = 'original_label'

  def _open(self):
    super()._open()
    features = tfds.builder_from_directory(self._builder_dir).info.features
    if 'real_label' not in features:
      raise UserError(
        f'{self.full_name} has no feature real_label, only'
        f' {", ".join(features)}; prepare it again.'
      )
    self._real_features = tfds.features.FeaturesDict(
      {'real_label': features['real_label']}
    )

  def read_real_labels(self, index: int) -> tuple[int, ...]:
    """Returns what an image may be called; nothing where nobody knew.

    Args:
      index: number of the image in the source.
    """
    example = self._read(index, self._real_features)
    return tuple(int(label) for label in example['real_label'])


def open_real_source(data: DataOptions) -> RealSource:
  """Opens the evaluation split of imagenet2012_real.

  Args:
    data: options with the name of the data set, or the directory of the
      prepared one.

  Raises:
    UserError: it is not there, or not as TFDS has it.
  """
  source = create_tfds_source(
    data.name, data.data_dir, data.eval_split, RealSource
  )
  source.max_image_pixels = data.max_image_pixels
  return source
