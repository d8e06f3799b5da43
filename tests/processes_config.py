"""A run with a model that compiles quickly, for tests of many processes."""

from coatnet_jax.models import variants
from configs import quickstart
from tests.quick_models import TINY


def get_config():
  """Returns a run of all that depends on the batch: BatchNorm, MixUp, ..."""
  variants.VARIANTS['tiny'] = TINY
  config = quickstart.get_config()
  config.model.name = 'tiny'
  config.model.stochastic_depth_rate = 0.3
  config.mixup.mixup_alpha = 0.8
  config.mixup.cutmix_alpha = 1.0
  config.augmentation.randaugment_layers = 2
  config.schedule.warmup_epochs = 0.0
  config.training.num_steps = 5
  config.training.global_batch_size = 16
  config.training.ema_decay = 0.5
  config.data.train_split = 'train[:1000]'
  config.data.eval_split = 'test[:101]'
  config.evaluation.global_batch_size = 24
  config.logging.every_steps = 1
  config.checkpoint.every_seconds = 0.0
  return config
