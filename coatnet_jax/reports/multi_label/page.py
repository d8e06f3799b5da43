"""The page of one model of several labels: what its template shows."""

import numpy as np

from coatnet_jax.evaluation.label_decisions import THRESHOLD
from coatnet_jax.evaluation.measures import bin_confidences
from coatnet_jax.reports import sections
from coatnet_jax.reports.content import LabelReportContent
from coatnet_jax.reports.files import render
from coatnet_jax.reports.multi_label.measures import count_label_resamples
from coatnet_jax.reports.multi_label.outcomes import LabelOutcomes


def format_page(content: LabelReportContent) -> str:
  """Returns the page of a report on images with several labels each."""
  outcomes = content.outcomes
  return render(
    'multi_label.html.j2',
    **sections.describe_run(content),
    **sections.describe_classes(content, content.classes.average_precision),
    **sections.describe_detections(content),
    **sections.describe_reliability(
      _bin_probabilities(outcomes),
      x_title='probability of a class',
      what='probabilities',
      so='there',
    ),
    notes=_list_notes(content),
    num_resamples=f'{count_label_resamples(outcomes):,}',
    threshold=THRESHOLD,
  )


def _bin_probabilities(outcomes: LabelOutcomes) -> np.ndarray:
  """Returns the sums of `bin_confidences`, class by class to spare memory."""
  valid = outcomes.valid
  return np.sum(
    [
      bin_confidences(
        outcomes.probabilities[valid, label], outcomes.targets[valid, label]
      )
      for label in range(outcomes.num_classes)
    ],
    axis=0,
  )


def _list_notes(content: LabelReportContent) -> list[str]:
  """Returns what a reader is to know before the numbers."""
  notes = sections.list_notes(content)
  bare = int((~content.outcomes.targets.any(axis=1)).sum())
  if bare:
    notes.append(
      f'{bare:,} of the images have no label, and are wrong by top-1 and top-5,'
      ' whatever is said of them.'
    )
  return notes
