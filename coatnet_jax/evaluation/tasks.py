"""What can be evaluated of a model on a data set: opened first, run later.

Opening finds what is missing before anything is computed.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.data.sources import DataOptions, create_source
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation.classification import evaluate_classification
from coatnet_jax.evaluation.corruptions import (
  evaluate_corruptions,
  open_corruptions,
)
from coatnet_jax.evaluation.data_sets import (
  CORRUPTED,
  identify,
  open_evaluation_data,
)
from coatnet_jax.evaluation.few_shot import (
  check_same_classes,
  evaluate_few_shot,
)
from coatnet_jax.evaluation.linear_probe import evaluate_linear_probe
from coatnet_jax.evaluation.multi_label import check_loss, evaluate_multi_label


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """An evaluation that is ready to be run.

  Attributes:
    kind: kind of evaluation: 'classification', 'multi_label', 'corruptions',
      'few_shot' or 'linear_probe'.
    data: description of the images, for people.
    split: name of the split of the data set.
    rules: differences from plain top-1 over all classes, for people.
    preprocessing: preprocessing of the images.
    run: function that takes a `TrainedModel` and as keywords `batch_size` and
      `report_undecodable`, and returns figures by name.
  """

  kind: str
  data: str
  split: str
  rules: tuple[str, ...]
  preprocessing: PreprocessingOptions
  run: Callable[..., dict[str, Any]]


def open_classification(
  data: DataOptions, trained: TrainedModel, report: Callable[[str], None]
) -> Task:
  """Opens the evaluation of a model's own predictions.

  Args:
    data: options of the data; all of ImageNet-C where it is named without a
      config.
    trained: model that is evaluated.
    report: function that takes a line for people.

  Raises:
    UserError: the data are not there or not as described, or their classes
      are not the model's; or their images have several labels each, and the
      model is of one.
  """
  options = {
    'class_names': trained.class_names,
    'preprocessing': trained.preprocessing,
    'report': report,
  }
  if data.name and identify(data) == (CORRUPTED, ''):
    parts = open_corruptions(data, **options)
    first = next(iter(parts.values()))
    return Task(
      kind='corruptions',
      data=f'{CORRUPTED}, {len(parts)} parts as {first.source.description}',
      split=data.eval_split,
      rules=first.rules,
      preprocessing=first.preprocessing,
      run=functools.partial(_run_corruptions, parts=parts, report_part=report),
    )
  own = DataOptions(**trained.config.data)
  evaluation = open_evaluation_data(data, own=own, **options)
  kind, run = 'classification', _run_classification
  if evaluation.source.has_several_labels:
    check_loss(trained, evaluation)
    kind, run = 'multi_label', _run_multi_label
  return Task(
    kind=kind,
    data=evaluation.source.description,
    split=data.eval_split,
    rules=evaluation.rules,
    preprocessing=evaluation.preprocessing,
    run=functools.partial(run, evaluation=evaluation),
  )


def _run_classification(trained, *, evaluation, **options):
  return evaluate_classification(trained, evaluation, **options)


def _run_multi_label(trained, *, evaluation, **options):
  return evaluate_multi_label(trained, evaluation, **options)


def _run_corruptions(trained, *, parts, **options):
  return evaluate_corruptions(trained, parts, **options)


def open_few_shot(
  data: DataOptions,
  trained: TrainedModel,
  shots: Sequence[int],
  seeds: Sequence[int],
) -> Task:
  """Opens a few-shot evaluation: `few_shot.evaluate_few_shot`.

  Args:
    data: options of the data, with both splits.
    trained: model that is evaluated.
    shots: numbers of images per class.
    seeds: seeds of their choice.

  Raises:
    UserError: the data are not there or not as described.
  """
  return _open_probe(
    'few_shot',
    data,
    trained,
    functools.partial(evaluate_few_shot, shots=shots, seeds=seeds),
  )


def open_linear_probe(data: DataOptions, trained: TrainedModel) -> Task:
  """Opens a linear probe: `linear_probe.evaluate_linear_probe`.

  Args:
    data: options of the data, with both splits.
    trained: model that is evaluated.

  Raises:
    UserError: the data are not there or not as described.
  """
  return _open_probe('linear_probe', data, trained, evaluate_linear_probe)


def _open_probe(kind, data, trained, evaluate):
  # Not from the cache of a training split, which is not decoded exactly.
  data = dataclasses.replace(data, cache_mebibytes=0)
  train_source = create_source(data, 'train')
  eval_source = create_source(data, 'eval')
  for source in (train_source, eval_source):
    if source.has_several_labels:
      raise UserError(
        f'{source.description}: its images have several labels each, and'
        ' --fewshot and --linear_probe fit a classifier of one; leave them out,'
        ' or name other data.'
      )
  check_same_classes(train_source, eval_source)

  def run(trained, **options):
    return evaluate(trained, train_source, eval_source, data=data, **options)

  return Task(
    kind=kind,
    data=eval_source.description,
    split=data.eval_split,
    rules=(
      f'a classifier of features is fitted to {train_source.description}',
    ),
    preprocessing=trained.preprocessing,
    run=run,
  )
