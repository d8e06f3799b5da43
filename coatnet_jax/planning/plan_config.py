"""What tools.plan is given: a config, and how large the data are."""

import contextlib
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from coatnet_jax import config_flag
from coatnet_jax.data.image_source import ImageSource, format_count
from coatnet_jax.data.known_datasets import get_known_dataset
from coatnet_jax.data.sources import DataOptions, create_source
from coatnet_jax.errors import UserError
from coatnet_jax.paths import expand_config_flag


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

  def describe(self, index: int) -> str:
    """Names an example."""
    return f'example {index}'


def load_config(arguments: Sequence[str]) -> ConfigDict:
  """Returns the config of --config and --config.KEY=VALUE, as main.py does.

  Raises:
    UserError: there is no such file or key, or another flag.
  """
  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file(
    'config', flag_values=values, sys_argv=list(arguments)
  )
  try:
    words = expand_config_flag(list(arguments))
    config_flag.check_config_file(words)
    rest = values(['tools.plan', *words])[1:]
    if rest:
      raise UserError(f'There is no argument {rest[0]!r}.')
    if holder.value is None:
      raise UserError('--config is missing: --config=configs/coatnet_0.py.')
    holder.value.keys()  # Where its file cannot be loaded, this says so.
    return holder.value
  except flags.Error as error:
    raise UserError(config_flag.describe_flag_error(error)) from error
  except Exception as error:  # Whatever the config's file does wrong.
    message = config_flag.describe_config_error(error, list(arguments))
    raise UserError(message) from error


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
    raise UserError('--train_examples and --num_classes go together.')
  if num_examples is not None:
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
