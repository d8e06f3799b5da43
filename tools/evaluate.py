"""Evaluates the model of a checkpoint on every image of a data set.

    python -m tools.evaluate --checkpoint=WORKDIR

Model, preprocessing and data are those of the run. Other data, which must
have the same classes, are named by what differs from the run's config.data:

    --data.name=fashion_mnist --data.data_dir=DIR
    --data.source=folder --data.data_dir=DIR --data.eval_split=val

At another image size, --image_size=384 or --image_size=384x256 (height x
width), the relative position tables are resized.

With --json: one object with checkpoint, step, model, data, image_size, changes
(what was done to the weights for that size), top1, top5, loss, count (of
images), undecodable (images that are left out) and images_per_second.
"""

import os

# Keeps TensorFlow, which the training loop writes TensorBoard with, quiet.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

import train
from coatnet_jax.data import batching
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.data.sources import DataOptions, create_source
from coatnet_jax.errors import UserError
from coatnet_jax.trained_model import TrainedModel, load_trained_model
from coatnet_jax.training import reporting
from tools import command_line


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_parser('evaluate', __doc__)
  command_line.add_image_size(parser)
  parser.add_argument(
    '--batch_size',
    type=int,
    metavar='N',
    help='images at a time (as in the run); does not change the result',
  )
  group = parser.add_argument_group(
    'data', "instead of the run's; configs/base.py says what they mean"
  )
  for field in dataclasses.fields(DataOptions):
    if field.type in (str, int, float):
      group.add_argument(
        f'--data.{field.name}', type=field.type, metavar='VALUE'
      )
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line.

  Args:
    arguments: after the program's name.

  Returns:
    The exit status, 0.

  Raises:
    UserError: the checkpoint or the data cannot be used, or a number is out of
      range.
  """
  options = vars(create_parser().parse_args(arguments))
  trained = load_trained_model(
    options['checkpoint'],
    image_size=command_line.parse_image_size(options['image_size']),
  )
  data = resolve_data(
    trained,
    {
      name.removeprefix('data.'): value
      for name, value in options.items()
      if name.startswith('data.') and value is not None
    },
  )
  source = create_source(data, 'eval')
  check_classes(source.class_names, trained.class_names)
  subject = {
    'checkpoint': str(trained.path),
    'step': trained.step,
    'model': trained.config.model.name,
    'data': source.description,
    'image_size': trained.preprocessing.image_size,
    'changes': trained.changes,
  }
  if not options['json']:
    print(describe_subject(subject), flush=True)
  result = evaluate_source(
    trained, source, data=data, batch_size=options['batch_size']
  )
  if options['json']:
    print(json.dumps({**subject, **result}, indent=2))
  else:
    print(describe_result(result))
  return 0


def resolve_data(
  trained: TrainedModel, changes: Mapping[str, Any]
) -> DataOptions:
  """Returns the data of a checkpoint's run, with changes.

  Args:
    trained: the model.
    changes: fields of `DataOptions`.

  Raises:
    UserError: a value that is not possible.
  """
  # Images are read once: to keep them would decode them in a single thread.
  return DataOptions(**{**trained.config.data, 'cache_mebibytes': 0, **changes})


def check_classes(found: tuple[str, ...], trained: tuple[str, ...]) -> None:
  """Checks that labels mean what they meant in training.

  Classes of other names are taken for the same ones under new names, as where
  one source has numbers, and it is said on stderr.

  Args:
    found: class names of the data.
    trained: class names of the model.

  Raises:
    UserError: there are more or fewer classes, or a class has another number.
  """
  if len(found) != len(trained):
    raise UserError(
      f'The data have {len(found)} classes and the model has {len(trained)}:'
      ' it can only be evaluated on the classes it was trained on.'
    )
  number = {name: label for label, name in enumerate(trained)}
  moved = [
    f'{name!r} is {label} in the data and {number[name]} in the model'
    for label, name in enumerate(found)
    if number.get(name, label) != label
  ]
  if moved:
    raise UserError(
      'The data have their classes in another order than the model:'
      f' {moved[0]}' + f', and {len(moved) - 1} more' * (len(moved) > 1) + '.'
    )
  renamed = [pair for pair in zip(found, trained) if pair[0] != pair[1]]
  if renamed:
    new, old = renamed[0]
    print(
      f'{len(renamed)} classes have other names in the data; they are taken'
      f' for those of the same number, {new!r} for {old!r}.',
      file=sys.stderr,
    )


def evaluate_source(
  trained: TrainedModel,
  source: ImageSource,
  *,
  data: DataOptions,
  batch_size: int | None,
) -> dict[str, float]:
  """Evaluates a model on every image of a source, on this process.

  An image that cannot be decoded is named on stderr and left out.

  Args:
    trained: the model.
    source: the images.
    data: how they are read ahead.
    batch_size: images at a time, the run's if None.

  Returns:
    'top1', 'top5' (0..1), 'loss' and 'count' as `train.evaluate`;
    'undecodable', the number of images left out; 'images_per_second', reading
    included and compilation not.

  Raises:
    UserError: the batch size is not positive, or over 1 % of the images cannot
      be decoded.
  """
  if batch_size is None:
    batch_size = trained.config.evaluation.global_batch_size
  batch_size = command_line.resolve_batch_size(batch_size, trained.mesh)
  batches = batching.create_eval_batches(
    source,
    data=data,
    preprocessing=trained.preprocessing,
    global_batch_size=batch_size,
  )
  undecodable = []

  def evaluate(some_batches):
    return train.evaluate(
      trained.variables,
      some_batches,
      model=trained.model,
      loss=trained.loss,
      preprocessing=trained.preprocessing,
      source=source,
      mesh=trained.mesh,
    )

  evaluate([_blank_batch(batch_size, trained)])  # Compiles.
  start = time.monotonic()
  metrics = evaluate(_name_undecodable(batches, source, undecodable))
  seconds = time.monotonic() - start
  return {
    **metrics,
    'undecodable': len(undecodable),
    'images_per_second': metrics['count'] / seconds,
  }


def _blank_batch(
  batch_size: int, trained: TrainedModel
) -> dict[str, np.ndarray]:
  """Returns a batch of black images, all of which count."""
  image_size = trained.preprocessing.image_size
  return {
    'image': np.zeros((batch_size, *image_size, 3), np.uint8),
    'label': np.zeros(batch_size, np.int32),
    'mask': np.ones(batch_size, bool),
    'corrupt': np.full(batch_size, -1),
  }


def _name_undecodable(
  batches: Iterable[batching.Batch], source: ImageSource, found: list[int]
) -> Iterator[batching.Batch]:
  """Passes batches on; adds to `found` and names what was not decoded."""
  for batch in batches:
    for index in batch['corrupt'][batch['corrupt'] >= 0].tolist():
      found.append(index)
      print(
        f'{source.describe(index)}: cannot be decoded, and does not count',
        file=sys.stderr,
      )
    yield batch


def describe_subject(subject: Mapping[str, Any]) -> str:
  """Returns what is evaluated on what, in lines for people."""
  size = 'x'.join(str(n) for n in subject['image_size'])
  return (
    f'model       {subject["model"]} at {size} px, step {subject["step"]:,}\n'
    f'checkpoint  {subject["checkpoint"]}\n'
    + ''.join(f'            {change}\n' for change in subject['changes'])
    + f'data        {subject["data"]}'
  )


def describe_result(result: Mapping[str, float]) -> str:
  """Returns what came out, in lines for people."""
  devices = jax.devices()
  on = f'{len(devices)} {devices[0].device_kind} device'
  undecodable = result['undecodable']
  return (
    f'result      {reporting.format_metrics(result)}'
    + f', {undecodable:,} more cannot be decoded' * bool(undecodable)
    + f'\nspeed       {result["images_per_second"]:,.0f} images/s on {on}'
    + 's' * (len(devices) > 1)
  )


if __name__ == '__main__':
  command_line.run(main)
