"""A run with a network of two blocks, which the compiler has done soon."""

from configs import base
from tests.quick_models import TPU_TINY, add_variant


def get_config():
  """Returns the config; its model is known where this was called."""
  add_variant('tpu_tiny', TPU_TINY)
  config = base.get_config()
  config.update_from_flattened_dict(
    {
      'model.name': 'tpu_tiny',
      'model.dtype': 'bfloat16',
      'model.stochastic_depth_rate': 0.0,
      'preprocessing.image_size': (64, 64),
      'mixup.mixup_alpha': 0.0,
      'optimizer.clip_norm': 0.0,
      'training.num_epochs': 10.0,
      'training.global_batch_size': 64,
    }
  )
  return config
