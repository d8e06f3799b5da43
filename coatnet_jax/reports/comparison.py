"""The page of several runs side by side: seeds, folds or variants.

Each run has its number; mean and spread are over runs, each counting once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from coatnet_jax.errors import UserError
from coatnet_jax.reports import facts
from coatnet_jax.reports.charts import Chart
from coatnet_jax.reports.content import ReportContent
from coatnet_jax.reports.files import render
from coatnet_jax.reports.measures import summarize_spread
from coatnet_jax.reports.named_measures import collect_measures, list_measures
from coatnet_jax.reports.numbers import show_number
from coatnet_jax.reports.sections import MAX_LISTED, NUM_WEAKEST
from coatnet_jax.strict_json import to_json
from coatnet_jax.texts import printable
from coatnet_jax.training import curves

# Lines that can be told apart.
_MAX_LINES = 6
_SPREAD = ('mean', 'deviation', 'least', 'largest')
_CURVES = (
  (
    'Mean average precision in evaluation',
    'part',
    'eval/mean_average_precision',
  ),
  ('Top-1 in evaluation', 'part', 'eval/top1'),
  ('Loss in evaluation', 'loss', 'eval/loss'),
  ('Loss in training', 'loss', 'train/loss'),
)


def format_comparison(contents: Sequence[ReportContent]) -> str:
  """Returns the page of several reports.

  Args:
    contents: contents of two reports or more.

  Raises:
    UserError: some are of images with several labels, and some of one.
  """
  measures = list_measures(contents[0])
  if any(list_measures(content) != measures for content in contents):
    raise UserError(
      'Some of the runs are of images with several labels each, and some of'
      ' one; they have other measures, so compare those of a kind.'
    )
  runs = [_describe_run(n, content) for n, content in enumerate(contents, 1)]
  values = [collect_measures(content) for content in contents]
  return render(
    'comparison.html.j2',
    title=f'{len(contents)} runs side by side',
    notes=_list_notes(contents),
    names=[title for title, _ in measures.values()],
    runs=[
      {
        **run,
        'values': [
          show_number(found[name], form, f'run{run["number"]}_{name}')
          for name, (_, form) in measures.items()
        ],
      }
      for run, found in zip(runs, values)
    ],
    spreads=[
      {
        'name': title,
        'cells': _show_spread([found[name] for found in values], form, name),
      }
      for name, (title, form) in measures.items()
    ],
    spread_names=_SPREAD,
    class_rows=_list_class_rows(contents),
    num_classes=contents[0].outcomes.num_classes,
    curves=_draw_curves(contents),
    max_lines=_MAX_LINES,
    differences=_list_differences(contents),
  )


def _describe_run(number: int, content: ReportContent) -> dict[str, Any]:
  trained = content.trained
  return {
    'number': number,
    'name': printable(content.workdir or trained.path),
    'model': trained.config.model.name,
    'step': f'{trained.step:,}',
    'count': show_number(content.figures['count'], 'count'),
    'data': content.data,
  }


def _list_notes(contents: Sequence[ReportContent]) -> list[str]:
  notes = [
    f'Run {number}: {note}'
    for number, content in enumerate(contents, 1)
    for note in content.rules
  ]
  images = {dict(content.data)['Evaluated on'] for content in contents}
  if len(images) > 1:
    notes.append(
      'The runs were not evaluated on the same images: their measures differ'
      ' for that too.'
    )
  return notes


def _show_spread(values: Sequence[float], form: str, key: str) -> list[Any]:
  """Returns mean, deviation, least and largest as HTML."""
  spread = summarize_spread(dict(enumerate(values)))
  return [show_number(spread[n], form, key and f'{key}_{n}') for n in _SPREAD]


def _list_class_rows(contents: Sequence[ReportContent]) -> list[dict[str, Any]]:
  """Returns the spread of each class's F1; none where classes differ.

  It is over the runs in which the class has one. Of very many classes there are
  only those whose mean is least.
  """
  names = {content.outcomes.class_names for content in contents}
  if len(names) > 1:
    return []
  (names,) = names
  rows = []
  for label in _choose_labels(contents):
    f1 = np.array([content.classes.f1[label] for content in contents])
    there = f1[~np.isnan(f1)]
    cells = _show_spread(there if there.size else f1, 'number', '')
    rows.append({'name': printable(names[label]), 'cells': cells})
  return rows


def _choose_labels(contents: Sequence[ReportContent]) -> Sequence[int]:
  """Returns the classes of a table: all, or those with the least F1."""
  number = contents[0].outcomes.num_classes
  if number <= MAX_LISTED:
    return range(number)
  f1 = np.ma.masked_invalid([content.classes.f1 for content in contents])
  means = f1.mean(axis=0).filled(np.inf)
  return means.argsort(kind='stable')[:NUM_WEAKEST].tolist()


def _draw_curves(contents: Sequence[ReportContent]) -> list[Chart]:
  rows = [
    {} if content.workdir is None else curves.read_rows(content.workdir)
    for content in contents
  ]
  charts = []
  for title, y_title, name in _CURVES:
    series = {
      f'run {number}': list(zip(*found[name]))
      for number, found in enumerate(rows[:_MAX_LINES], 1)
      if name in found
    }
    chart = facts.draw_series(title, y_title, series)
    charts += [chart] if chart else []
  return charts


def _list_differences(
  contents: Sequence[ReportContent],
) -> list[dict[str, Any]]:
  """Returns the keys in which configs differ, with the value in each run."""
  configs = [facts.flatten(content.trained.config) for content in contents]
  keys = sorted(set().union(*configs))
  rows = [
    {
      'key': key,
      'values': [
        to_json(config[key]) if key in config else '(none)'
        for config in configs
      ],
    }
    for key in keys
  ]
  return [row for row in rows if len(set(row['values'])) > 1]
