"""Filters of the stem's first convolution, as small pictures."""

import math
from typing import TYPE_CHECKING

import numpy as np

from coatnet_jax.figures import canvas

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_CELL = 56


def draw_stem_filters(kernel: np.ndarray, title: str) -> 'Figure':
  """Draws each filter; grey is 0, and the largest weight is black or white.

  Args:
    kernel: weights, [k, k, channels, filters] float: channels that are not
      red, green and blue are averaged.
    title: words above the filters.
  """
  count = kernel.shape[-1]
  columns = math.ceil(math.sqrt(2 * count))
  rows = math.ceil(count / columns)
  figure = canvas.create_figure(
    max(_CELL * columns, 560), 60 + (_CELL + 18) * rows
  )
  grid = figure.subplots(rows, columns, squeeze=False)
  for axes in grid.ravel():
    axes.set_axis_off()
  for index, axes in enumerate(grid.ravel()[:count]):
    axes.imshow(color_filter(kernel[..., index]), interpolation='nearest')
    axes.set_title(str(index), fontsize=canvas.TEXT_POINTS - 2, pad=2)
  figure.suptitle(canvas.clean(title))
  return figure


def color_filter(weights: np.ndarray) -> np.ndarray:
  """Returns one filter as a picture.

  >>> color_filter(np.array([[[-2.0, 0.0, 1.0]]])).tolist()
  [[[0.0, 0.5, 0.75]]]

  Args:
    weights: weights of the filter, [k, k, channels] float.

  Returns:
    [k, k, 3] float in 0..1: 0.5 where a weight is 0.
  """
  if weights.shape[-1] != 3:
    mean = weights.mean(-1, keepdims=True)
    weights = np.repeat(mean, 3, axis=-1)
  largest = np.abs(weights).max()
  return 0.5 + weights / (2 * largest) if largest else 0.5 + 0 * weights
