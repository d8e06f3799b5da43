"""Sections that every report of one model has, for the templates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from coatnet_jax.evaluation.measures import NUM_BINS
from coatnet_jax.reports import facts
from coatnet_jax.reports.charts import Axes, Chart
from coatnet_jax.reports.content import LabelReportContent, ReportContent
from coatnet_jax.reports.named_measures import collect_measures, list_measures
from coatnet_jax.reports.numbers import show_interval, show_number
from coatnet_jax.reports.outcomes import MAX_FEW_CLASSES
from coatnet_jax.texts import printable

# Of many classes, so many are shown that are worst.
NUM_WEAKEST = 15
# Up to so many all are listed as well; a page of more would have too many MB.
MAX_LISTED = 3000


def describe_run(content: ReportContent) -> dict[str, Any]:
  """Returns what a page says whatever was measured, by the template's names."""
  trained, figures = content.trained, content.figures
  size = ' x '.join(map(str, trained.preprocessing.image_size))
  return {
    'title': f'{trained.config.model.name}, {figures["count"]:,} images'
    ' evaluated',
    'subtitle': (
      f'The checkpoint of step {trained.step:,} in'
      f' {printable(content.workdir or trained.path)}, at {size} pixels;'
      f' {content.outcomes.num_classes:,} classes. Evaluated in'
      f' {content.seconds:.0f}\xa0s.'
    ),
    'tiles': _list_tiles(content),
    'are_few': content.outcomes.are_few,
    'max_few': MAX_FEW_CLASSES,
    'galleries': content.galleries,
    'curves': facts.draw_curves(content.workdir),
    'data': content.data,
    'undecodable': content.undecodable,
    'num_undecodable': figures['undecodable'],
    'changes': facts.list_changes_from_base(trained.config),
    'commands': facts.list_commands(trained, content.workdir, content.command),
    'facts': facts.list_facts(trained),
  }


def describe_classes(
  content: ReportContent, goodness: np.ndarray
) -> dict[str, Any]:
  """Returns the rows of the tables of classes, by the template's names.

  Args:
    content: content of the report.
    goodness: what the weakest of many classes have the least of, [C].
  """
  outcomes = content.outcomes
  is_listed = outcomes.num_classes <= MAX_LISTED
  listed = range(outcomes.num_classes) if is_listed else ()
  weakest = [] if outcomes.are_few else _find_weakest(content, goodness)
  return {
    'class_rows': _list_class_rows(content, listed),
    'weakest_rows': _list_class_rows(content, weakest),
  }


def describe_detections(content: ReportContent) -> dict[str, Any]:
  """Returns curves of each of few classes, by the template's names."""
  return {
    'detections': _draw_detections(content),
    'detections_note': _explain_missing_detections(content),
  }


def list_notes(content: ReportContent) -> list[str]:
  """Returns what a reader is to know before the numbers."""
  notes = list(content.rules)
  invalid = int((content.outcomes.predicted < 0).sum())
  if invalid:
    notes.append(
      f'The model computes NaN for {invalid:,} images; they count as wrong.'
    )
  absent = int((content.classes.support == 0).sum())
  if absent:
    notes.append(
      f'{absent:,} of {content.outcomes.num_classes:,} classes have no images'
      ' to evaluate on, and count in no mean.'
    )
  return notes


def _list_tiles(content: ReportContent) -> list[dict[str, Any]]:
  tiles, measures = [], list_measures(content)
  for name, value in collect_measures(content).items():
    title, form = measures[name]
    interval = show_interval(content.intervals.get(name), form, name)
    shown = show_number(value, form, name)
    tiles.append({'title': title, 'value': shown, 'interval': interval})
  count = show_number(content.figures['count'], 'count', 'count')
  return [*tiles, {'title': 'images', 'value': count, 'interval': ''}]


def _list_class_rows(
  content: ReportContent, labels: Sequence[int]
) -> list[dict[str, Any]]:
  classes, names = content.classes, content.outcomes.class_names
  rows = [
    {
      'label': label,
      'name': printable(names[label]),
      'support': show_number(int(classes.support[label]), 'count'),
      'precision': show_number(classes.precision[label], 'short_share'),
      'precision_interval': show_interval(
        tuple(classes.precision_interval[:, label]), 'whole_share'
      ),
      'recall': show_number(classes.recall[label], 'short_share'),
      'recall_interval': show_interval(
        tuple(classes.recall_interval[:, label]), 'whole_share'
      ),
      'f1': show_number(classes.f1[label], 'number'),
    }
    for label in labels
  ]
  if isinstance(content, LabelReportContent):
    for label, row in zip(labels, rows):
      precision = content.classes.average_precision[label]
      row['average_precision'] = show_number(precision, 'short_share')
  return rows


def _find_weakest(content: ReportContent, goodness: np.ndarray) -> list[int]:
  """Returns the classes with examples that have the least of something."""
  support = content.classes.support
  labels = goodness.argsort(kind='stable').tolist()
  return [label for label in labels if support[label]][:NUM_WEAKEST]


def describe_reliability(
  bins: np.ndarray, *, x_title: str, what: str, so: str
) -> dict[str, Any]:
  """Returns what probabilities are worth, by the template's names.

  Args:
    bins: sums of each bin, [3, NUM_BINS], from `bin_confidences`.
    x_title: what the probabilities are of.
    what: what they are counted as: 'images'.
    so: what each either is or is not: 'right'.
  """
  return {
    'bins': _list_bins(bins),
    'reliability': _draw_reliability(bins, x_title, what, so),
  }


def _list_bins(bins: np.ndarray) -> list[dict[str, Any]]:
  """Returns what is in each bin of probabilities, for people."""
  nothing = float('nan')
  return [
    {
      'title': f'{number / NUM_BINS:.3f} to {(number + 1) / NUM_BINS:.3f}',
      'count': show_number(int(count), 'count'),
      'confidence': show_number(
        float(confidence) if count else nothing, 'number'
      ),
      'accuracy': show_number(float(accuracy) if count else nothing, 'number'),
    }
    for number, (count, confidence, accuracy) in enumerate(
      zip(*_average_bins(bins))
    )
  ]


def _average_bins(bins: np.ndarray) -> tuple[np.ndarray, ...]:
  """Returns number, mean confidence and accuracy of each bin, [NUM_BINS]."""
  counts, confidences, hits = bins
  return counts.astype(int), confidences / counts.clip(1), hits / counts.clip(1)


def _draw_reliability(
  bins: np.ndarray, x_title: str, what: str, so: str
) -> list[Chart]:
  """Returns how often it is so in each bin, and how many there are."""
  counts, _, accuracies = _average_bins(bins)
  edges = [(n / NUM_BINS, (n + 1) / NUM_BINS) for n in range(NUM_BINS)]
  axes, histogram = Axes((0, 1), (0, 1)), Axes((0, 1), (0, int(counts.max())))
  return [
    axes.create_chart(
      f'{so.capitalize()}, by probability',
      x_title,
      f'part that is {so}',
      bars=tuple(
        axes.create_bar(
          *edge, accuracy, f'{accuracy:.1%} of {count:,} {what} are {so}'
        )
        for edge, count, accuracy in zip(edges, counts, accuracies)
        if count
      ),
      diagonal=True,
    ),
    histogram.create_chart(
      f'{what.capitalize()}, by probability',
      x_title,
      what,
      bars=tuple(
        histogram.create_bar(*edge, int(count), f'{count:,} {what}')
        for edge, count in zip(edges, counts)
        if count
      ),
    ),
  ]


def _draw_detections(content: ReportContent) -> list[Mapping[str, Any]]:
  """Returns both curves of every class, and their titles."""
  drawn: list[Mapping[str, Any]] = []
  for name, found in zip(content.outcomes.class_names, content.detections):
    if found is None:
      drawn.append({'roc': None})
      continue
    axes, name = Axes((0, 1), (0, 1), 'small'), printable(name)
    recall = found.recall
    drawn.append(
      {
        'roc': axes.create_chart(
          f'ROC of {name}',
          'of the others',
          'recall',
          lines=(
            axes.create_line('', found.false_positive_rate, recall, style=0),
          ),
          diagonal=True,
        ),
        'roc_title': _title_detection(name, 'AUC', found.auc),
        'precision_recall': axes.create_chart(
          f'Precision by recall of {name}',
          'recall',
          'precision',
          lines=(axes.create_line('', recall, found.precision, style=0),),
        ),
        'precision_recall_title': _title_detection(
          name, 'AP', found.average_precision
        ),
      }
    )
  return drawn


def _title_detection(name: str, measure: str, value: float) -> Markup:
  shown = show_number(value, 'number', measure.lower())
  return Markup('<span class="clip">{}</span><small>{} {}</small>').format(
    name, measure, shown
  )


def _explain_missing_detections(content: ReportContent) -> str:
  """Returns why classes have no curves, or ''."""
  missing = [
    name
    for name, found in zip(content.outcomes.class_names, content.detections)
    if found is None
  ]
  if not missing:
    return ''
  if (content.outcomes.predicted < 0).any():
    return 'There are no curves, as some probabilities are NaN.'
  listed = ', '.join(printable(name)[:80] for name in missing[:5])
  more = f' and {len(missing) - 5} more' if len(missing) > 5 else ''
  return (
    f'{listed}{more}: no curve, for want of images that are of the class, or of'
    ' others.'
  )
