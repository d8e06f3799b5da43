"""Rows of a comparison as figures: ratio, spread, memory, and the table."""

import statistics
from collections.abc import Sequence
from typing import Any

import humanize

from benchmarks.versus.task import Task
from benchmarks.versus.turns import Row

_TITLES = (
  *('', 'images/s', 'ms a step', 'processor s', 'this project is'),
  *('quartiles', 'rounds', 'first step', 'peak memory', ''),
)


def compute_quartiles(values: Sequence[float]) -> tuple[float, float, float]:
  """Returns the lower quartile, the median and the upper quartile.

  >>> compute_quartiles([4.0, 1.0, 2.0, 3.0, 5.0])
  (2.0, 3.0, 4.0)
  >>> compute_quartiles([7.0])
  (7.0, 7.0, 7.0)

  Args:
    values: numbers to be summarised, at least one.
  """
  if len(values) == 1:
    return (values[0],) * 3
  return tuple(statistics.quantiles(values, n=4, method='inclusive'))


def summarise(rows: Sequence[Row], task: Task) -> list[dict[str, Any]]:
  """Returns what --json has of each contestant.

  Args:
    rows: rows of one comparison, this project's first.
    task: model, batch, dtype and mode that all contestants computed.
  """
  first = rows[0]
  results = []
  for row in rows:
    result = {
      'name': row.name,
      'error': row.error or None,
      'notes': row.notes,
      **row.facts,
      'first_call_seconds': row.first_call_seconds,
      'peak_bytes': row.peak_bytes,
      'steps_per_round': row.steps,
      'seconds_per_step': row.seconds,
      'processor_seconds_per_step': row.processor_seconds,
    }
    if row.seconds:
      median = statistics.median(row.seconds)
      result['images_per_second'] = task.batch_size / median
      result['median_seconds'] = median
      result['median_processor_seconds'] = statistics.median(
        row.processor_seconds
      )
    # Of the same round: what slows the machine for a while slows both.
    ratios = [b / a for a, b in zip(first.seconds, row.seconds)]
    if ratios and row is not first:
      lower, middle, upper = compute_quartiles(ratios)
      result['ratio'] = middle
      result['ratio_quartiles'] = [lower, upper]
    results.append(result)
  return results


def find_best(results: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
  """Returns the result that this project compares worst with, if any.

  Args:
    results: results of one comparison, from `summarise`.
  """
  compared = [result for result in results if 'ratio' in result]
  return min(compared, key=lambda result: result['ratio'], default=None)


def format_table(results: Sequence[dict[str, Any]]) -> str:
  """Returns the table of one comparison, in Markdown, with a last sentence.

  Args:
    results: results of one comparison, from `summarise`.
  """
  lines = [_TITLES, ('---',) * len(_TITLES)]
  lines += [_format_row(result) for result in results]
  text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
  best = find_best(results)
  if best is None:
    return f'{text}\n\nThere is nothing to compare.'
  lower, upper = best['ratio_quartiles']
  return (
    f'{text}\n\nAgainst the best of the others, {best["name"]}, this project is'
    f' {best["ratio"]:.2f} times as fast ({lower:.2f} to {upper:.2f}).'
  )


def _format_row(result: dict[str, Any]) -> tuple[str, ...]:
  def show(key, form):
    value = result.get(key)
    return '' if value is None else form(value)

  quartiles = result.get('ratio_quartiles')
  return (
    result['name'],
    show('images_per_second', lambda x: f'{x:,.1f}'),
    show('median_seconds', lambda x: f'{1e3 * x:,.1f}'),
    show('median_processor_seconds', lambda x: f'{x:,.2f}'),
    show('ratio', lambda x: f'{x:.2f} times as fast'),
    f'{quartiles[0]:.2f} to {quartiles[1]:.2f}' if quartiles else '',
    str(len(result['seconds_per_step'])),
    show('first_call_seconds', lambda x: f'{x:,.1f} s'),
    show('peak_bytes', lambda x: humanize.naturalsize(x, binary=True)),
    '; '.join([*result['notes'], *filter(None, [result['error']])]),
  )
