"""A CNN stem and a ViT encoder on CIFAR-100 at 56 px: a baseline.

CIFAR-100 comes from TFDS by name, prepared as ArrayRecord.

    python main.py --config=configs/cnn_stem_vit.py --workdir=...

A known tutorial's: the model, its 0.1 of dropout, 56 px, plain cross-entropy,
and Adam at a constant 3e-4 in batches of 32 for 50 epochs. Ours: random crops
and mirroring, and the evaluation on the test split.
"""

from configs import base
from configs.small_pictures import SMALL_PICTURES


def get_config():
  """Returns the config."""
  config = base.get_config()
  config.update_from_flattened_dict(SMALL_PICTURES)
  config.model.name = 'cnn_stem_vit'
  config.data.name = 'cifar100'
  config.preprocessing.image_size = (56, 56)
  # CIFAR-100's.
  config.preprocessing.mean = (0.507, 0.487, 0.441)
  config.preprocessing.std = (0.268, 0.257, 0.276)
  config.augmentation.crop_area = (0.5, 1.0)
  config.loss.label_smoothing = 0.0
  config.schedule.peak_learning_rate = 3e-4
  config.schedule.min_learning_rate = 0.0
  config.schedule.decay = 'constant'
  # AdamW that decays nothing is Adam.
  config.optimizer.weight_decay = 0.0
  config.optimizer.clip_norm = 0.0
  config.training.num_epochs = 50.0
  config.training.global_batch_size = 32
  return config
