"""A run with a network of two blocks, which the compiler has done soon."""

from coatnet_jax.models import variants
from configs import base


def get_config():
  """Returns the config; its model is known where this was called."""
  variants.VARIANTS['tiny'] = variants.Variant(
    stem=variants.StemOptions(widths=(16,)),
    stages=(
      variants.Stage((variants.BlockGroup('mbconv', 1, 32),)),
      variants.Stage((variants.BlockGroup('transformer', 1, 128),)),
    ),
  )
  config = base.get_config()
  config.model.name = 'tiny'
  config.model.dtype = 'bfloat16'
  config.model.stochastic_depth_rate = 0.0
  config.preprocessing.image_size = (64, 64)
  config.mixup.mixup_alpha = 0.0
  config.optimizer.clip_norm = 0.0
  config.training.num_epochs = 10.0
  config.training.global_batch_size = 64
  return config
