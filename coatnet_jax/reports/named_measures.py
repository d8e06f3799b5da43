"""Which measures a report names, and how: of one label or of several."""

from typing import Any

from coatnet_jax.evaluation.figures import FIGURES, Figure
from coatnet_jax.reports.content import LabelReportContent, ReportContent
from coatnet_jax.reports.measures import compute_macro_f1

MEASURES = (
  *('top1', 'top5', 'loss', 'calibration_error', 'mean_class_accuracy'),
  'macro_f1',
)
# Of images with several labels each.
LABEL_MEASURES = (
  *('mean_average_precision', 'micro_f1', 'macro_f1', 'top1', 'top5'),
  'loss',
)


def list_measures(content: ReportContent) -> dict[str, Figure]:
  """Returns title and form of each measure that a report has, by name."""
  is_of_labels = isinstance(content, LabelReportContent)
  names = LABEL_MEASURES if is_of_labels else MEASURES
  return {name: FIGURES[name] for name in names}


def collect_measures(content: ReportContent) -> dict[str, Any]:
  """Returns the measures of `list_measures`, by name."""
  macro_f1 = compute_macro_f1(content.classes)
  figures = {'macro_f1': macro_f1, **content.figures}
  return {name: figures.get(name) for name in list_measures(content)}
