"""The page of one model: what its template shows of a `ReportContent`."""

from typing import Any

from coatnet_jax.evaluation.measures import bin_confidences
from coatnet_jax.reports import measures, sections
from coatnet_jax.reports.content import LabelReportContent, ReportContent
from coatnet_jax.reports.files import render
from coatnet_jax.reports.multi_label import page as multi_label_page
from coatnet_jax.reports.numbers import show_number
from coatnet_jax.reports.outcomes import Outcomes
from coatnet_jax.texts import printable


def format_page(content: ReportContent) -> str:
  """Returns the page of a report."""
  if isinstance(content, LabelReportContent):
    return multi_label_page.format_page(content)
  outcomes = content.outcomes
  count = content.figures['count']
  return render(
    'page.html.j2',
    **sections.describe_run(content),
    **sections.describe_classes(content, content.classes.f1),
    **sections.describe_detections(content),
    **sections.describe_reliability(
      bin_confidences(outcomes.confidences, outcomes.hits),
      x_title='probability of the most probable class',
      what='images',
      so='right',
    ),
    notes=_list_notes(content),
    num_resamples=f'{measures.count_resamples(count):,}',
    matrix=_create_matrix(outcomes) if outcomes.are_few else None,
    most_confused=_list_confused(content),
  )


def _list_notes(content: ReportContent) -> list[str]:
  """Returns what a reader is to know before the numbers."""
  notes = sections.list_notes(content)
  if content.outcomes.num_classes == 1:
    notes.append('There is one class alone: whatever is said is right.')
  return notes


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
