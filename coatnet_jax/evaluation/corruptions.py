"""ImageNet-C: a model on 15 corruptions at 5 severities, compared to AlexNet.

The data are TFDS's imagenet2012_corrupted, one of its configs for each
corruption and severity (arXiv 1903.12261).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.data.sources import DataOptions
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation.classification import evaluate_classification
from coatnet_jax.evaluation.data_sets import (
  CORRUPTED,
  EvaluationData,
  open_evaluation_data,
)
from coatnet_jax.evaluation.measures import compute_mean_corruption_error

SEVERITIES = (1, 2, 3, 4, 5)

# AlexNet's top-1 error, mean over the severities. Published by the benchmark's
# authors (github.com/hendrycks/robustness) and used by all who give an mCE;
# they are the means of AlexNet's 75 errors, which others give one by one.
ALEXNET_ERRORS = {
  'gaussian_noise': 0.886428,
  'shot_noise': 0.894468,
  'impulse_noise': 0.922640,
  'defocus_blur': 0.819880,
  'glass_blur': 0.826268,
  'motion_blur': 0.785948,
  'zoom_blur': 0.798360,
  'snow': 0.866816,
  'frost': 0.826572,
  'fog': 0.819324,
  'brightness': 0.564592,
  'contrast': 0.853204,
  'elastic_transform': 0.646056,
  'pixelate': 0.717840,
  'jpeg_compression': 0.606500,
}


def open_corruptions(
  data: DataOptions,
  *,
  class_names: Sequence[str],
  preprocessing: PreprocessingOptions,
  report: Callable[[str], None],
) -> dict[tuple[str, int], EvaluationData]:
  """Opens all 75 parts of ImageNet-C.

  Args:
    data: options with the name of the data set, without a config.
    class_names: class names of the model.
    preprocessing: preprocessing of the model's images.
    report: function that takes a sentence about classes that have other names.

  Returns:
    The part of each (corruption, severity).

  Raises:
    UserError: parts are missing, with their names; or see
      `open_evaluation_data`.
  """
  _, _, version = data.name.partition(':')
  parts, missing = {}, []
  for corruption in ALEXNET_ERRORS:
    for severity in SEVERITIES:
      config = f'{corruption}_{severity}'
      name = f'{CORRUPTED}/{config}' + f':{version}' * bool(version)
      part = dataclasses.replace(data, name=name)
      try:
        parts[corruption, severity] = open_evaluation_data(
          part,
          class_names=class_names,
          preprocessing=preprocessing,
          report=report,
        )
      except UserError as error:
        missing.append((config, error))
  if missing:
    names = ', '.join(config for config, _ in missing)
    raise UserError(
      f'{len(missing)} of the {len(parts) + len(missing)} parts of {CORRUPTED}'
      f' cannot be evaluated: {names}. Of the first: {missing[0][1]}'
    ) from missing[0][1]
  return parts


def evaluate_corruptions(
  trained: TrainedModel,
  parts: dict[tuple[str, int], EvaluationData],
  *,
  batch_size: int,
  report_undecodable: Callable[[str], None],
  report_part: Callable[[str], None],
) -> dict[str, Any]:
  """Evaluates a model on every part of ImageNet-C.

  Args:
    trained: model with its weights.
    parts: parts of the data set, from `open_corruptions`.
    batch_size: number of images at a time, a multiple of the mesh's size.
    report_undecodable: function that takes the name of an image that is left
      out because it cannot be decoded, and why.
    report_part: function that takes a line on every part that is done.

  Returns:
    'mean_corruption_error' and 'corruptions', by name 'corruption_error',
    'top1' (their mean over severities) and 'top1_by_severity', 0..1 but for
    the first two, of which 1 is AlexNet's; 'top1', 'top5', 'loss' and
    'calibration_error', means over all parts; 'count' and 'undecodable',
    images in all; 'images_per_second'.

  Raises:
    UserError: see `evaluate_classification`.
  """
  results = {}
  for (corruption, severity), part in parts.items():
    results[corruption, severity] = result = evaluate_classification(
      trained,
      part,
      batch_size=batch_size,
      report_undecodable=report_undecodable,
    )
    report_part(f'{corruption} {severity}: top-1 {result["top1"]:.2%}')
  top1 = {
    corruption: [results[corruption, n]['top1'] for n in SEVERITIES]
    for corruption in ALEXNET_ERRORS
  }
  errors = {name: [1 - x for x in values] for name, values in top1.items()}
  by_corruption, mean = compute_mean_corruption_error(errors, ALEXNET_ERRORS)
  parts_done = list(results.values())
  seconds = sum(
    part['count'] / part['images_per_second'] for part in parts_done
  )
  count = sum(part['count'] for part in parts_done)
  return {
    'mean_corruption_error': mean,
    **{
      name: sum(part[name] for part in parts_done) / len(parts_done)
      for name in ('top1', 'top5', 'loss', 'calibration_error')
    },
    'count': count,
    'undecodable': sum(part['undecodable'] for part in parts_done),
    'images_per_second': count / seconds,
    'corruptions': {
      name: {
        'corruption_error': by_corruption[name],
        'top1': sum(values) / len(values),
        'top1_by_severity': values,
      }
      for name, values in top1.items()
    },
  }
