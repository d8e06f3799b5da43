"""RandAugment (Cubuk et al., arXiv 1909.13719) in OpenCV, on two scales.

Each layer applies one operation, all equally likely, at one common magnitude
M. Implementations agree in what the operations do and not in how strongly they
do it at M, which is a scale's matter:

                     'tensorflow'           'timm'
    AutoContrast, Equalize, Invert: no magnitude
    Rotate           +-3 M degrees          the same
    ShearX, ShearY   +-0.03 M               the same
    TranslateX, -Y   +-10 M pixels          +-0.045 M of the side
    Color, Contrast, Brightness, Sharpness:
                     factor 0.1 + 0.18 M    1 +- 0.09 M, at least 0.1
    Posterize        keeps 0.4 M bits       4 - 0.4 M bits
    Solarize         from 25.6 M up         from 256 - 25.6 M up
    SolarizeAdd      11 M to what is        the same, at most 128
                     below 128
    Cutout           a square of 2 * 4 M    none
                     pixels

Bits, thresholds, what is added and half the side of the square are rounded
down; +- is a sign that either way is as likely. 'tensorflow' is that of
TensorFlow's EfficientNet (tensorflow/tpu, models/official/efficientnet) and of
its Model Garden: at M = 5 / 15 / 20 the factors are 1.0 / 2.8 / 3.7, Posterize
keeps 2 / 6 / 8 bits, Solarize starts at 128 / 384 / 512, so from M = 10 it does
nothing, and pictures move by 50 / 150 / 200 pixels, whatever their size.
'timm' is timm's `rand-mM-inc1`, in which every operation grows stronger with
M; its cap of M at 10 is left out, as by its `mmax`.

What the operations do to pixels, [H, W, 3] uint8 RGB, is the same on both. What
moves in from outside the image, and the square of Cutout, is mid-grey, 128;
rotation and shear are about the centre, and bilinear.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

_GREY = 128
_LEVELS = np.arange(256)
_SMOOTHING_KERNEL = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
_IDENTITY_KERNEL = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)


def apply_randaugment(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  num_layers: int,
  magnitude: float,
  probability: float,
  scale: str,
) -> np.ndarray:
  """Applies randomly chosen operations, one after the other.

  Args:
    image: [H, W, 3] uint8 RGB.
    rng: source of randomness, of which each layer takes five numbers.
    num_layers: number of operations per image; 0 for none.
    magnitude: strength of the operations, 0 to 30.
    probability: probability that a layer does anything.
    scale: name of the scale that says what a magnitude means, one of SCALES.

  Returns:
    [H, W, 3] uint8.
  """
  operations = tuple(SCALES[scale].values())
  # All draws in one call: a call costs more than the numbers.
  for choice, chance, sign, row, column in rng.random((num_layers, 5)).tolist():
    if chance < probability:
      operation = operations[int(choice * len(operations))]
      draw = Draw(sign=1.0 if sign < 0.5 else -1.0, row=row, column=column)
      image = operation.apply(image, *operation.arguments(magnitude, draw))
  return image


class Draw(NamedTuple):
  """What is random in an operation.

  Attributes:
    sign: sign, 1 or -1, equally likely.
    row: place in the image, uniform in [0, 1), from top to bottom.
    column: place in the image, uniform in [0, 1), from left to right.
  """

  sign: float
  row: float
  column: float


class Operation(NamedTuple):
  """An operation on one scale.

  Attributes:
    apply: function: [H, W, 3] uint8 and its arguments -> [H, W, 3] uint8.
    arguments: function: magnitude and draw -> all arguments but the image.
  """

  apply: Callable[..., np.ndarray]
  arguments: Callable[[float, Draw], tuple[Any, ...]]


def auto_contrast(image: np.ndarray) -> np.ndarray:
  """Stretches each channel of [H, W, 3] uint8 to the full range."""
  # By channel, since NumPy is slow along an axis of three.
  extremes = [cv2.minMaxLoc(channel)[:2] for channel in cv2.split(image)]
  low, high = np.array(extremes).T
  scale = np.where(high > low, 255 / np.maximum(high - low, 1), 1)
  offset = np.where(high > low, low, 0)
  return _map_levels(image, (_LEVELS[:, None] - offset) * scale)


def equalize(image: np.ndarray) -> np.ndarray:
  """Flattens the histogram of each channel of [H, W, 3] uint8."""
  channels = [cv2.equalizeHist(channel) for channel in cv2.split(image)]
  return cv2.merge(channels)


def invert(image: np.ndarray) -> np.ndarray:
  """Turns every value x of [H, W, 3] uint8 into 255 - x.

  >>> invert(np.uint8([[[0, 100, 255]]])).tolist()
  [[[255, 155, 0]]]
  """
  return cv2.bitwise_not(image)


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
  """Turns [H, W, 3] uint8 to the left about its centre, by so many degrees."""
  height, width = image.shape[:2]
  center = ((width - 1) / 2, (height - 1) / 2)
  return _warp(image, cv2.getRotationMatrix2D(center, degrees, 1.0))


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
  """Keeps the `bits` highest bits of [H, W, 3] uint8, none to all 8.

  >>> posterize(np.uint8([[[7, 100, 255]]]), bits=4).tolist()
  [[[0, 96, 240]]]
  """
  dropped_bits = 8 - min(max(bits, 0), 8)
  return _map_levels(image, _LEVELS >> dropped_bits << dropped_bits)


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
  """Inverts the values of [H, W, 3] uint8 from a threshold up.

  >>> solarize(np.uint8([[[7, 100, 255]]]), threshold=128).tolist()
  [[[7, 100, 0]]]
  """
  return _map_levels(
    image, np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS)
  )


def solarize_add(image: np.ndarray, addition: int) -> np.ndarray:
  """Adds to the values of [H, W, 3] uint8 that are below 128.

  >>> solarize_add(np.uint8([[[7, 100, 255]]]), addition=50).tolist()
  [[[57, 150, 255]]]
  """
  return _map_levels(
    image, np.where(_LEVELS < 128, _LEVELS + addition, _LEVELS)
  )


def color(image: np.ndarray, factor: float) -> np.ndarray:
  """Multiplies the saturation of [H, W, 3] uint8: the distance from grey."""
  grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
  grey = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
  return cv2.addWeighted(image, factor, grey, 1 - factor, 0)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
  """Multiplies the distance of [H, W, 3] uint8 from its mean brightness."""
  grey = cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
  return _map_levels(image, grey + factor * (_LEVELS - grey))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
  """Multiplies every value of [H, W, 3] uint8.

  >>> brightness(np.uint8([[[7, 100, 255]]]), factor=0.5).tolist()
  [[[4, 50, 128]]]
  """
  return _map_levels(image, factor * _LEVELS)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
  """Multiplies the distance of [H, W, 3] uint8 from its smoothed image."""
  kernel = factor * _IDENTITY_KERNEL + (1 - factor) * _SMOOTHING_KERNEL
  return cv2.filter2D(image, -1, kernel)


def shear_x(image: np.ndarray, shear: float) -> np.ndarray:
  """Shifts each row of [H, W, 3] uint8: `shear` times rows from the middle."""
  middle = (image.shape[0] - 1) / 2
  return _warp(image, np.array([[1, shear, -shear * middle], [0, 1, 0]]))


def shear_y(image: np.ndarray, shear: float) -> np.ndarray:
  """Shifts each column of [H, W, 3]: `shear` times columns from the middle."""
  middle = (image.shape[1] - 1) / 2
  return _warp(image, np.array([[1, 0, 0], [shear, 1, -shear * middle]]))


def translate_x(image: np.ndarray, pixels: float) -> np.ndarray:
  """Moves [H, W, 3] uint8 to the right by so many pixels.

  >>> translate_x(np.uint8([[[1] * 3, [2] * 3]]), pixels=1).tolist()
  [[[128, 128, 128], [1, 1, 1]]]
  """
  return _warp(image, np.array([[1, 0, pixels], [0, 1, 0]]))


def translate_y(image: np.ndarray, pixels: float) -> np.ndarray:
  """Moves [H, W, 3] uint8 down by so many pixels."""
  return _warp(image, np.array([[1, 0, 0], [0, 1, pixels]]))


def translate_x_by_part(image: np.ndarray, part: float) -> np.ndarray:
  """Moves [H, W, 3] uint8 to the right by a part of its width."""
  return translate_x(image, part * image.shape[1])


def translate_y_by_part(image: np.ndarray, part: float) -> np.ndarray:
  """Moves [H, W, 3] uint8 down by a part of its height."""
  return translate_y(image, part * image.shape[0])


def cutout(
  image: np.ndarray, half_side: int, row: float, column: float
) -> np.ndarray:
  """Fills a square with grey, of which only the centre is surely in the image.

  Args:
    image: [H, W, 3] uint8.
    half_side: half the side of the square, in pixels.
    row: row of the centre, as a part of the height in [0, 1).
    column: column of the centre, as a part of the width in [0, 1).
  """
  row, column = int(row * image.shape[0]), int(column * image.shape[1])
  image = image.copy()
  image[
    max(row - half_side, 0) : row + half_side,
    max(column - half_side, 0) : column + half_side,
  ] = _GREY
  return image


def _map_levels(image: np.ndarray, levels: np.ndarray) -> np.ndarray:
  """Replaces x by levels[x]: [256] for all channels or [256, 3] for each."""
  table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
  if table.ndim == 2:
    table = table[None]
  return cv2.LUT(image, table)


def _warp(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
  return cv2.warpAffine(
    image,
    matrix.astype(np.float64),
    (image.shape[1], image.shape[0]),
    flags=cv2.INTER_LINEAR,
    borderMode=cv2.BORDER_CONSTANT,
    borderValue=(_GREY,) * 3,
  )


def _nothing(magnitude: float, draw: Draw) -> tuple[()]:
  del magnitude, draw
  return ()


def _signed(at_ten: float) -> Callable[[float, Draw], tuple[float]]:
  """Returns what grows to a number at magnitude 10, with a random sign."""
  return lambda magnitude, draw: (draw.sign * magnitude / 10 * at_ten,)


def _whole(at_ten: int) -> Callable[[float, Draw], tuple[int]]:
  """Returns what grows to a whole number at magnitude 10, rounded down."""
  return lambda magnitude, draw: (int(magnitude / 10 * at_ten),)


def _falling(start: int, at_ten: int) -> Callable[[float, Draw], tuple[int]]:
  """Returns `start` without what grows to a whole number at magnitude 10."""
  return lambda magnitude, draw: (start - int(magnitude / 10 * at_ten),)


def _growing_factor(magnitude: float, draw: Draw) -> tuple[float]:
  del draw
  return (0.1 + magnitude / 10 * 1.8,)


def _factor_of_either_way(magnitude: float, draw: Draw) -> tuple[float]:
  return (max(0.1, 1 + draw.sign * magnitude / 10 * 0.9),)


def _small_addition(magnitude: float, draw: Draw) -> tuple[int]:
  del draw
  return (min(128, int(magnitude / 10 * 110)),)


def _square(magnitude: float, draw: Draw) -> tuple[int, float, float]:
  return int(magnitude / 10 * 40), draw.row, draw.column


def _list_enhancements(
  arguments: Callable[[float, Draw], tuple[float]],
) -> dict[str, Operation]:
  """Returns the operations that multiply a distance by a factor."""
  return {
    'Color': Operation(color, arguments),
    'Contrast': Operation(contrast, arguments),
    'Brightness': Operation(brightness, arguments),
    'Sharpness': Operation(sharpness, arguments),
  }


# The operations that are the same on both scales.
_COMMON = {
  'AutoContrast': Operation(auto_contrast, _nothing),
  'Equalize': Operation(equalize, _nothing),
  'Invert': Operation(invert, _nothing),
  'Rotate': Operation(rotate, _signed(30.0)),
  'ShearX': Operation(shear_x, _signed(0.3)),
  'ShearY': Operation(shear_y, _signed(0.3)),
}

# Scale -> the name of an operation -> that operation.
SCALES: dict[str, dict[str, Operation]] = {
  'tensorflow': _COMMON
  | {
    'Posterize': Operation(posterize, _whole(4)),
    'Solarize': Operation(solarize, _whole(256)),
    'SolarizeAdd': Operation(solarize_add, _whole(110)),
    **_list_enhancements(_growing_factor),
    'TranslateX': Operation(translate_x, _signed(100.0)),
    'TranslateY': Operation(translate_y, _signed(100.0)),
    'Cutout': Operation(cutout, _square),
  },
  'timm': _COMMON
  | {
    'Posterize': Operation(posterize, _falling(4, 4)),
    'Solarize': Operation(solarize, _falling(256, 256)),
    'SolarizeAdd': Operation(solarize_add, _small_addition),
    **_list_enhancements(_factor_of_either_way),
    'TranslateX': Operation(translate_x_by_part, _signed(0.45)),
    'TranslateY': Operation(translate_y_by_part, _signed(0.45)),
  },
}
