"""A run with a model that compiles quickly, for tests of many processes."""

import os

from coatnet_jax.distributed import watchdog
from tests.quick_configs import create_quick_config
from tests.quick_models import TINY, add_variant


def get_config():
  """Returns a run of all that depends on the batch: BatchNorm, MixUp, ..."""
  add_variant('tiny', TINY)
  # Tests need not wait as long as a pod does.
  if silence := os.environ.get('TEST_SILENCE_SECONDS'):
    watchdog.SILENCE_SECONDS = float(silence)
    watchdog.BROKEN_SECONDS = min(watchdog.BROKEN_SECONDS, float(silence) / 2)
  return create_quick_config(
    {
      'model.stochastic_depth_rate': 0.3,
      'mixup.mixup_alpha': 0.8,
      'mixup.cutmix_alpha': 1.0,
      'augmentation.randaugment_layers': 2,
      'training.num_steps': 5,
      'training.global_batch_size': 16,
      'training.ema_decay': 0.5,
      'data.eval_split': 'test[:101]',
      'evaluation.global_batch_size': 24,
      'logging.every_steps': 1,
      'checkpoint.every_seconds': 0.0,
    }
  )
