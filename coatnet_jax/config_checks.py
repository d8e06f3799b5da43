"""What keys of a config say of each other and of the data, one rule each.

Types and ranges of single values are `values.py`'s.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jax.sharding import Mesh

from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.errors import UserError
from coatnet_jax.training import schedules

# What computes attention on one platform only.
_ATTENTION_PLATFORMS = {'pallas': 'tpu', 'cudnn': 'gpu'}


def check_image_size(
  model: nn.Module, preprocessing: PreprocessingOptions
) -> None:
  """Checks that a model can take the images of a config.

  Args:
    model: model of the config.
    preprocessing: options with the size of its images.

  Raises:
    UserError: it cannot.
  """
  try:
    model.check_image_size((1, *preprocessing.image_size, 3))
  except UserError as error:
    raise UserError(
      f'config.preprocessing.image_size is {preprocessing.image_size}: {error}'
    ) from error


def check_attention(attention: str, mesh: Mesh) -> None:
  """Checks that a mesh's devices can compute attention as they are to.

  Args:
    attention: name of an implementation, `config.model.attention`.
    mesh: devices that are to compute it.

  Raises:
    UserError: it is for another platform.
  """
  platform = mesh.devices.flat[0].platform
  wanted = _ATTENTION_PLATFORMS.get(attention, platform)
  if platform != wanted:
    raise UserError(
      f'config.model.attention is {attention!r}, which is for'
      f' {wanted.upper()}s, and this machine has {platform.upper()}s;'
      " 'auto' is for any machine."
    )


def check_durations(config: Mapping[str, Any]) -> None:
  """Checks lengths of a config, whatever the data are.

  Args:
    config: config with resolved values.

  Raises:
    UserError: steps and epochs are both given, or a schedule cannot be.
  """
  training, schedule = config['training'], config['schedule']
  for section, name in (
    ('training', 'num'),
    ('schedule', 'warmup'),
    ('evaluation', 'every'),
  ):
    options = config[section]
    steps, epochs = options[f'{name}_steps'], options[f'{name}_epochs']
    schedules.check_unit(f'{section}.{name}', steps, epochs)
  # The rest of it, for the shortest epochs that there can be.
  schedules.create_learning_rate_schedule(
    **{**schedule, 'warmup_epochs': 0.0},
    steps_per_epoch=1.0,
    num_steps=training['num_steps'] or (training['num_epochs'] > 0) * 10**9,
  )


def check_batches(config: Mapping[str, Any], mesh: Mesh) -> None:
  """Checks that batches are divided by their parts.

  Args:
    config: config with resolved values.
    mesh: devices of the run.

  Raises:
    UserError: one is not.
  """
  training = config['training']
  mesh_lib.check_batch_size(
    'training.global_batch_size',
    training['global_batch_size'],
    mesh,
    training['gradient_accumulation_steps'],
  )
  mesh_lib.check_batch_size(
    'evaluation.global_batch_size',
    config['evaluation']['global_batch_size'],
    mesh,
  )
  part_size = (
    training['global_batch_size'] // training['gradient_accumulation_steps']
  )
  group_size = config['model']['batch_norm_group_size']
  if group_size and part_size % group_size:
    raise UserError(
      f'config.model.batch_norm_group_size is {group_size}; it must divide'
      f' the {part_size} images that are computed at a time.'
    )
  mixed_size = config['mixup']['group_size']
  if mixed_size and training['global_batch_size'] % mixed_size:
    raise UserError(
      f'config.mixup.group_size is {mixed_size}; it must divide'
      f' config.training.global_batch_size, {training["global_batch_size"]}.'
    )


# Whether images have several labels each -> the measure that is theirs alone.
_BEST_BY_LABELS = {
  True: 'mean_average_precision',
  False: 'mean_class_accuracy',
}


def check_labels(source: ImageSource, config: Mapping[str, Any]) -> None:
  """Checks what does not go with one label for an image, or with several.

  Args:
    source: images that are trained on.
    config: config with resolved values.

  Raises:
    UserError: a key has a value that does not.
  """
  several = source.has_several_labels
  own, other = _BEST_BY_LABELS[several], _BEST_BY_LABELS[not several]
  if config['checkpoint']['best_metric'] == other:
    raise UserError(
      f'config.checkpoint.best_metric is {other!r}, which is not for images of'
      f' {"several labels" if several else "one label"} each, as these are; it'
      f' must be top1, top5, loss or {own}.'
    )
  if not several:
    return
  for section, key, value in (
    ('loss', 'kind', 'sigmoid'),
    ('loss', 'class_weights', 'none'),
    ('data', 'sampling', 'natural'),
  ):
    if config[section][key] != value:
      raise UserError(
        f'config.{section}.{key} is {config[section][key]!r}; it must be'
        f' {value!r} where images have several labels, as in'
        f' {source.description}.'
      )
