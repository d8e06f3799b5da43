"""RandAugment of one picture, on TensorFlow's scale and on timm's.

The strength of each operation is that of `autoaugment.py` in TensorFlow's
EfficientNet, and of `auto_augment.py` in timm for 'rand-mM-inc1'; what it does
to pixels is that of both, with mid-grey where nothing of the picture is.
"""

import cv2
import numpy as np

GREY = 128
# In the order in which they are numbered; timm has no Cutout.
OPERATIONS = (
  'AutoContrast',
  'Equalize',
  'Invert',
  'Rotate',
  'ShearX',
  'ShearY',
  'Posterize',
  'Solarize',
  'SolarizeAdd',
  'Color',
  'Contrast',
  'Brightness',
  'Sharpness',
  'TranslateX',
  'TranslateY',
  'Cutout',
)


def randaugment(image, rng, config: dict):
  """Applies as many operations as the config says, each drawn anew.

  Args:
    image: picture, [H, W, 3] uint8.
    rng: generator of five numbers for each operation: which, whether, its
      direction, and the row and column of Cutout.
    config: config of the run.
  """
  scale = config['augmentation.randaugment_scale']
  count = len(OPERATIONS) - (scale == 'timm')
  for _ in range(config['augmentation.randaugment_layers']):
    which, whether, direction, row, column = rng.uniform(size=5)
    if whether >= config['augmentation.randaugment_probability']:
      continue
    sign = 1 if direction < 0.5 else -1
    name = OPERATIONS[int(which * count)]
    level = config['augmentation.randaugment_magnitude'] / 10
    if name == 'Cutout':
      image = _cutout(image, int(40 * level), row, column)
    elif scale == 'tensorflow':
      image = _apply(name, image, _tensorflow(name, level, sign))
    else:
      image = _apply(name, image, _timm(name, level, sign, *image.shape[:2]))
  return image


def _tensorflow(name, level, sign):
  """Returns how strong an operation is; level is 1 at magnitude 10."""
  match name:
    case 'Posterize':
      return int(level * 4)
    case 'Solarize':
      return int(level * 256)
    case 'SolarizeAdd':
      return int(level * 110)
    case 'Color' | 'Contrast' | 'Brightness' | 'Sharpness':
      return level * 1.8 + 0.1
    case 'TranslateX' | 'TranslateY':
      return sign * level * 100
  return _of_both(name, level, sign)


def _timm(name, level, sign, height, width):
  """As `_tensorflow`, where all operations grow with the level."""
  match name:
    case 'Posterize':
      return max(4 - int(level * 4), 0)
    case 'Solarize':
      return 256 - int(level * 256)
    case 'SolarizeAdd':
      return min(128, int(level * 110))
    case 'Color' | 'Contrast' | 'Brightness' | 'Sharpness':
      return max(0.1, 1 + sign * level * 0.9)
    case 'TranslateX':
      return sign * level * 0.45 * width
    case 'TranslateY':
      return sign * level * 0.45 * height
  return _of_both(name, level, sign)


def _of_both(name, level, sign):
  match name:
    case 'Rotate':
      return sign * level * 30
    case 'ShearX' | 'ShearY':
      return sign * level * 0.3
  return None


def _apply(name, image, amount):
  x = image.astype(np.float64)
  match name:
    case 'AutoContrast':
      low, high = x.min((0, 1)), x.max((0, 1))
      stretched = (x - low) * (255 / np.maximum(high - low, 1))
      return _to_levels(np.where(high > low, stretched, x))
    case 'Equalize':
      channels = [np.ascontiguousarray(image[..., i]) for i in range(3)]
      return np.stack([cv2.equalizeHist(c) for c in channels], -1)
    case 'Invert':
      return 255 - image
    case 'Posterize':
      step = 2 ** (8 - min(amount, 8))
      return (image // step * step).astype(np.uint8)
    case 'Solarize':
      return np.where(image >= amount, 255 - image, image)
    case 'SolarizeAdd':
      return _to_levels(np.where(image < 128, x + amount, x))
    case 'Color':
      grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
      grey = np.repeat(grey[..., None], 3, -1)
      return cv2.addWeighted(image, amount, grey, 1 - amount, 0)
    case 'Contrast':
      mean = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean()
      return _to_levels(mean + amount * (x - mean))
    case 'Brightness':
      return _to_levels(amount * x)
    case 'Sharpness':
      kernel = np.ones((3, 3)) / 13 * (1 - amount)
      kernel[1, 1] = amount + 5 / 13 * (1 - amount)
      return cv2.filter2D(image, -1, kernel.astype(np.float32))
    case 'Rotate':
      return _warp(image, _rotation(np.deg2rad(amount)))
    case 'ShearX':
      return _warp(image, [[1, amount], [0, 1]])
    case 'ShearY':
      return _warp(image, [[1, 0], [amount, 1]])
    case 'TranslateX':
      return _warp(image, np.eye(2), (amount, 0))
    case 'TranslateY':
      return _warp(image, np.eye(2), (0, amount))
  raise ValueError(name)


def _cutout(image, half_side, row, column):
  """Greys a square around a place in the picture."""
  height, width = image.shape[:2]
  rows = np.arange(height) - int(row * height)
  columns = np.arange(width) - int(column * width)
  inside = ((-half_side <= rows) & (rows < half_side))[:, None] & (
    (-half_side <= columns) & (columns < half_side)
  )
  return np.where(inside[..., None], GREY, image).astype(np.uint8)


def _to_levels(x):
  return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def _rotation(angle):
  """Anti-clockwise as one sees it: rows count downwards."""
  return [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]


def _warp(image, linear, shift=(0, 0)):
  """Moves what is at (x, y) from the centre to linear @ (x, y) + shift."""
  height, width = image.shape[:2]
  centre = np.array([(width - 1) / 2, (height - 1) / 2])
  offset = centre - np.asarray(linear) @ centre + shift
  return cv2.warpAffine(
    image,
    np.column_stack([linear, offset]),
    (width, height),
    flags=cv2.INTER_LINEAR,
    borderMode=cv2.BORDER_CONSTANT,
    borderValue=(GREY, GREY, GREY),
  )
