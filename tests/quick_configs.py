"""Configs of runs that take seconds."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from coatnet_jax.data.augmentation import PreprocessingOptions
from configs import base, quickstart

# The quick start's with the variant 'tiny' (`quick_models.TINY`), on a part of
# its pictures.
_QUICK = {
  'model.name': 'tiny',
  'data.train_split': 'train[:1000]',
  'data.eval_split': 'test[:200]',
  # Warm-up for an epoch would be longer than the run.
  'schedule.warmup_epochs': 0.0,
  'training.num_steps': 4,
  'training.global_batch_size': 32,
  'evaluation.global_batch_size': 128,
  'logging.report': False,
  'logging.image_grid_size': 0,
}
_SYNTHETIC = {
  'data.source': 'synthetic',
  'data.synthetic_examples': 64,
  'evaluation.every_steps': 0,
  'evaluation.global_batch_size': 64,
}


def create_quick_config(changes: Mapping[str, Any] | None = None) -> ConfigDict:
  """Returns a config of four steps, with changes by dotted key."""
  config = quickstart.get_config()
  config.update_from_flattened_dict({**_QUICK, **(changes or {})})
  return config


def create_synthetic_config(
  image_size: tuple[int, int], num_classes: int, changes: Mapping[str, Any]
) -> ConfigDict:
  """Returns a quick config of 64 random pictures.

  Args:
    image_size: (height, width) in pixels, of the pictures and for the model.
    num_classes: number of classes of the pictures.
    changes: further changes, by dotted key.
  """
  return create_quick_config(
    {
      **_SYNTHETIC,
      'data.synthetic_image_size': image_size,
      'data.synthetic_classes': num_classes,
      'preprocessing.image_size': image_size,
      **changes,
    }
  )


def create_preprocessing(**changes: Any) -> PreprocessingOptions:
  """Returns the preprocessing of `configs/base.py`, with changes by key."""
  options = base.get_config().preprocessing.to_dict()
  return PreprocessingOptions(**{**options, **changes})
