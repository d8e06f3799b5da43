"""What is trained: pictures, initial parameters, and a config with changes.

Everything that the paper's recipe has is on, and each number differs from the
project's default, so that a key that does not arrive shows.
"""

import types
import zlib

import cv2
import numpy as np

NUM_CLASSES = 7
NUM_TRAIN, NUM_EVAL = 22, 13  # Neither is a multiple of the batch.

# (kind, number of blocks, width, stride) of each stage: blocks that stride and
# widen, and equal ones, of either kind.
STAGES = (
  ('mbconv', 1, 8, 1),
  ('mbconv', 2, 12, 2),
  ('transformer', 2, 16, 2),
)
STEM_WIDTHS = (6, 8)
HEAD_DIM = 8

CONFIG = types.MappingProxyType(
  {
    # Of 0 to 7 the one where max-pooling is furthest from taking another number
    # by a rounding error: it then has 7e-6 more than the next.
    'seed': 6,
    'model.stochastic_depth_rate': 0.6,
    'model.batch_norm_momentum': 0.8,
    'model.batch_norm_group_size': 0,
    # Not square: what mixes rows and columns up shows.
    'preprocessing.image_size': (32, 48),
    'preprocessing.mean': (0.45, 0.5, 0.4),
    'preprocessing.std': (0.2, 0.25, 0.3),
    'preprocessing.eval_crop_fraction': 0.8,
    'preprocessing.eval_resize': 'cover',
    'preprocessing.interpolation': 'bilinear',
    'augmentation.crop_area': (0.3, 0.9),
    'augmentation.crop_aspect_ratio': (0.6, 1.5),
    'augmentation.horizontal_flip': True,
    'augmentation.randaugment_layers': 3,
    # Pictures are small, and this scale moves them by pixels.
    'augmentation.randaugment_magnitude': 2.6,
    'augmentation.randaugment_probability': 0.9,
    'augmentation.randaugment_scale': 'tensorflow',
    'mixup.mixup_alpha': 0.9,
    'mixup.cutmix_alpha': 1.3,
    'mixup.cutmix_probability': 0.4,
    'loss.kind': 'softmax',
    'loss.label_smoothing': 0.15,
    'schedule.peak_learning_rate': 0.02,
    'schedule.min_learning_rate': 0.002,
    'schedule.warmup_steps': 2,
    'schedule.decay': 'cosine',
    'optimizer.b1': 0.8,
    'optimizer.b2': 0.95,
    # Far above float32's noise, which Adam would blow up: the gradient of a
    # key's bias, say, is 0 but for rounding.
    'optimizer.eps': 1e-3,
    # So much that it shows beside so few steps.
    'optimizer.weight_decay': 1.5,
    # All but the last step are clipped.
    'optimizer.clip_norm': 1.8,
    # Warm-up's two steps, the peak, and two of the decay.
    'training.num_steps': 5,
    'training.global_batch_size': 8,
    'training.gradient_accumulation_steps': 2,
    # Above the cap of the first two steps, below that of the others.
    'training.ema_decay': 0.3,
    'training.ema_warmup': True,
    'evaluation.global_batch_size': 8,
  }
)

EVERYTHING_OFF = 'everything off'

# What is off or of another value -> what of the config is different.
CHANGES = types.MappingProxyType(
  {
    'another seed': {'seed': 8},
    'no stochastic depth': {'model.stochastic_depth_rate': 0.0},
    'another stochastic depth rate': {'model.stochastic_depth_rate': 0.3},
    'another BatchNorm momentum': {'model.batch_norm_momentum': 0.99},
    'BatchNorm by groups': {'model.batch_norm_group_size': 2},
    "no normalisation by the config's mean": {
      'preprocessing.mean': (0.485, 0.456, 0.406)
    },
    "no normalisation by the config's deviation": {
      'preprocessing.std': (0.229, 0.224, 0.225)
    },
    'another crop in evaluation': {'preprocessing.eval_crop_fraction': 1.0},
    'another resizing in evaluation': {'preprocessing.eval_resize': 'squash'},
    'another interpolation': {'preprocessing.interpolation': 'bicubic'},
    'another area of crops': {'augmentation.crop_area': (0.08, 1.0)},
    'another aspect ratio of crops': {
      'augmentation.crop_aspect_ratio': (3 / 4, 4 / 3)
    },
    'no mirroring': {'augmentation.horizontal_flip': False},
    'no RandAugment': {'augmentation.randaugment_layers': 0},
    'fewer operations of RandAugment': {'augmentation.randaugment_layers': 2},
    'another magnitude of RandAugment': {
      'augmentation.randaugment_magnitude': 3.4
    },
    'another share of RandAugment': {
      'augmentation.randaugment_probability': 1.0
    },
    "timm's scale of RandAugment": {'augmentation.randaugment_scale': 'timm'},
    'no MixUp': {'mixup.mixup_alpha': 0.0},
    'another alpha of MixUp': {'mixup.mixup_alpha': 0.2},
    'no CutMix': {'mixup.cutmix_alpha': 0.0},
    'another alpha of CutMix': {'mixup.cutmix_alpha': 0.2},
    'neither MixUp nor CutMix': {
      'mixup.mixup_alpha': 0.0,
      'mixup.cutmix_alpha': 0.0,
    },
    'another share of CutMix': {'mixup.cutmix_probability': 0.5},
    'no label smoothing': {'loss.label_smoothing': 0.0},
    'another label smoothing': {'loss.label_smoothing': 0.1},
    'a sigmoid per class': {'loss.kind': 'sigmoid'},
    'another peak of the learning rate': {'schedule.peak_learning_rate': 0.01},
    'another end of the learning rate': {'schedule.min_learning_rate': 1e-5},
    'no warm-up': {'schedule.warmup_steps': 0},
    'linear decay of the learning rate': {'schedule.decay': 'linear'},
    'no decay of the learning rate': {'schedule.decay': 'constant'},
    'another b1': {'optimizer.b1': 0.9},
    'another b2': {'optimizer.b2': 0.999},
    'another epsilon of the optimizer': {'optimizer.eps': 1e-2},
    'no weight decay': {'optimizer.weight_decay': 0.0},
    'no clipping': {'optimizer.clip_norm': 0.0},
    'another clipping norm': {'optimizer.clip_norm': 1.0},
    'no accumulation': {'training.gradient_accumulation_steps': 1},
    'more parts of accumulation': {'training.gradient_accumulation_steps': 4},
    'no averages': {'training.ema_decay': 0.0},
    'another decay of the averages': {'training.ema_decay': 0.1},
    'a decay of the averages that is never in force': {
      'training.ema_decay': 0.9999
    },
    'no warm-up of the averages': {'training.ema_warmup': False},
    EVERYTHING_OFF: {
      # As above, of 6 to 18: without warm-up rounding errors grow faster.
      'seed': 18,
      'model.stochastic_depth_rate': 0.0,
      'augmentation.crop_area': (1.0, 1.0),
      'augmentation.horizontal_flip': False,
      'augmentation.randaugment_layers': 0,
      'mixup.mixup_alpha': 0.0,
      'mixup.cutmix_alpha': 0.0,
      'loss.label_smoothing': 0.0,
      'schedule.warmup_steps': 0,
      'schedule.decay': 'constant',
      'optimizer.weight_decay': 0.0,
      'optimizer.clip_norm': 0.0,
      'training.gradient_accumulation_steps': 1,
      'training.ema_decay': 0.0,
    },
  }
)

# Rules that a careless change breaks: `training.py` and the other modules break
# the one that the config's 'mistake' names.
MISTAKES = (
  'labels are not mixed',
  'the partner of MixUp is the next example',
  'boxes of CutMix weigh what was drawn, not what was cut',
  'keys are the same at every step',
  'all parts of the batch have one key',
  'all blocks have one key',
  'both branches of a block have one key',
  'a dropped branch is not made up for',
  'the optimizer has a constant learning rate',
  'the learning rate is a step ahead',
  'statistics are not averaged',
  'averages are not evaluated',
  'everything decays',
  'nothing but biases and norms decays',
  'gradients of the parts are added up',
  'only the last part of the batch counts',
  "the parts' means are not in the variance",
  'labels are smoothed in evaluation',
  'padding counts in evaluation',
  'every epoch has the same order',
)


def change(name: str) -> dict:
  """Returns the config with one of `CHANGES` or `MISTAKES`, or '' for none."""
  config = {**CONFIG, 'mistake': ''}
  if not name:
    return config
  if name in MISTAKES:
    return {**config, 'mistake': name}
  return {**config, **CHANGES[name]}


def create_pictures(split: str) -> list[tuple[np.ndarray, int]]:
  """Returns the pictures [h, w, 3] uint8 of 'train' or 'eval' with classes.

  In the order of their classes; of all shapes, smaller and larger than what is
  trained on. Colours change slowly over each, with some noise.
  """
  count = {'train': NUM_TRAIN, 'eval': NUM_EVAL}[split]
  pictures = []
  for index in range(count):
    rng = np.random.default_rng((zlib.crc32(split.encode()), index))
    height, width = (int(n) for n in rng.integers(20, 70, 2))
    colours = cv2.resize(
      rng.uniform(0, 255, (4, 4, 3)), (width, height)
    ) + rng.normal(0, 15, (height, width, 3))
    picture = np.clip(np.rint(colours), 0, 255).astype(np.uint8)
    pictures.append((picture, index * NUM_CLASSES // count))
  return pictures


def create_array(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Returns how a parameter or statistic starts, float32.

  None is 0 or 1 as when a run starts: what is added, multiplied or decayed at
  the wrong place shows.

  Args:
    name: name of the array, such as 's1_block_0/expand/kernel'.
    shape: shape of the array.
  """
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  normal = rng.normal(size=shape)
  kind = name.rpartition('/')[2]
  if kind == 'kernel':
    # Of queries, keys and values [C, 3, heads, head_dim]; else the last axis
    # alone is of outputs.
    axes = (
      shape[:1]
      if len(shape) == 4 and shape[1] == 3 and ('qkv' in name)
      else shape[:-1]
    )
    array = normal / np.sqrt(np.prod(axes))
  elif kind == 'scale':
    array = 1 + 0.2 * normal
  elif kind == 'var':
    array = np.exp(0.3 * normal)
  else:  # 'bias', 'mean', the table of relative positions.
    array = 0.2 * normal
  return array.astype(np.float32)
