"""How large the data of a plan are, which need not be here."""

import contextlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from coatnet_jax import paths
from coatnet_jax.data.image_source import ImageSource, format_count
from coatnet_jax.data.known_datasets import get_known_dataset
from coatnet_jax.data.sources import DataOptions, create_source
from coatnet_jax.errors import UserError
from coatnet_jax.init_from import follow_init_from
from coatnet_jax.run import resolve_values


class PlannedSource(ImageSource):
  """A data set that is not here: its size only."""

  def __init__(self, name: str, num_examples: int, num_classes: int):
    """Takes what is known of the data set."""
    self.class_names = tuple(str(index) for index in range(num_classes))
    self.description = (
      f'{name}: {format_count(num_examples, "image")},'
      f' {format_count(num_classes, "class")}'
    )
    self._num_examples = num_examples

  def __len__(self) -> int:
    """The number of examples."""
    return self._num_examples

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Raises NotImplementedError: there are no examples."""
    raise NotImplementedError(f'{self.description} is planned with only.')

  def find_labels(self) -> np.ndarray:
    """Returns a label of each class, as if these were equally often."""
    return np.arange(self.num_classes, dtype=np.int32)

  def describe(self, index: int) -> str:
    """Names an example."""
    return f'example {index}'


def follow_weights(config: ConfigDict) -> tuple[ConfigDict, tuple[str, ...]]:
  """Takes over what a run would from the weights that it starts from.

  Args:
    config: config with the keys of `configs/base.py`.

  Returns:
    The config that the run has, and what was taken over, in lines. Weights that
    are published by timm are not fetched.

  Raises:
    UserError: as `follow_init_from`.
  """
  values = resolve_values(paths.resolve_config(config).to_dict())
  followed, taken_over = follow_init_from(values, None)
  return ConfigDict(followed), taken_over


def find_sources(
  config: ConfigDict, num_examples: int | None, num_classes: int | None
) -> tuple[ImageSource, ImageSource]:
  """Returns the sizes of the training and evaluation data.

  Those that the command line gives, or that are known without files, or of
  the files.

  Args:
    config: config of the run.
    num_examples: number of images to train with, if the command line has it.
    num_classes: number of classes, if the command line has it.

  Raises:
    UserError: only one of the two is given, or nothing is known.
  """
  if (num_examples is None) != (num_classes is None):
    raise UserError(
      '--train_examples and --num_classes go together: give both or neither.'
    )
  if num_examples is not None and num_classes is not None:
    planned = PlannedSource('own data', num_examples, num_classes)
    return planned, planned
  data = DataOptions(**config.data)
  if data.source == 'tfds' and data.name and data.train_split == 'train':
    with contextlib.suppress(UserError):
      known = get_known_dataset(data.name)
      planned = PlannedSource(
        known.name, known.num_train_examples, known.num_classes
      )
      return planned, planned
  try:
    return create_source(data, 'train'), create_source(data, 'eval')
  except UserError as error:
    raise UserError(
      f'{error} To plan without data: --train_examples=N --num_classes=N.'
    ) from error
