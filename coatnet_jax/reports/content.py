"""What a report of one model says, found out: evaluated, measured, described.

How it is shown is `page.py`'s.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath
from jax.sharding import Mesh

from coatnet_jax.checkpoints.trained_model import (
  TrainedModel,
  load_trained_model,
)
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.data.sources import DataOptions, create_source
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation.classification import evaluate_classification
from coatnet_jax.evaluation.data_sets import (
  EvaluationData,
  open_evaluation_data,
)
from coatnet_jax.evaluation.measures import Predictions
from coatnet_jax.evaluation.multi_label import (
  LabelPredictions,
  check_loss,
  evaluate_multi_label,
)
from coatnet_jax.reports import facts, measures, pictures
from coatnet_jax.reports.multi_label import measures as label_measures
from coatnet_jax.reports.multi_label.mistakes import show_label_mistakes
from coatnet_jax.reports.multi_label.outcomes import (
  LabelOutcomes,
  create_label_outcomes,
)
from coatnet_jax.reports.outcomes import (
  MAX_FEW_CLASSES,
  BaseOutcomes,
  Outcomes,
  collect_outcomes,
)

# Damaged images to name.
_NUM_NAMED = 20


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ReportContent:
  """All that a report of one model says.

  Attributes:
    trained: model that it is of.
    workdir: directory of the model's run; None where the checkpoint is in none.
    figures: what `tools.evaluate` says of it.
    outcomes: what it said of every example.
    intervals: 95 % interval of each measure, by its name.
    classes: precision, recall, F1 and support of each class.
    detections: ROC and precision-recall curve of each class; none of many.
    data: lines on what was found and left out, with their titles.
    undecodable: names of images that cannot be decoded, and why; the first.
    rules: differences from plain top-1 over all classes.
    galleries: sections that show pictures.
    command: command that trained it, where that is known.
    seconds: time that evaluating it took.
  """

  trained: TrainedModel
  workdir: epath.Path | None
  figures: dict[str, Any]
  outcomes: BaseOutcomes
  intervals: dict[str, tuple[float, float]]
  classes: measures.ClassMeasures
  detections: Sequence[measures.Detection | None]
  data: tuple[tuple[str, str], ...]
  undecodable: tuple[str, ...]
  rules: tuple[str, ...]
  galleries: tuple[pictures.Gallery, ...]
  command: str
  seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelReportContent(ReportContent):
  """All that a report says of one model of images with several labels each.

  Attributes:
    outcomes: what it said of every image.
    classes: average precision, precision, recall, F1 and support of each class.
  """

  outcomes: LabelOutcomes
  classes: label_measures.LabelMeasures


def create_content(
  path: str | os.PathLike[str],
  *,
  report: Callable[[str], None],
  find_data: Callable[[TrainedModel], DataOptions] = lambda trained: (
    DataOptions(**trained.config.data)
  ),
  batch_size: int | None = None,
  mesh: Mesh | None = None,
  galleries: Callable[
    [TrainedModel, BaseOutcomes, ImageSource], Sequence[pictures.Gallery]
  ] = lambda trained, outcomes, source: (),
  command: str = '',
) -> ReportContent:
  """Evaluates a checkpoint and finds all that its report says.

  Args:
    path: workdir, for its best checkpoint, or a checkpoint.
    report: function called with a sentence about what is odd.
    find_data: function that returns the data to evaluate a model on; those of
      its config, if it is not given.
    batch_size: number of images at a time; the run's if None.
    mesh: devices to evaluate on; all there are, each with the whole model, if
      None.
    galleries: function that returns more sections with pictures, of the model,
      its outcomes, and the images that these are of.
    command: command that trained it, where that is known.

  Raises:
    UserError: the checkpoint or the data cannot be used, or no image counts.
  """
  began = time.monotonic()
  trained = load_trained_model(path, mesh)
  # Images are read once.
  data = dataclasses.replace(find_data(trained), cache_mebibytes=0)
  evaluation = open_evaluation_data(
    data,
    own=DataOptions(**trained.config.data),
    class_names=trained.class_names,
    preprocessing=trained.preprocessing,
    report=report,
  )
  if evaluation.label_sets is not None:
    raise UserError(
      f'{evaluation.source.description}: its images have several labels each,'
      ' of which a report has no figures by class; evaluate them alone.'
    )
  size = batch_size or trained.config.evaluation.global_batch_size
  size = -(-size // trained.mesh.size) * trained.mesh.size
  undecodable: list[str] = []
  source = evaluation.source
  figures, outcomes, mistakes = _evaluate(
    trained, evaluation, batch_size=size, report_undecodable=undecodable.append
  )
  kind: type[ReportContent] = (
    LabelReportContent if source.has_several_labels else ReportContent
  )
  return kind(
    trained=trained,
    workdir=facts.find_workdir(trained.path),
    figures=figures,
    outcomes=outcomes,
    **measure_outcomes(outcomes),
    data=(
      *_describe_training_images(trained),
      ('Evaluated on', source.description),
    ),
    undecodable=tuple(undecodable[:_NUM_NAMED]),
    rules=(*trained.changes, *evaluation.rules),
    galleries=(mistakes, *galleries(trained, outcomes, source)),
    command=command,
    seconds=time.monotonic() - began,
  )


def measure_outcomes(outcomes: Outcomes | LabelOutcomes) -> dict[str, Any]:
  """Returns what is measured of outcomes, by the names of `ReportContent`.

  Args:
    outcomes: what a model said of every example, of either kind of labels.

  Returns:
    'intervals', 'classes' and 'detections'.
  """
  if isinstance(outcomes, LabelOutcomes):
    return {
      'intervals': label_measures.find_label_intervals(outcomes),
      'classes': label_measures.measure_labels(outcomes),
      'detections': label_measures.measure_label_detections(outcomes),
    }
  return {
    'intervals': measures.find_intervals(outcomes),
    'classes': measures.measure_classes(outcomes),
    'detections': measures.measure_detections(outcomes),
  }


def _evaluate(
  trained: TrainedModel, evaluation: EvaluationData, **options: Any
) -> tuple[dict[str, Any], Outcomes | LabelOutcomes, pictures.Gallery]:
  """Returns the figures, what became of every example, and the mistakes.

  The evaluation is `tools.evaluate`'s own, so that its figures are the same;
  this keeps what it sees.
  """
  source, names = evaluation.source, evaluation.space.names
  if source.has_several_labels:
    check_loss(trained, evaluation)
    kept: list[LabelPredictions] = []
    figures = evaluate_multi_label(
      trained, evaluation, **options, keep=kept.append
    )
    found = create_label_outcomes(kept[0], names)
    return figures, found, show_label_mistakes(found, source)
  batches: list[tuple[Predictions, np.ndarray]] = []
  figures = evaluate_classification(
    trained,
    evaluation,
    **options,
    keep=lambda predictions, hits: batches.append((_shrink(predictions), hits)),
    with_probabilities=len(names) <= MAX_FEW_CLASSES,
  )
  outcomes = collect_outcomes(batches, names)
  return figures, outcomes, pictures.show_mistakes(outcomes, source)


def _shrink(predictions: Predictions) -> Predictions:
  """Returns the predictions with the first class of each alone."""
  return predictions._replace(classes=predictions.classes[:, :1].copy())


def _describe_training_images(trained: TrainedModel) -> list[tuple[str, str]]:
  """Returns what the run's own training split is; none if it is away."""
  # Whatever is evaluated may be other data.
  data = DataOptions(**{**trained.config.data, 'cache_mebibytes': 0})
  try:
    return [('Trained on', create_source(data, 'train').description)]
  except UserError:
    return []
