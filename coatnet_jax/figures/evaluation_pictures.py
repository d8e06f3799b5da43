"""What an evaluation found, as pictures for TensorBoard."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from coatnet_jax.evaluation.eval_step import EvaluatedExamples
from coatnet_jax.figures import canvas

if TYPE_CHECKING:
  from matplotlib.figure import Figure

# A matrix of more classes cannot be read.
MAX_CLASSES = 40
# Up to so many classes its numbers can be read.
_MAX_NUMBERED = 20
# Pixels.
_CELL, _NUMBERED_CELL, _MARGIN = 16, 34, 170
_PICTURE, _CAPTION = 140, 44


def draw_evaluation(
  examples: EvaluatedExamples, class_names: Sequence[str]
) -> dict[str, np.ndarray]:
  """Draws what an evaluation found.

  Args:
    examples: what was predicted of each example.
    class_names: names of the classes.

  Returns:
    'eval/confusions' where there are at most `MAX_CLASSES` classes, and
    'eval/predictions' where examples have images: each [1, height, width, 3]
    uint8.
  """
  figures = {}
  if len(class_names) <= MAX_CLASSES:
    figures['eval/confusions'] = draw_confusions(
      examples.labels, examples.predicted, class_names
    )
  if len(examples.images):
    figures['eval/predictions'] = draw_predictions(examples, class_names)
  return {
    name: canvas.render_figure(figure)[None] for name, figure in figures.items()
  }


def draw_confusions(
  labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]
) -> 'Figure':
  """Draws how often each class was taken for each.

  Lightness is the share of a row, so that a rare class is seen as well as a
  common one. Images of which nothing was predicted are left out.

  Args:
    labels: true classes, [N] integers.
    predicted: predicted classes, [N] integers; -1 where there is none.
    class_names: names of the K classes.
  """
  size = len(class_names)
  counts = np.zeros((size, size), np.int64)
  is_class = predicted >= 0
  np.add.at(counts, (labels[is_class], predicted[is_class]), 1)
  shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
  has_numbers = size <= _MAX_NUMBERED
  side = (_NUMBERED_CELL if has_numbers else _CELL) * size + _MARGIN
  figure = canvas.create_figure(max(side, 320), max(side, 320))
  axes = figure.subplots()
  canvas.show_map(axes, shares, 0, 1)
  names = [canvas.clean(name, 16) for name in class_names]
  axes.set_xticks(range(size), names, rotation=90)
  axes.set_yticks(range(size), names)
  axes.set_xlabel('predicted')
  axes.set_ylabel('true class')
  if has_numbers:
    for (row, column), count in np.ndenumerate(counts):
      color = 'black' if shares[row, column] > 0.5 else 'white'
      number = f'{count:,}' if count < 10_000 else f'{count / 1000:.0f}k'
      axes.text(
        column, row, number, ha='center', va='center', color=color, fontsize=7
      )
  return figure


def draw_predictions(
  examples: EvaluatedExamples, class_names: Sequence[str]
) -> 'Figure':
  """Draws images with what was predicted of them; wrong ones say their class.

  Args:
    examples: what was predicted of each example; those with images are drawn.
    class_names: names of the classes.
  """
  count = len(examples.images)
  columns = math.ceil(math.sqrt(count))
  rows = math.ceil(count / columns)
  figure = canvas.create_figure(
    _PICTURE * columns, (_PICTURE + _CAPTION) * rows
  )
  grid = figure.subplots(rows, columns, squeeze=False).ravel()
  for axes in grid:
    axes.set_axis_off()
  for axes, label, predicted, confidence, image in zip(grid, *examples):
    axes.imshow(image, interpolation='nearest')
    name = canvas.clean(class_names[predicted], 16)
    lines = [f'{name}, {confidence:.0%}' if predicted >= 0 else 'nothing']
    if predicted != label:
      lines.append(f'is {canvas.clean(class_names[label], 16)}')
    axes.set_title('\n'.join(lines), fontsize=8)
  return figure
