"""A small CoAtNet on real images that come with the code, in minutes on a CPU.

10,000 training and 2,000 test images of Fashion-MNIST, 28x28, 10 classes:
`coatnet_jax/data/embedded/README.md` says which, and under what licence.

    python main.py --config=configs/quickstart.py --workdir=runs/quickstart

Every number is ours, chosen for the time on two CPU cores.
"""

from configs import base
from configs.small_pictures import SMALL_PICTURES


def get_config():
  """Returns the config."""
  config = base.get_config()
  config.update_from_flattened_dict(SMALL_PICTURES)
  config.model.name = 'coatnet_mini'
  config.data.name = 'fashion_mnist_12k'
  config.preprocessing.image_size = (28, 28)
  config.preprocessing.mean = (0.286, 0.286, 0.286)
  config.preprocessing.std = (0.353, 0.353, 0.353)
  config.preprocessing.interpolation = 'bilinear'
  config.augmentation.crop_area = (0.9, 1.0)
  config.augmentation.crop_aspect_ratio = (0.95, 1.05)
  config.loss.label_smoothing = 0.05
  config.schedule.peak_learning_rate = 4e-3
  config.schedule.warmup_epochs = 1.0
  # A run made shorter for trying gets a shorter warm-up.
  config.schedule.max_warmup_fraction = 0.2
  # 12.8 epochs.
  config.training.num_steps = 1_000
  config.training.global_batch_size = 128
  config.training.ema_decay = 0.98
  config.evaluation.every_epochs = 0.0
  config.evaluation.every_steps = 200
  config.evaluation.global_batch_size = 500
  config.checkpoint.every_seconds = 60.0
  config.logging.every_steps = 20
  return config
