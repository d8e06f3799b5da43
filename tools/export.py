"""Writes the model of a checkpoint for other frameworks and devices.

    python -m tools.export --checkpoint=WORKDIR --format=onnx --out=FILE

Formats: stablehlo (for JAX and compilers, on CPUs, NVIDIA GPUs and TPUs), onnx,
savedmodel (a directory) and tflite; each takes batches of any size. The file
takes images that are cropped, resized and normalised, float32; with
--with_preprocessing such as are not normalised, uint8. What is written is read
back by its own runtime, in a process without this project, and compared with
the model on pictures of the run's evaluation split, or on IMAGE...; a file that
says something else is not kept. docs/export.md says what is in a file.
"""

import argparse
import dataclasses
import functools
import itertools
from typing import TYPE_CHECKING

from coatnet_jax import terminal
from coatnet_jax.arguments import add_number
from coatnet_jax.errors import UserError
from coatnet_jax.strict_json import to_json
from tools import command_line

if TYPE_CHECKING:
  import numpy as np

  from coatnet_jax.checkpoints.trained_model import TrainedModel
  from coatnet_jax.export.parity import Parity

_NUM_PICTURES = 100
# Of the training data, for the ranges of int8.
_NUM_SAMPLES = 200


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_parser('export', __doc__)
  command_line.add_path(
    parser, '--out', required=True, metavar='PATH', help='a new file'
  )
  parser.add_argument(
    '--format',
    required=True,
    metavar='NAME',
    help='stablehlo, onnx, savedmodel or tflite',
  )
  parser.add_argument(
    '--precision',
    default='float32',
    metavar='NAME',
    help='float32 (if left out), float16 or int8; the last two: onnx, tflite',
  )
  parser.add_argument(
    '--with_preprocessing',
    action='store_true',
    help='take uint8 images and normalise them in the file',
  )
  command_line.add_image_size(parser)
  add_number(
    parser,
    '--pictures',
    default=_NUM_PICTURES,
    help=f'pictures to compare on, at most ({_NUM_PICTURES})',
  )
  command_line.add_path(
    parser,
    'images',
    command_line.parse_shown_path,
    nargs='*',
    metavar='IMAGE',
    help="pictures to compare on instead of the run's, files or directories",
  )
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: the checkpoint cannot be read, the format does not take the model
      or needs a package, or what was written is not the model; nothing was
      written.
  """
  options = create_parser().parse_args(arguments)
  image_size = command_line.parse_image_size(options.image_size)

  # They import JAX, which takes a while.
  from coatnet_jax.checkpoints.trained_model import (
    load_trained_model,
    open_saved_model,
  )
  from coatnet_jax.export import exporting, formats, parity

  exporting.check_target(options.out)
  open_saved_model(options.checkpoint)  # Before it asks for a package.
  formats.check_format(options.format, options.precision)
  terminal.begin('reading the checkpoint')
  trained = load_trained_model(options.checkpoint, image_size=image_size)
  for change in trained.changes:
    command_line.say(change)
  exporting.check_model(trained)
  read = functools.partial(_read_pictures, trained, options)
  terminal.begin('reading pictures')
  images, labels = read('eval', options.pictures)
  request = formats.Request(
    trained=trained,
    precision=options.precision,
    with_preprocessing=options.with_preprocessing,
    find_samples=lambda: parity.make_input(
      read('train', _NUM_SAMPLES)[0],
      trained,
      with_preprocessing=options.with_preprocessing,
    ),
  )
  terminal.begin(f'writing and checking {options.format}')
  found = exporting.export_model(
    request, options.format, options.out, images, labels
  )
  size = exporting.find_size(options.out)
  if options.json:
    result = {
      'file': str(options.out),
      'format': options.format,
      'precision': options.precision,
      'bytes': size,
      **dataclasses.asdict(found),
    }
    command_line.show(to_json(result, indent=2))
  else:
    command_line.show(
      f'{options.out}: {trained.config.model.name}, step {trained.step:,}, as'
      f' {options.format} in {options.precision}, {size / 1e6:,.1f} MB.'
    )
    command_line.show(describe_parity(found))
  return 0


def _read_pictures(
  trained: 'TrainedModel', options: argparse.Namespace, split: str, count: int
) -> 'tuple[np.ndarray, np.ndarray | None]':
  """Returns pictures, of the command line or of a split, and their classes."""
  if not options.images:
    from coatnet_jax.export.pictures import read_split

    return read_split(trained, split, count)

  import numpy as np

  from tools.predict import find_images, read_images

  def report_failure(path, problem):
    raise UserError(f'{path}: {problem}; leave it out, or give another.')

  paths = find_images(options.images, report_failure)
  pictures = read_images(paths, trained.preprocessing, report_failure)
  return (
    np.stack([image for _, image in itertools.islice(pictures, count)]),
    None,
  )


def describe_parity(found: 'Parity') -> str:
  """Returns what a comparison found, in lines for people."""
  lines = [
    f'Read back by {found.runtime}, without this project: logits within'
    f' {found.difference:.1e} of their range, the same first class for'
    f' {found.same_top1:,} of {found.count:,} pictures.'
  ]
  if found.top1 is not None and found.own_top1 is not None:
    lines.append(
      f'Top-1: {found.top1:.1%}; of the model itself {found.own_top1:.1%}.'
    )
  for size, seconds in sorted(found.seconds.items()):
    lines.append(
      f'{size:,} at a time: {size / seconds:,.0f} pictures/s; here'
      f' {size / found.own_seconds[size]:,.0f}.'
    )
  return '\n'.join(lines)


if __name__ == '__main__':
  command_line.run_tool(main)
