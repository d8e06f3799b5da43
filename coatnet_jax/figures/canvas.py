"""Figures whose sizes are pixels, in one style, and writing them.

matplotlib is imported where a figure is made: it takes a while.
"""

import io
import pathlib
import types
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from coatnet_jax.errors import UserError, find_reason
from coatnet_jax.escapes import escape
from coatnet_jax.paths import write_whole

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

# Pixels of an inch: a text of 9 points is 12.5 pixels high.
DPI = 100
TEXT_POINTS = 9
# By lightness alone, and the same to those who don't tell red from green.
COLOR_MAP = 'cividis'
# What a PNG says that made it.
_SOFTWARE = 'coatnet_jax'
# A colour (Okabe and Ito's, without the yellow that paper swallows), a dash and
# a mark for each line; what the colours lack the other two tell.
_COLORS = ('#000000', '#D55E00', '#0072B2', '#009E73', '#CC79A7', '#56B4E9')
_DASHES = ('-', '--', '-.', ':')
_MARKS = ('o', 's', '^', 'D', 'v', 'P', 'X')
_RC = types.MappingProxyType(
  {
    'font.size': TEXT_POINTS,
    'axes.titlesize': TEXT_POINTS + 1,
    'axes.grid': False,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'savefig.dpi': DPI,
    'figure.dpi': DPI,
    # A name with a '$' is no formula.
    'text.parse_math': False,
    # Words as they are, whatever the user's own settings say.
    'text.usetex': False,
  }
)


def create_figure(
  width: int, height: int, *, constrained: bool = True
) -> 'Figure':
  """Returns an empty white figure.

  Args:
    width: width of the figure in pixels.
    height: height of the figure in pixels.
    constrained: whether axes are laid out so that no words overlap.

  Raises:
    UserError: matplotlib is not installed.
  """
  matplotlib = _import_matplotlib()
  from matplotlib.figure import Figure

  matplotlib.rcParams.update(_RC)
  return Figure(
    figsize=(width / DPI, height / DPI),
    dpi=DPI,
    layout='constrained' if constrained else None,
    facecolor='white',
  )


def _import_matplotlib() -> Any:
  try:
    import matplotlib
  except ImportError as error:
    raise UserError(
      'Figures need matplotlib, which is not installed: pip install matplotlib.'
    ) from error
  return matplotlib


def list_line_styles(count: int) -> Iterator[dict[str, Any]]:
  """Yields how each of several lines is drawn, none like another.

  >>> [style['linestyle'] for style in list_line_styles(2)]
  ['-', '--']

  Args:
    count: number of lines that are to differ.
  """
  for index in range(count):
    yield {
      'color': _COLORS[index % len(_COLORS)],
      'linestyle': _DASHES[index % len(_DASHES)],
      'marker': _MARKS[index % len(_MARKS)],
      'linewidth': 1.5,
      'markersize': 5,
    }


def show_map(
  axes: 'Axes', values: np.ndarray, low: float, high: float, **options: Any
) -> Any:
  """Draws numbers as lightness, square cells; returns what a bar is made of.

  Args:
    axes: axes to draw in.
    values: [h, w] numbers, or [h, w, 3] colours.
    low: number that is darkest.
    high: number that is lightest.
    **options: further options, those of `Axes.imshow`.
  """
  axes.set_xticks([])
  axes.set_yticks([])
  return axes.imshow(
    values,
    cmap=COLOR_MAP,
    vmin=low,
    vmax=high,
    interpolation='nearest',
    **options,
  )


def clean(text: str, limit: int = 80) -> str:
  """Returns a text of others as a figure shows it: one line, not too long.

  >>> clean('a' * 100, limit=5)
  'aaaa…'
  """
  text = ' '.join(escape(text).split())
  return text if len(text) <= limit else text[: limit - 1] + '…'


def check_target(path: pathlib.Path, name: str = '--out') -> None:
  """Checks that a figure can be written, and makes its directory.

  Args:
    path: path of the file, that is to be written or written anew.
    name: name of the path in a message.

  Raises:
    UserError: it cannot be, or what is there is no figure of this project.
  """
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f'{name}: {path.parent} cannot be made a directory'
      f' ({find_reason(error)}); give another.'
    ) from error
  if path.is_dir():
    raise UserError(f'{name}: {path} is a directory; give a file, NAME.png.')
  if path.exists() and not _is_ours(path):
    raise UserError(
      f'{name}: {path} is there, and is no figure of this project; give'
      ' another place.'
    )


def _is_ours(path: pathlib.Path) -> bool:
  with path.open('rb') as file:
    return b'tEXtSoftware\0' + _SOFTWARE.encode() in file.read(4096)


def render_figure(figure: 'Figure') -> np.ndarray:
  """Returns a figure's pixels, [height, width, 3] uint8.

  Args:
    figure: figure from `create_figure`.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg

  drawn = FigureCanvasAgg(figure)
  with warnings.catch_warnings():  # A letter that the font lacks is a box.
    warnings.simplefilter('ignore', UserWarning)
    drawn.draw()
  return np.asarray(drawn.buffer_rgba())[..., :3].copy()


def write_figure(
  figure: 'Figure', path: pathlib.Path, name: str = '--out'
) -> None:
  """Writes a figure as PNG, whole or not at all.

  Args:
    figure: figure from `create_figure`.
    path: path of the file; a figure that is there is replaced.
    name: name of the path in a message.

  Raises:
    UserError: it cannot be written, or what is there is no figure of this
      project.
  """
  check_target(path, name)
  content = io.BytesIO()
  figure.savefig(content, format='png', metadata={'Software': _SOFTWARE})
  try:
    write_whole(path, content.getvalue())
  except OSError as error:
    raise UserError(
      f'{name}: {path} cannot be written ({find_reason(error)}); give another'
      ' place.'
    ) from error
