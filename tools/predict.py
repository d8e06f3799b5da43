"""Names what is on images, by the model of a checkpoint.

    python -m tools.predict --checkpoint=WORKDIR IMAGE...

Images go through the preprocessing that the checkpoint was evaluated with, at
another size with --image_size=384 or --image_size=384x256 (height x width);
what that does to the weights is said on stderr. A directory stands for the
images in it and below. An image that cannot be read is reported on stderr; the
others are still predicted, and the exit status is 1 at the end. With --json: a
list of
  {"image": PATH, "predictions":
    [{"class", "words", "label", "probability"}, ...]}
"words" are those for a class of ImageNet, which is called by WordNet's number
(n02749479: assault rifle, assault gun); other classes have none.
"""

import argparse
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from coatnet_jax import terminal
from coatnet_jax.arguments import add_number
from coatnet_jax.checkpoints.trained_model import (
  TrainedModel,
  load_trained_model,
)
from coatnet_jax.data.augmentation import (
  PreprocessingOptions,
  crop_for_evaluation,
)
from coatnet_jax.data.decoding import CorruptImageError, decode_image
from coatnet_jax.data.folder_listing import (
  IMAGE_SUFFIXES,
  LeftOut,
  list_images,
)
from coatnet_jax.data.picture_files import NotAPictureFileError, read_file
from coatnet_jax.data.picture_size import BYTES_PER_PIXEL, DEFAULT_MAX_PIXELS
from coatnet_jax.data.sources import DataOptions
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.errors import UserError
from coatnet_jax.imagenet_classes import list_words
from coatnet_jax.inference import predict_top_classes
from coatnet_jax.paths import describe_special_file
from coatnet_jax.strict_json import to_json
from coatnet_jax.texts import printable
from tools import command_line

_DEFAULT_TOP = 5


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_parser('predict', __doc__, resizes=True)
  command_line.add_images(parser)
  add_number(
    parser,
    '--top',
    help=f'classes per image; {_DEFAULT_TOP}, or all if there are fewer',
  )
  command_line.add_batch_size(parser, 32)
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Returns:
    The exit status: 1 if an image could not be read.

  Raises:
    UserError: the checkpoint cannot be used, or a number is out of range.
  """
  options = create_parser().parse_args(arguments)
  command_line.keep_compiled()
  terminal.begin('reading the checkpoint')
  trained = load_trained_model(
    options.checkpoint,
    image_size=command_line.parse_image_size(options.image_size),
  )
  top = check_top(options.top, len(trained.class_names))
  for change in trained.changes:
    command_line.say(change)
  failures = []

  def report_failure(path: pathlib.Path, problem: str) -> None:
    failures.append(path)
    command_line.say(f'{printable(path)}: {problem}')

  results = predict_files(
    trained,
    find_images(options.images, report_failure),
    top=top,
    batch_size=options.batch_size,
    report_failure=report_failure,
  )
  if options.json:
    command_line.show(to_json(list(results), indent=2))
  else:
    for result in results:
      command_line.show(describe_result(result))
  return 1 if failures else 0


def check_top(top: int | None, num_classes: int) -> int:
  """Returns how many classes to name.

  Args:
    top: number that was asked for, at least 1, or None.
    num_classes: number of the model's classes.

  Raises:
    UserError: more classes than there are.
  """
  if top is None:
    return min(_DEFAULT_TOP, num_classes)
  if top > num_classes:
    raise UserError(
      f'--top is {top}; the model has {num_classes} classes, so it must be in'
      f' 1 .. {num_classes}.'
    )
  return top


def find_images(
  paths: Iterable[pathlib.Path],
  report_failure: Callable[[pathlib.Path, str], None],
) -> Iterator[pathlib.Path]:
  """Yields files, and the images in directories, sorted by path.

  Args:
    paths: paths of both; a file may have any name, and need not exist.
    report_failure: function that is called with a directory that has no images,
      and a sentence.
  """
  for path in paths:
    if not path.is_dir():
      yield path
      continue
    left_out = LeftOut()
    found = list_images(path, left_out)
    if not found:
      suffixes = ', '.join(IMAGE_SUFFIXES)
      report_failure(path, f'there are no images in it ({suffixes})')
    if others := left_out.describe():
      command_line.say(f'{printable(path)}: {others}')
    yield from (path / name for name in found)


def predict_files(
  trained: TrainedModel,
  paths: Iterable[pathlib.Path],
  *,
  top: int,
  batch_size: int,
  report_failure: Callable[[pathlib.Path, str], None],
) -> Iterator[dict]:
  """Predicts image files, in batches of one shape, compiled once.

  Args:
    trained: trained model, from `load_trained_model`.
    paths: paths of the files.
    top: number of classes to name.
    batch_size: number of images at a time; rounded up to divide over the
      devices.
    report_failure: function that is called with each file that cannot be read,
      and why.

  Yields:
    For each file that can be read, in order, what can be written as JSON:
    'image', its path, and 'predictions', `top` times 'class' (its name),
    'words' (what `list_words` says of it), 'label' (its number) and
    'probability', the most probable first.

  Raises:
    UserError: the batch size is not positive.
  """
  batch_size = command_line.resolve_batch_size(batch_size, trained.mesh)
  predict = mesh_lib.jit(
    functools.partial(
      predict_top_classes,
      model=trained.model,
      loss=trained.loss,
      preprocessing=trained.preprocessing,
      top=top,
    ),
    trained.mesh,
  )
  done = 0
  terminal.begin('reading images and compiling')
  max_pixels = DataOptions(**trained.config.data).max_image_pixels
  images = read_images(paths, trained.preprocessing, report_failure, max_pixels)
  while part := list(itertools.islice(images, batch_size)):
    batch = np.zeros(
      (batch_size, *trained.preprocessing.image_size, 3), np.uint8
    )
    batch[: len(part)] = [image for _, image in part]
    device_batch = mesh_lib.put_batch(
      {'image': batch}, trained.mesh, ('image',)
    )
    classes, probabilities = jax.device_get(
      predict(trained.variables, device_batch['image'])
    )
    done += len(part)
    terminal.begin('predicting', f'{done:,} images')
    for index, (path, _) in enumerate(part):
      yield {
        'image': os.fspath(path),
        'predictions': [
          {
            'class': trained.class_names[label],
            'words': list_words(trained.class_names[label]),
            'label': int(label),
            'probability': float(probability),
          }
          for label, probability in zip(classes[index], probabilities[index])
        ],
      }


def read_images(
  paths: Iterable[pathlib.Path],
  preprocessing: PreprocessingOptions,
  report_failure: Callable[[pathlib.Path, str], None],
  max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Iterator[tuple[pathlib.Path, np.ndarray]]:
  """Yields each file that can be read and its crop, [H, W, 3] uint8.

  Args:
    paths: paths of the files.
    preprocessing: size, crop and interpolation.
    report_failure: function that is called with each of the others, and why.
    max_pixels: largest number of pixels: config.data.max_image_pixels.
  """
  for path, picture in read_pictures(paths, report_failure, max_pixels):
    yield path, crop_for_evaluation(picture, preprocessing)


def read_pictures(
  paths: Iterable[pathlib.Path],
  report_failure: Callable[[pathlib.Path, str], None],
  max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Iterator[tuple[pathlib.Path, np.ndarray]]:
  """Yields each file that can be read and its picture, [h, w, 3] uint8.

  Args:
    paths: paths of the files.
    report_failure: function that is called with each of the others, and why.
    max_pixels: largest number of pixels: config.data.max_image_pixels.
  """
  for path in paths:
    if kind := describe_special_file(path):
      report_failure(path, f'cannot be read: it is {kind}')
      continue
    try:
      data = read_file(path, max_pixels * BYTES_PER_PIXEL)
      image = decode_image(data, max_pixels=max_pixels)
    except OSError as error:
      report_failure(path, f'cannot be read: {error.strerror}')
    except (CorruptImageError, NotAPictureFileError) as error:
      report_failure(path, f'cannot be decoded: {error}')
    else:
      yield path, image


def describe_result(result: dict) -> str:
  """Returns a result of `predict_files` in lines for people."""
  return '\n'.join(
    [
      printable(result['image']),
      *(
        f'  {prediction["probability"]:7.2%}  {_describe_class(prediction)}'
        for prediction in result['predictions']
      ),
    ]
  )


def _describe_class(prediction: dict) -> str:
  """Returns the class, and the first of the words for it if there are any."""
  name = printable(prediction['class'])
  # Two classes of ImageNet are called 'crane'.
  return f'{prediction["words"][0]} ({name})' if prediction['words'] else name


if __name__ == '__main__':
  command_line.run_tool(main)
