"""The page of one model of several labels: what its template shows."""

from coatnet_jax.evaluation.label_decisions import THRESHOLD
from coatnet_jax.reports import sections
from coatnet_jax.reports.content import ReportContent
from coatnet_jax.reports.files import render
from coatnet_jax.reports.multi_label.measures import count_label_resamples


def format_page(content: ReportContent) -> str:
  """Returns the page of a report on images with several labels each."""
  outcomes = content.outcomes
  probabilities = outcomes.probabilities[outcomes.valid].ravel()
  has_label = outcomes.targets[outcomes.valid].ravel()
  return render(
    'multi_label.html.j2',
    **sections.describe_run(content),
    **sections.describe_classes(content, content.classes.average_precision),
    **sections.describe_detections(content),
    notes=_list_notes(content),
    num_resamples=f'{count_label_resamples(outcomes):,}',
    threshold=THRESHOLD,
    bins=sections.list_bins(probabilities, has_label),
    reliability=sections.draw_reliability(
      probabilities,
      has_label,
      x_title='probability of a class',
      what='probabilities',
      so='there',
    ),
  )


def _list_notes(content: ReportContent) -> list[str]:
  """Returns what a reader is to know before the numbers."""
  notes = sections.list_notes(content)
  bare = int((~content.outcomes.targets.any(axis=1)).sum())
  if bare:
    notes.append(
      f'{bare:,} of the images have no label, and are wrong by top-1 and top-5,'
      ' whatever is said of them.'
    )
  return notes
