"""Which measures a report names, and how: of one label or of several."""

from typing import Any

from coatnet_jax.reports.content import LabelReportContent, ReportContent
from coatnet_jax.reports.measures import compute_macro_f1

# name: title and form of it.
MEASURES = {
  'top1': ('top-1', 'share'),
  'top5': ('top-5', 'share'),
  'loss': ('loss', 'number'),
  'calibration_error': ('calibration error', 'number'),
  'mean_class_accuracy': ('mean over classes', 'share'),
  'macro_f1': ('mean F1 of classes', 'number'),
}
# Of images with several labels each.
LABEL_MEASURES = {
  'mean_average_precision': ('mean average precision', 'share'),
  'micro_f1': ('F1 of all labels', 'number'),
  'macro_f1': ('mean F1 of classes', 'number'),
  'top1': ('top-1', 'share'),
  'top5': ('top-5', 'share'),
  'loss': ('loss', 'number'),
}


def list_measures(content: ReportContent) -> dict[str, tuple[str, str]]:
  """Returns title and form of each measure that a report has, by name."""
  is_of_labels = isinstance(content, LabelReportContent)
  return LABEL_MEASURES if is_of_labels else MEASURES


def collect_measures(content: ReportContent) -> dict[str, Any]:
  """Returns the measures of `list_measures`, by name."""
  macro_f1 = compute_macro_f1(content.classes)
  figures = {'macro_f1': macro_f1, **content.figures}
  return {name: figures.get(name) for name in list_measures(content)}
