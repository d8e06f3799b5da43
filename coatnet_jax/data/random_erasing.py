"""Random erasing (Zhong et al., arXiv 1708.04896): a box of noise or of grey.

With its usual numbers: the box is 2 % to a third of the image, between 0.3 and
1 / 0.3 times as high as wide, both uniform (the ratio on a log scale), and it
lies anywhere. Where no draw of ten fits the image is left as it is.

Elsewhere erasing comes after normalisation, where noise is N(0, 1) and a
constant is 0. Here pixels are uint8 and not normalised yet, so that noise is
`255 * (mean + std * N(0, 1))`, rounded and cut off at 0 and 255, and a constant
is `255 * mean`. What is cut off is the one difference: 3 or 4 % of the noise
with ImageNet's mean and deviation, 32 % where both are 0.5.
"""

import math

import numpy as np

# How the box is filled: N(0, 1) of every pixel and channel once normalised, or
# 0 of all.
FILLS = ('noise', 'mean')

_AREA = (0.02, 1 / 3)
_LOG_ASPECT_RATIO = (math.log(0.3), -math.log(0.3))
_ATTEMPTS = 10


def erase_randomly(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  probability: float,
  fill: str,
  mean: tuple[float, float, float],
  std: tuple[float, float, float],
) -> np.ndarray:
  """Erases a random box of an image, or nothing.

  Args:
    image: [H, W, 3] uint8; not changed.
    rng: source of randomness; not used if the probability is 0.
    probability: probability that a box is erased.
    fill: name of what the box is filled with, one of `FILLS`.
    mean: mean that normalisation subtracts, per channel, of pixels in 0..1.
    std: standard deviation that normalisation divides by, per channel, of
      pixels in 0..1.

  Returns:
    [H, W, 3] uint8.
  """
  if not probability or rng.random() >= probability:
    return image
  box = sample_box(image.shape[0], image.shape[1], rng)
  if box is None:
    return image
  top, left, height, width = box
  values = 255 * np.array(mean, np.float32)
  if fill == 'noise':
    noise = rng.standard_normal((height, width, 3), np.float32)
    values = values + noise * (255 * np.array(std, np.float32))
  image = image.copy()
  image[top : top + height, left : left + width] = np.clip(
    np.rint(values), 0, 255
  )
  return image


def sample_box(
  height: int, width: int, rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
  """Samples the box to erase; None where no draw fits.

  >>> top, left, height, width = sample_box(32, 32, np.random.default_rng(0))
  >>> 0 < height < 32, 0 < width < 32
  (True, True)

  Args:
    height: image height in pixels.
    width: image width in pixels.
    rng: source of random numbers.

  Returns:
    top, left, height and width of the box, which is lower and narrower than the
    image.
  """
  # All draws in one call: a call costs more than the numbers.
  draws = rng.random((_ATTEMPTS, 4)).tolist()
  (small, large), (low, high) = _AREA, _LOG_ASPECT_RATIO
  for area_draw, ratio_draw, top_draw, left_draw in draws:
    area = height * width * (small + area_draw * (large - small))
    ratio = math.exp(low + ratio_draw * (high - low))
    box_height, box_width = (
      round(math.sqrt(area * ratio)),
      round(math.sqrt(area / ratio)),
    )
    if 0 < box_height < height and 0 < box_width < width:
      top = int(top_draw * (height - box_height + 1))
      left = int(left_draw * (width - box_width + 1))
      return top, left, box_height, box_width
  return None
