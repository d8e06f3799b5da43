"""What was evaluated and what came out, in lines for people."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from coatnet_jax.evaluation.label_decisions import THRESHOLD
from coatnet_jax.texts import printable
from coatnet_jax.training import reporting

# Pairs of confused classes to name, and classes of the least precision.
_NUM_CONFUSED = 3
_NUM_WEAKEST = 3


def describe_subject(subject: Mapping[str, Any]) -> str:
  """Returns what is evaluated on what, in lines for people."""
  size = 'x'.join(str(n) for n in subject['image_size'])
  return (
    f'model       {subject["model"]} at {size} px, step {subject["step"]:,}\n'
    f'checkpoint  {subject["checkpoint"]}\n'
    + ''.join(f'            {change}\n' for change in subject['changes'])
    + f'data        {subject["data"]}'
    + ''.join(f'\n            {rule}' for rule in subject['rules'])
  )


def describe_result(result: Mapping[str, Any]) -> str:
  """Returns what came out, in lines for people."""
  lines = _DESCRIBE[result['kind']](result)
  if result.get('undecodable'):
    lines[0] += f', {result["undecodable"]:,} more cannot be decoded'
  if 'images_per_second' in result:
    devices = jax.devices()
    on = f'{len(devices)} {devices[0].device_kind} device'
    lines.append(
      f'speed       {result["images_per_second"]:,.0f} images/s on {on}'
      + 's' * (len(devices) > 1)
    )
  return '\n'.join(lines)


def _describe_classification(result: Mapping[str, Any]) -> list[str]:
  # The line below has the mean over classes, whether it differs or not.
  first = {n: v for n, v in result.items() if n != 'mean_class_accuracy'}
  lines = [
    f'result      {reporting.format_metrics(first)}',
    f'            calibration error {result["calibration_error"]:.4f}, mean'
    f' over classes {result["mean_class_accuracy"]:.2%}',
  ]
  for pair in result.get('most_confused', [])[:_NUM_CONFUSED]:
    lines.append(
      f'confused    {printable(pair["true"])} taken for'
      f' {printable(pair["predicted"])}: {pair["count"]:,},'
      f' {pair["share"]:.1%} of {printable(pair["true"])}'
    )
  if result.get('without_labels'):
    lines[0] += f', {result["without_labels"]:,} more have no label'
  return lines


def _describe_multi_label(result: Mapping[str, Any]) -> list[str]:
  lines = [
    f'result      {reporting.format_metrics(result)}',
    f'            F1 {result["micro_f1"]:.4f} of all labels, mean over classes'
    f' {result["macro_f1"]:.4f}, at probability {THRESHOLD}',
  ]
  weakest = sorted(
    result['per_class'], key=lambda one: (one['average_precision'], one['f1'])
  )
  for one in weakest[:_NUM_WEAKEST]:
    lines.append(
      f'weakest     {printable(one["class"])}: average precision'
      f' {one["average_precision"]:.2%}, F1 {one["f1"]:.4f} on'
      f' {one["count"]:,} images'
    )
  return lines


def _describe_corruptions(result: Mapping[str, Any]) -> list[str]:
  return [
    f'result      mCE {result["mean_corruption_error"]:.2%} of AlexNet,'
    f' {reporting.format_metrics(result)}',
    *(
      f'            {one["corruption_error"]:7.2%}  {name}'
      for name, one in result['corruptions'].items()
    ),
  ]


def _describe_few_shot(result: Mapping[str, Any]) -> list[str]:
  return [
    f'result      {one["shots"]}-shot top-1 {one["top1"]:.2%} (std'
    f' {one["top1_std"]:.2%} over {len(result["seeds"])}) on'
    f' {result["count"]:,} images'
    for one in result['shots']
  ]


def _describe_linear_probe(result: Mapping[str, Any]) -> list[str]:
  lines = _describe_classification(result)
  lines.append(
    f'probe       fitted to {result["train_count"]:,} images, L2 penalty'
    f' {result["l2_penalty"]:g}' + ', not converged' * (not result['converged'])
  )
  return lines


_DESCRIBE: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
  'classification': _describe_classification,
  'multi_label': _describe_multi_label,
  'corruptions': _describe_corruptions,
  'few_shot': _describe_few_shot,
  'linear_probe': _describe_linear_probe,
}
