"""Figures of evaluations, by name: what people call them, and their form."""

import types
from collections.abc import Mapping
from typing import NamedTuple

# form: how a number is written with all the digits that it is worth.
FORMS = types.MappingProxyType(
  {'share': '{:.2%}', 'number': '{:.4f}', 'count': '{:,}'}
)
# form: title of each figure that has it.
_TITLES = {
  'share': {
    'mean_average_precision': 'mean average precision',
    'top1': 'top-1',
    'top5': 'top-5',
    'mean_class_accuracy': 'mean over classes',
    'mean_corruption_error': 'mCE',
    'average_precision': 'average precision',
    'precision': 'precision',
    'recall': 'recall',
  },
  'number': {
    'loss': 'loss',
    'calibration_error': 'calibration error',
    'micro_f1': 'F1 of all labels',
    'macro_f1': 'mean F1 of classes',
    'f1': 'F1',
  },
  'count': {'count': 'images', 'undecodable': 'undecodable'},
}


class Figure(NamedTuple):
  """How a figure is shown to people.

  Attributes:
    title: what it is called.
    form: form of its numbers, one of `FORMS`: 'share', a part of 1; 'number';
      or 'count', a whole number.
  """

  title: str
  form: str


FIGURES: Mapping[str, Figure] = types.MappingProxyType(
  {
    name: Figure(title, form)
    for form, titles in _TITLES.items()
    for name, title in titles.items()
  }
)


def format_figure(name: str, value: float | int) -> str:
  """Returns a figure's number as people read it.

  >>> format_figure('top1', 0.8875), format_figure('count', 50_000)
  ('88.75%', '50,000')

  Args:
    name: name of the figure, one of `FIGURES`.
    value: number to be written.
  """
  return FORMS[FIGURES[name].form].format(value)
