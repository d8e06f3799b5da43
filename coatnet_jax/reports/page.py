"""The page of one model: what its template shows of a `ReportContent`."""

from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from coatnet_jax.evaluation.measures import NUM_BINS, bin_confidences
from coatnet_jax.reports import facts, measures
from coatnet_jax.reports.charts import Axes, Chart
from coatnet_jax.reports.content import ReportContent
from coatnet_jax.reports.files import render
from coatnet_jax.reports.numbers import show_interval, show_number
from coatnet_jax.reports.outcomes import MAX_FEW_CLASSES, Outcomes
from coatnet_jax.texts import printable

# Of many classes, so many are shown that are worst.
NUM_WEAKEST = 15
# Up to so many all are listed as well; a page of more would have too many MB.
MAX_LISTED = 3000
# name: title and form of it.
MEASURES = {
  'top1': ('top-1', 'share'),
  'top5': ('top-5', 'share'),
  'loss': ('loss', 'number'),
  'calibration_error': ('calibration error', 'number'),
  'mean_class_accuracy': ('mean over classes', 'share'),
  'macro_f1': ('mean F1 of classes', 'number'),
}


def collect_measures(content: ReportContent) -> dict[str, float]:
  """Returns the measures of `MEASURES` that a report has, by name."""
  macro_f1 = measures.compute_macro_f1(content.classes)
  return {**{n: content.figures.get(n) for n in MEASURES}, 'macro_f1': macro_f1}


def format_page(content: ReportContent) -> str:
  """Returns the page of a report."""
  trained, outcomes, figures = (
    content.trained,
    content.outcomes,
    content.figures,
  )
  size = ' x '.join(map(str, trained.preprocessing.image_size))
  are_few = outcomes.are_few
  is_listed = outcomes.num_classes <= MAX_LISTED
  listed = range(outcomes.num_classes) if is_listed else ()
  weakest = [] if are_few else _find_weakest(content)
  return render(
    'page.html.j2',
    title=f'{trained.config.model.name}, {figures["count"]:,} images evaluated',
    subtitle=(
      f'The checkpoint of step {trained.step:,} in'
      f' {printable(content.workdir or trained.path)}, at {size} pixels;'
      f' {outcomes.num_classes:,} classes. Evaluated in'
      f' {content.seconds:.0f}\xa0s.'
    ),
    notes=[*content.rules, *_list_notes(content)],
    tiles=_list_tiles(content),
    num_resamples=f'{measures.count_resamples(figures["count"]):,}',
    are_few=are_few,
    max_few=MAX_FEW_CLASSES,
    class_rows=_list_class_rows(content, listed),
    weakest_rows=_list_class_rows(content, weakest),
    matrix=_create_matrix(outcomes) if are_few else None,
    most_confused=_list_confused(content),
    bins=_list_bins(outcomes),
    reliability=_draw_reliability(outcomes),
    detections=_draw_detections(content) if are_few else [],
    detections_note=_explain_missing_detections(content),
    galleries=content.galleries,
    curves=facts.draw_curves(content.workdir),
    data=content.data,
    undecodable=content.undecodable,
    num_undecodable=figures['undecodable'],
    changes=facts.list_changes_from_base(trained.config),
    commands=facts.list_commands(trained, content.workdir, content.command),
    facts=facts.list_facts(trained),
  )


def _list_notes(content: ReportContent) -> list[str]:
  """Returns what a reader is to know before the numbers."""
  notes = []
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
  if content.outcomes.num_classes == 1:
    notes.append('There is one class alone: whatever is said is right.')
  return notes


def _list_tiles(content: ReportContent) -> list[dict[str, Any]]:
  tiles = []
  for name, value in collect_measures(content).items():
    title, form = MEASURES[name]
    interval = show_interval(content.intervals.get(name), form, name)
    value = show_number(value, form, name)
    tiles.append({'title': title, 'value': value, 'interval': interval})
  count = show_number(content.figures['count'], 'count', 'count')
  return [*tiles, {'title': 'images', 'value': count, 'interval': ''}]


def _list_class_rows(
  content: ReportContent, labels: Iterable[int]
) -> list[dict[str, Any]]:
  classes, names = content.classes, content.outcomes.class_names
  return [
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


def _find_weakest(content: ReportContent) -> list[int]:
  """Returns the classes with examples that have the least F1."""
  f1, support = content.classes.f1, content.classes.support
  labels = [label for label in f1.argsort(kind='stable') if support[label]]
  return labels[:NUM_WEAKEST]


def _create_matrix(outcomes: Outcomes) -> dict[str, Any]:
  counts = measures.count_confusions(outcomes)
  if not counts[:, -1].any():
    counts = counts[:, :-1]
  names = [printable(name) for name in outcomes.class_names]
  heads = [{'text': str(n), 'name': name} for n, name in enumerate(names, 1)]
  heads.append({'text': 'NaN', 'name': 'nothing'})
  rows = []
  for label, row in enumerate(counts):
    total = max(int(row.sum()), 1)
    cells = [
      {
        'count': show_number(int(count), 'count'),
        'is_right': place == label,
        'shade': round(float(count) / total, 2),
      }
      for place, count in enumerate(row)
    ]
    rows.append({'number': label + 1, 'name': names[label], 'cells': cells})
  return {'heads': heads[: counts.shape[1]], 'rows': rows}


def _list_confused(content: ReportContent) -> list[dict[str, Any]]:
  number = 8 if content.outcomes.are_few else 20
  return [
    {
      'true': printable(pair['true']),
      'predicted': printable(pair['predicted']),
      'count': show_number(pair['count'], 'count'),
      'share': show_number(pair['share'], 'short_share'),
    }
    for pair in content.figures['most_confused'][:number]
  ]


def _sort_into_bins(outcomes: Outcomes):
  """Returns number, mean confidence and accuracy of each bin, [NUM_BINS]."""
  counts, confidences, hits = bin_confidences(
    outcomes.confidences, outcomes.hits
  )
  return counts.astype(int), confidences / counts.clip(1), hits / counts.clip(1)


def _list_bins(outcomes: Outcomes) -> list[dict[str, Any]]:
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
      zip(*_sort_into_bins(outcomes))
    )
  ]


def _draw_reliability(outcomes: Outcomes) -> list[Chart]:
  counts, _, accuracies = _sort_into_bins(outcomes)
  edges = [(n / NUM_BINS, (n + 1) / NUM_BINS) for n in range(NUM_BINS)]
  axes, histogram = Axes((0, 1), (0, 1)), Axes((0, 1), (0, int(counts.max())))
  return [
    axes.create_chart(
      'Right, by probability',
      'probability of the most probable class',
      'part that is right',
      bars=tuple(
        axes.create_bar(
          *edge, accuracy, f'{accuracy:.1%} of {count:,} images are right'
        )
        for edge, count, accuracy in zip(edges, counts, accuracies)
        if count
      ),
      diagonal=True,
    ),
    histogram.create_chart(
      'Images, by probability',
      'probability of the most probable class',
      'images',
      bars=tuple(
        histogram.create_bar(*edge, int(count), f'{count:,} images')
        for edge, count in zip(edges, counts)
        if count
      ),
    ),
  ]


def _draw_detections(content: ReportContent) -> list[Mapping[str, Any]]:
  """Returns both curves of every class, and their titles."""
  drawn = []
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
