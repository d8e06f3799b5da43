"""Learned relative-position tables as maps, a row for each block.

The middle of a map is the bias of a token for itself. Right of it stand tokens
whose query lies right of their key, below it those whose query lies below.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from coatnet_jax.figures import canvas

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_CELL, _WORDS, _BAR = 84, 90, 90
_SMALLEST_WIDTH = 560


def draw_position_tables(
  tables: Mapping[str, np.ndarray], title: str
) -> 'Figure':
  """Draws the tables of blocks, one map for each head, in one scale.

  Args:
    tables: biases by query - key, [heads, 2H-1, 2W-1], by the block's name.
    title: words above the maps.
  """
  num_heads = max(len(table) for table in tables.values())
  figure = canvas.create_figure(
    max(_WORDS + _CELL * num_heads + _BAR, _SMALLEST_WIDTH),
    70 + (_CELL + 24) * len(tables),
  )
  grid = figure.subplots(len(tables), num_heads, squeeze=False)
  low = min(table.min() for table in tables.values())
  high = max(table.max() for table in tables.values())
  for row, (block, table) in zip(grid, tables.items()):
    for axes in row[len(table) :]:
      axes.set_axis_off()
    for head, (axes, values) in enumerate(zip(row, table)):
      image = canvas.show_map(axes, values, low, high)
      axes.set_title(f'head {head}', fontsize=canvas.TEXT_POINTS - 1)
    rows, columns = table.shape[1:]
    row[0].set_ylabel(f'{block}\n{rows}x{columns}')
  bar = figure.colorbar(image, ax=grid.ravel().tolist(), fraction=0.05)
  bar.set_label('added to the logit')
  figure.suptitle(canvas.clean(title))
  return figure
