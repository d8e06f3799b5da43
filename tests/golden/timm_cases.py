"""What our models are compared with timm's on: sizes, weights, images.

Everything here is made by NumPy from names and fixed seeds, the same for the
script that writes the golden files and for the tests that read them. Needs
neither torch nor timm.
"""

import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

# All of timm's CoAtNets.
NAMES: tuple[str, ...] = (
  'coatnet_pico_rw_224',
  'coatnet_nano_rw_224',
  'coatnet_0_rw_224',
  'coatnet_1_rw_224',
  'coatnet_2_rw_224',
  'coatnet_3_rw_224',
  'coatnet_bn_0_rw_224',
  'coatnet_rmlp_nano_rw_224',
  'coatnet_rmlp_0_rw_224',
  'coatnet_rmlp_1_rw_224',
  'coatnet_rmlp_1_rw2_224',
  'coatnet_rmlp_2_rw_224',
  'coatnet_rmlp_2_rw_384',
  'coatnet_rmlp_3_rw_224',
  'coatnet_nano_cc_224',
  'coatnext_nano_rw_224',
  'coatnet_0_224',
  'coatnet_1_224',
  'coatnet_2_224',
  'coatnet_3_224',
  'coatnet_4_224',
  'coatnet_5_224',
  'test_coatnet',
)

# Not square, so that rows and columns can't be taken for each other.
SMALL_IMAGE_SIZE = (64, 96)
SMALL_NUM_CLASSES = 7
# Of training with AdamW; the rate is constant.
TRAINING = {'learning_rate': 1e-3, 'weight_decay': 0.05, 'clip_norm': 1.0}
MAP_NAMES = ('s0', 's1', 's2', 's3', 's4')

# Of kernels, relative to one over the root of the inputs: the first pattern
# that is found, else 1. What feeds a BatchNorm or the residual stream is small,
# so that variances are small enough for the epsilons to matter, and no branch
# drowns the others in a deep model; a feed-forward layer reaches where the
# forms of GELU differ.
_GAINS = (
  (r'rel_pos', 1.0),
  (r'(stem\.conv\d|conv1_1x1|conv2_kxk|attn\.proj)\.weight$', 0.15),
  (r'(conv3_1x1|mlp\.fc2)\.weight$', 0.05),
  (r'mlp\.fc1\.weight$', 2.0),
)
_ATTENTION_NORMS = re.compile(r'stages\.[23]\.blocks\.\d+\.norm|norm\.')
# The first block of S1 projects its shortcut where the stem has another width.
_S1_NOT_AS_WIDE_AS_STEM = (
  'coatnet_0_rw_224',
  'coatnet_1_rw_224',
  'coatnet_bn_0_rw_224',
  'coatnet_rmlp_0_rw_224',
  'coatnet_rmlp_1_rw_224',
  'coatnet_rmlp_1_rw2_224',
  'coatnet_0_224',
  'coatnet_1_224',
  'coatnet_5_224',
)


def get_image_size(name: str) -> tuple[int, int]:
  """Returns the size a model is for: (height, width)."""
  if name == 'test_coatnet':
    return (160, 160)
  return (384, 384) if name.endswith('_384') else (224, 224)


def has_pre_logits(name: str) -> bool:
  """Whether the head has a tanh layer: the ones after the paper's tables."""
  return re.fullmatch(r'coatnet_\d_224', name) is not None


def get_small_sizes(name: str) -> dict[str, Any]:
  """Returns the sizes of a small model of the same form.

  Every kind of block that the model has is there as the first of a stage and
  after it, and attention has at least two heads.

  Returns:
    'stem_width', a pair; 'embed_dim' and 'depths' of the four stages: timm's
    names.
  """
  stem_width = (16, 16) if has_pre_logits(name) else (8, 16)
  s1 = 24 if name in _S1_NOT_AS_WIDE_AS_STEM else 16
  return {
    'stem_width': stem_width,
    'embed_dim': (s1, 64, 96, 64),
    # S3 and S4 of this one begin with a convolution block.
    'depths': (1, 2, 2, 2) if name == 'coatnet_nano_cc_224' else (1, 2, 2, 1),
  }


def randomise_state(
  shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
  """Returns a state dict of random numbers that depend on the names alone.

  Nothing is left at a value that hides a mistake: no norm, table, layer scale
  or running statistic is 0 or 1.

  Args:
    shapes: of a timm model's state dict.

  Returns:
    The same keys; float32, but for int64 'num_batches_tracked'.
  """
  return {key: _randomise(key, tuple(shape)) for key, shape in shapes.items()}


def _randomise(key: str, shape: tuple[int, ...]) -> np.ndarray:
  if key.endswith('num_batches_tracked'):
    return np.array(3, np.int64)
  # This generator's numbers are frozen for all versions of NumPy.
  random = np.random.RandomState(zlib.crc32(key.encode()))
  uniform = random.random_sample(shape).astype(np.float32) * 2 - 1
  kind = key.rpartition('.')[2]
  if kind == 'running_var':
    # A BatchNorm before attention must not amplify what it reads, or rounding
    # errors grow with every block.
    scale = 0.04 if _ATTENTION_NORMS.match(key) else 0.01
    return np.float32(scale) * (1 + 0.5 * uniform)
  if kind == 'running_mean':
    return 0.05 * uniform
  if kind == 'bias':
    return (0.5 if 'rel_pos' in key else 0.1) * uniform
  if kind == 'relative_position_bias_table':
    return 1.5 * uniform
  if len(shape) == 1:  # Scales of norms, and of residual branches.
    return 1 + 0.5 * uniform
  gain = next((gain for rule, gain in _GAINS if re.search(rule, key)), 1.0)
  return np.float32(gain * np.sqrt(3 / np.prod(shape[1:]))) * uniform


def create_images(
  batch_size: int, image_size: tuple[int, int], seed: int = 0
) -> np.ndarray:
  """Returns images of coarse patches and noise, [B, H, W, 3] uint8."""
  random = np.random.RandomState(seed)
  height, width = (size // 32 for size in image_size)
  patches = random.randint(0, 128, (batch_size, height, width, 3))
  noise = random.randint(0, 128, (batch_size, *image_size, 3))
  return (patches.repeat(32, 1).repeat(32, 2) + noise).astype(np.uint8)


def normalise(images: np.ndarray) -> np.ndarray:
  """Maps [B, H, W, 3] uint8 to float32 in -1..1, as most timm models do."""
  return (images.astype(np.float32) - 127.5) / np.float32(127.5)


def create_train_batches(
  num_batches: int = 20, batch_size: int = 4
) -> list[dict[str, np.ndarray]]:
  """Returns batches for `test_coatnet` whose labels can be learned.

  Returns:
    'image' [B, 160, 160, 3] uint8, noise over the patches of one of ten
    classes; 'label' [B] int32.
  """
  patches = create_images(10, (160, 160), seed=1)[:, ::32, ::32] // 2
  batches = []
  for index in range(num_batches):
    random = np.random.RandomState(100 + index)
    labels = random.randint(0, 10, batch_size).astype(np.int32)
    noise = random.randint(0, 128, (batch_size, 160, 160, 3))
    images = patches[labels].repeat(32, 1).repeat(32, 2) + noise
    batches.append({'image': images.astype(np.uint8), 'label': labels})
  return batches


def summarise_map(array: np.ndarray, columns: int = 3) -> dict[str, np.ndarray]:
  """Returns what the golden files keep of a map [B, H, W, C].

  Returns:
    'means' [B, C] over positions; 'samples' [B, 2, columns, C] of positions.
  """
  height, width = array.shape[1:3]
  return {
    'means': array.mean((1, 2)),
    'samples': array[:, :: height // 2, :: width // columns].copy(),
  }
