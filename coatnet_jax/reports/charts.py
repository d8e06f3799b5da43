"""Charts of a report: where lines and bars lie, for the template to draw.

Lines differ in their dashes as well as in their colour, so that a chart can be
read without colours. Nothing here is HTML.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

# Of a chart's picture, in its own units, with room for the numbers on axes.
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 38
_SIZES = {'large': (360, 230), 'small': (170, 170)}
_MAX_POINTS = 200
_NUM_STYLES = 6
# Of an axis, whose ticks have twelve decimals.
_LEAST_WIDTH = 1e-10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  """A line of a chart.

  Attributes:
    name: name in the legend.
    points: pairs of numbers, 'x,y x,y', as SVG has them.
    style: number of its colour and dashes.
    marks: (x, y) of points that are marked, where they are few.
  """

  name: str
  points: str
  style: int
  marks: tuple[tuple[float, float], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bar:
  """A bar of a chart: its corner, its size and what it says."""

  x: float
  y: float
  width: float
  height: float
  title: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
  """A chart that is ready to be drawn.

  Attributes:
    title: title, for who cannot see it too.
    x_title: what is on the horizontal axis.
    y_title: what is on the vertical one.
    width: width in its own units.
    height: height in its own units.
    plot: left, top, right and bottom of the part between the axes.
    x_ticks: places of numbers on the horizontal axis, with these.
    y_ticks: places of numbers on the vertical axis, with these.
    lines: lines, one at least where there are no bars.
    bars: bars, behind the lines.
    diagonal: whether a thin line goes from corner to corner.
  """

  title: str
  x_title: str
  y_title: str
  width: int
  height: int
  plot: tuple[float, float, float, float]
  x_ticks: tuple[tuple[float, str], ...]
  y_ticks: tuple[tuple[float, str], ...]
  lines: tuple[Line, ...] = ()
  bars: tuple[Bar, ...] = ()
  diagonal: bool = False


class Axes:
  """The axes of a chart, which say where a number lies."""

  def __init__(
    self,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    size: str = 'large',
  ):
    """Takes the ranges.

    Args:
      x_range: least and largest number on the horizontal axis.
      y_range: least and largest number on the vertical one.
      size: 'large', or 'small' for one of many.
    """
    self.width, self.height = _SIZES[size]
    self._num_ticks = 5 if size == 'large' else 2
    self._x_range, self._y_range = _widen(x_range), _widen(y_range)
    self.plot = (_LEFT, _TOP, self.width - _RIGHT, self.height - _BOTTOM)

  def place(self, x: float, y: float) -> tuple[float, float]:
    """Returns where a point lies in the chart's own units."""
    left, top, right, bottom = self.plot
    (x_low, x_high), (y_low, y_high) = self._x_range, self._y_range
    return (
      round(left + (x - x_low) / (x_high - x_low) * (right - left), 1),
      round(bottom - (y - y_low) / (y_high - y_low) * (bottom - top), 1),
    )

  def create_line(
    self,
    name: str,
    xs: Sequence[float] | np.ndarray,
    ys: Sequence[float] | np.ndarray,
    style: int,
    *,
    marked: bool = False,
  ) -> Line:
    """Returns a line through finite points, thinned out where they are many."""
    xs, ys = thin_out(np.asarray(xs, float), np.asarray(ys, float))
    places = [self.place(x, y) for x, y in zip(xs, ys)]
    return Line(
      name=name,
      points=' '.join(f'{x:g},{y:g}' for x, y in places),
      style=style % _NUM_STYLES,
      marks=tuple(places) if marked and len(places) <= 30 else (),
    )

  def create_bar(self, low: float, high: float, top: float, title: str) -> Bar:
    """Returns a bar from 0 up, between two numbers of the horizontal axis."""
    left, upper = self.place(low, top)
    right, lower = self.place(high, max(self._y_range[0], 0.0))
    return Bar(
      x=left + 0.5,
      y=upper,
      width=round(right - left - 1, 1),
      height=round(lower - upper, 1),
      title=title,
    )

  def create_chart(
    self, title: str, x_title: str, y_title: str, **parts
  ) -> Chart:
    """Returns the chart with its ticks.

    Args:
      title: title of the chart.
      x_title: what is on the horizontal axis.
      y_title: what is on the vertical one.
      **parts: further fields of `Chart`: lines, bars, diagonal.
    """
    return Chart(
      title=title,
      x_title=x_title,
      y_title=y_title,
      width=self.width,
      height=self.height,
      plot=self.plot,
      x_ticks=tuple(
        (self.place(x, 0)[0], format_tick(x))
        for x in find_ticks(*self._x_range, self._num_ticks)
      ),
      y_ticks=tuple(
        (self.place(0, y)[1], format_tick(y))
        for y in find_ticks(*self._y_range, self._num_ticks)
      ),
      **parts,
    )


def _widen(limits: tuple[float, float]) -> tuple[float, float]:
  """Returns a range that is wide enough to have ticks, which are rounded."""
  low, high = limits
  size = max(abs(low), abs(high))
  if high - low > max(1e-9 * size, _LEAST_WIDTH):
    return low, high
  margin = size / 10 if size > 10 * _LEAST_WIDTH else 1.0
  return low - margin, high + margin


def find_ticks(low: float, high: float, number: int) -> list[float]:
  """Returns round numbers of a range, about as many as are asked for.

  >>> find_ticks(0.0, 1.0, 5)
  [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
  """
  rough = (high - low) / number
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.999)
  first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  return [round(n * step, 12) for n in range(first, last + 1)]


def round_range(low: float, high: float, number: int) -> tuple[float, float]:
  """Returns the range between the ticks around a range.

  >>> round_range(0.47, 0.99, 5)
  (0.4, 1.0)
  """
  low, high = _widen((low, high))
  ticks = find_ticks(low, high, number)
  step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
  return (
    round(math.floor(low / step + 1e-9) * step, 12),
    round(math.ceil(high / step - 1e-9) * step, 12),
  )


def format_tick(number: float) -> str:
  """Returns a number as it stands at an axis.

  >>> format_tick(20000.0), format_tick(0.25), format_tick(4e-5)
  ('20k', '0.25', '4e-05')
  """
  for size, unit in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if abs(number) >= size:
      return f'{number / size:g}{unit}'
  return f'{number:g}'


def thin_out(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns at most some 200 of the points, the first and the last among them.

  Args:
    xs: [n] float, horizontal places of the points, ascending.
    ys: [n] float, vertical places of the points.
  """
  keep = np.isfinite(xs) & np.isfinite(ys)
  xs, ys = xs[keep], ys[keep]
  if len(xs) <= _MAX_POINTS:
    return xs, ys
  rows = np.unique(np.linspace(0, len(xs) - 1, _MAX_POINTS).round().astype(int))
  return xs[rows], ys[rows]


def find_range(*series: Sequence[float]) -> tuple[float, float] | None:
  """Returns the least and the largest finite number; None if there is none."""
  numbers = np.concatenate([np.asarray(one, float) for one in series])
  numbers = numbers[np.isfinite(numbers)]
  return (float(numbers.min()), float(numbers.max())) if len(numbers) else None
