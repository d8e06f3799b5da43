"""A map over a picture with words below: what, of which class, how to read."""

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from coatnet_jax.figures import canvas

if TYPE_CHECKING:
  from matplotlib.figure import Figure

# Pixels.
_MARGIN, _LINE, _BAR = 8, 17, 12
_SMALLEST_WIDTH = 320
_PIXELS_PER_LETTER = 6.5


def draw_labelled_map(
  shown: np.ndarray, lines: list[str], bar: tuple[str, str]
) -> 'Figure':
  """Puts words, and a bar of the lightnesses, below a picture.

  Args:
    shown: [H, W, 3] uint8, of which every pixel stays as it is.
    lines: lines of words; long ones are wrapped.
    bar: words for the darkest and for the lightest end of the bar.
  """
  height, width = shown.shape[:2]
  total_width = max(width, _SMALLEST_WIDTH)
  letters = int((total_width - 2 * _MARGIN) / _PIXELS_PER_LETTER)
  lines = [
    part for line in lines for part in textwrap.wrap(line, letters) or ['']
  ]
  strip = 2 * _MARGIN + _LINE * (len(lines) + 2)
  figure = canvas.create_figure(total_width, height + strip, constrained=False)
  figure.figimage(shown, 0, strip, origin='upper')

  def write(text, x, y, **options):
    figure.text(
      x / total_width, y / (height + strip), text, va='top', **options
    )

  top = strip - _MARGIN
  for line in lines:
    write(line, _MARGIN, top)
    top -= _LINE
  levels = np.linspace(0, 1, total_width - 2 * _MARGIN)
  colors = np.broadcast_to(levels, (_BAR, len(levels)))
  from coatnet_jax.explanation.overlay import color_levels

  figure.figimage(color_levels(colors), _MARGIN, top - _BAR, origin='upper')
  write(bar[0], _MARGIN, top - _BAR - 2)
  write(bar[1], total_width - _MARGIN, top - _BAR - 2, ha='right')
  return figure
