"""A learning-rate schedule by step and epoch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from coatnet_jax.figures import canvas

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_NUM_POINTS = 1000


def draw_schedule(
  schedule: Callable[[int], float],
  num_steps: int,
  steps_per_epoch: float,
  title: str,
) -> 'Figure':
  """Draws the rates of a run.

  Args:
    schedule: function of the step that returns the learning rate.
    num_steps: number of steps of the run.
    steps_per_epoch: training examples / global batch size.
    title: words above the plot.
  """
  count = min(num_steps, _NUM_POINTS) + 1
  steps = np.unique(np.linspace(0, num_steps, count).astype(int))
  rates = [float(schedule(int(step))) for step in steps]
  figure = canvas.create_figure(720, 420)
  axes = figure.subplots()
  (style,) = canvas.list_line_styles(1)
  axes.plot(steps, rates, **{**style, 'marker': ''})
  peak = int(np.argmax(rates))
  axes.plot(steps[peak], rates[peak], **{**style, 'linestyle': ''})
  axes.annotate(
    f'{rates[peak]:.3g} at step {steps[peak]:,}',
    (steps[peak], rates[peak]),
    textcoords='offset points',
    xytext=(8, 2),
  )
  axes.set_xlabel('step')
  axes.set_ylabel('learning rate')
  axes.set_xlim(0, num_steps)
  axes.set_ylim(0, 1.1 * max(rates))
  axes.xaxis.set_major_formatter('{x:,.0f}')
  epochs = axes.secondary_xaxis(
    'top',
    functions=(lambda x: x / steps_per_epoch, lambda x: x * steps_per_epoch),
  )
  epochs.set_xlabel('epoch')
  figure.suptitle(canvas.clean(title))
  return figure
