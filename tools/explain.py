r"""Shows what a model looks at: maps laid over whole pictures, as PNG files.

    python -m tools.explain --checkpoint=WORKDIR IMAGE...
    python -m tools.explain --checkpoint=WORKDIR --method=grad_cam,relevance \
        --class=NAME --out=DIR IMAGE...
    python -m tools.explain --checkpoint=WORKDIR --method=head \
        --block=s3_block_1 --head=0 --position=120,200 IMAGE...

--method names one map or several, with commas between:

    grad_cam              where a stage's map speaks for the class
    relevance             what attention reads that speaks for the class
    rollout               what attention reads, whatever the class
    head                  what one position reads, by one head or all
    integrated_gradients  what each pixel adds to the class's logit

A directory stands for the images in it and below. Beneath each picture stands
what it shows; a white line surrounds what is above half of the largest value,
and a frame what the model sees of the picture. docs/explain.md says how to read
them. With --json: a list of
  {"image", "file", "method", "what", "class", "label", "probability"}
"""

import argparse
import os
import pathlib
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from coatnet_jax import terminal
from coatnet_jax.arguments import add_names, add_number
from coatnet_jax.errors import UserError, explain_choice
from coatnet_jax.explanation.methods import METHODS, NUM_STEPS, OF_NO_CLASS
from coatnet_jax.strict_json import to_json
from coatnet_jax.texts import printable
from tools import command_line

if TYPE_CHECKING:
  import numpy as np

  from coatnet_jax.explanation.explaining import (
    Explainer,
    Explanation,
    Question,
  )

_DEFAULT_OUT = 'explanations'
# What a list of classes in a message is short enough for.
_MAX_LISTED = 20
# Parts by which integrated gradients may miss their sum without a word.
_TOLERANCE = 0.05


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_parser('explain', __doc__, resizes=True)
  command_line.add_images(parser)
  command_line.add_path(
    parser,
    '--out',
    default=pathlib.Path(_DEFAULT_OUT),
    metavar='DIR',
    help=f'directory for the files ({_DEFAULT_OUT}); of those that this tool'
    ' made, what has the same name is replaced',
  )
  add_names(
    parser,
    '--method',
    METHODS,
    default='grad_cam',
    metavar='NAME,...',
    help=f'of {", ".join(METHODS)} (grad_cam)',
  )
  parser.add_argument(
    '--class',
    dest='class_name',
    metavar='NAME|N',
    help='class to explain, by name or number; the predicted one if left out',
  )
  parser.add_argument(
    '--stage',
    default='',
    metavar='NAME',
    help='stage for grad_cam, s0 to s4; the last if left out',
  )
  parser.add_argument(
    '--block',
    default='',
    metavar='NAME',
    help='block for head, s3_block_0, say; the last with attention if left out',
  )
  add_number(
    parser,
    '--head',
    at_least=0,
    help='head for head, from 0; the mean of all if left out',
  )
  parser.add_argument(
    '--position',
    metavar='ROW,COLUMN',
    help='reading position for head, in pixels of the picture from its upper'
    ' left; the middle if left out',
  )
  add_number(
    parser,
    '--steps',
    help=f'gradients that integrated_gradients averages ({NUM_STEPS})',
  )
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Returns:
    The exit status: 1 if an image could not be read.

  Raises:
    UserError: the checkpoint cannot be used, the model does not have what is
      asked for, or a file cannot be written.
  """
  options = create_parser().parse_args(arguments)
  methods = list(dict.fromkeys(options.method))
  check_flags(vars(options), methods)
  position = parse_position(options.position)
  image_size = command_line.parse_image_size(options.image_size)
  if options.out.exists() and not options.out.is_dir():
    raise UserError(f'--out={options.out} is a file; give a directory.')

  # They import JAX, which takes a while.
  from coatnet_jax.checkpoints.trained_model import load_trained_model
  from coatnet_jax.data.sources import DataOptions
  from coatnet_jax.explanation.explaining import Explainer, Question
  from tools.predict import find_images, read_pictures

  command_line.keep_compiled()
  terminal.begin('reading the checkpoint')
  trained = load_trained_model(options.checkpoint, image_size=image_size)
  for change in trained.changes:
    command_line.say(change)
  explainer = Explainer(trained)
  class_index = find_class(options.class_name, explainer.class_names)
  questions = [
    explainer.check(
      Question(
        method=method,
        class_index=class_index,
        stage=options.stage,
        block=options.block,
        head=options.head,
        position=position,
        num_steps=options.steps or NUM_STEPS,
      )
    )
    for method in methods
  ]
  failures, results, taken = [], [], set()

  def report_failure(path: pathlib.Path, problem: str) -> None:
    failures.append(path)
    command_line.say(f'{printable(path)}: {problem}')

  max_pixels = DataOptions(**trained.config.data).max_image_pixels
  paths = find_images(options.images, report_failure)
  terminal.begin('reading images and compiling')
  for path, picture in read_pictures(paths, report_failure, max_pixels):
    stem = find_free_stem(path.stem, taken)
    for question in questions:
      results.append(
        explain_file(explainer, path, picture, question, options.out / stem)
      )
      terminal.begin('explaining', f'{len(results):,} maps')
      if not options.json:
        command_line.show(describe_result(results[-1]))
  if options.json:
    command_line.show(to_json(results, indent=2))
  return 1 if failures else 0


def check_flags(options: Mapping[str, Any], methods: Collection[str]) -> None:
  """Checks that each flag that was given changes some map.

  Args:
    options: arguments of the command line by name.
    methods: names of the methods.

  Raises:
    UserError: one is of other methods.
  """
  for name, flag, users in (
    ('class_name', 'class', set(METHODS) - set(OF_NO_CLASS)),
    ('stage', 'stage', {'grad_cam'}),
    *((name, name, {'head'}) for name in ('block', 'head', 'position')),
    ('steps', 'steps', {'integrated_gradients'}),
  ):
    if options[name] not in (None, '') and not users.intersection(methods):
      raise UserError(
        f'--{flag} changes nothing of --method={",".join(methods)}; leave it'
        f' out, or give --method={" or ".join(sorted(users))}.'
      )


def parse_position(text: str | None) -> tuple[int, int] | None:
  """Returns --position as (row, column); None if it was not given.

  Raises:
    UserError: it is not two numbers.
  """
  if text is None:
    return None
  found = re.fullmatch(r'(\d{1,6}),(\d{1,6})', text, re.ASCII)
  if not found:
    raise UserError(
      f'--position is {text!r}; it must be ROW,COLUMN in pixels of the picture:'
      ' 120,200.'
    )
  return int(found[1]), int(found[2])


def find_class(text: str | None, class_names: tuple[str, ...]) -> int | None:
  """Returns the number of the class that --class means; None for none.

  A name goes before a number, where classes are called by numbers.

  Args:
    text: name or number of a class.
    class_names: names of the model's classes.

  Raises:
    UserError: there is no such class.
  """
  if text is None:
    return None
  if text in class_names:
    return class_names.index(text)
  count = len(class_names)
  if re.fullmatch(r'\d{1,9}', text, re.ASCII):
    if int(text) < count:
      return int(text)
    raise UserError(
      f'--class is {text}; the model has {count} classes, so a number must be'
      f' in 0 .. {count - 1}.'
    )
  listed = 'classes of the model' if count > _MAX_LISTED else ''
  raise UserError(explain_choice('--class', text, class_names, listed=listed))


def find_free_stem(stem: str, taken: set[str]) -> str:
  """Returns a name for a picture's files that no other picture has.

  >>> taken = set()
  >>> [find_free_stem(name, taken) for name in ('cat', 'cat', 'dog')]
  ['cat', 'cat_2', 'dog']

  Args:
    stem: name of the picture's file, without its ending.
    taken: names of the others, to which this one is added.
  """
  name, number = stem, 1
  while name in taken:
    number += 1
    name = f'{stem}_{number}'
  taken.add(name)
  return name


def explain_file(
  explainer: 'Explainer',
  path: pathlib.Path,
  picture: 'np.ndarray',
  question: 'Question',
  base: pathlib.Path,
) -> dict:
  """Writes one map of one picture.

  Args:
    explainer: explainer of the model.
    path: path of the picture.
    picture: whole picture, [H, W, 3] uint8.
    question: what is asked, from `Explainer.check`.
    base: path of the new file, without its ending.

  Returns:
    What can be written as JSON; see the module's docstring.

  Raises:
    UserError: the position is not in the picture, or the file cannot be
      written.
  """
  from coatnet_jax.figures.canvas import check_target, write_figure
  from coatnet_jax.figures.labelled_map import draw_labelled_map

  file = base.with_name(f'{base.name}.{name_map(question)}.png')
  check_target(file)
  found = explainer.explain(picture, question)
  class_name = explainer.class_names[found.class_index]
  result = {
    'image': os.fspath(path),
    'file': str(file),
    'method': question.method,
    'what': found.what,
    'class': class_name,
    'label': found.class_index,
    'probability': found.probability,
  }
  note_doubts(result, found)
  largest = {
    'grad_cam': 'most',
    'integrated_gradients': 'most (99th percentile)',
  }
  figure = draw_labelled_map(
    found.shown,
    list_words(result),
    ('none', largest.get(question.method, f'{found.values.max():.3g}')),
  )
  write_figure(figure, file)
  return result


def name_map(question: 'Question') -> str:
  """Returns what a map's file is called after: 'grad_cam_s4', say."""
  name = question.method
  if name == 'grad_cam':
    return f'{name}_{question.stage}'
  if name == 'head':
    head = 'mean' if question.head is None else question.head
    return f'{name}_{question.block}_{head}'
  return name


def note_doubts(result: dict, found: 'Explanation') -> None:
  """Says on stderr where a map is not what it should be."""
  if not found.values.any():
    command_line.say(
      f'{result["image"]}: {result["what"]} is 0 everywhere: nothing there'
      f' speaks for {printable(result["class"])}. Another --stage or --method'
      ' may show more.'
    )
  if found.total is not None:
    total, difference = found.total
    if abs(total - difference) > _TOLERANCE * abs(difference):
      command_line.say(
        f'{result["image"]}: integrated gradients add up to {total:.3g} and'
        f' should to {difference:.3g}; more --steps come closer.'
      )


def list_words(result: dict) -> list[str]:
  """Returns the lines beneath a map."""
  from coatnet_jax.figures.canvas import clean

  words = f'{clean(result["class"])}, {result["probability"]:.1%}'
  if result['method'] in OF_NO_CLASS:
    words += '; the map is the same for every class'
  return [clean(pathlib.Path(result['image']).name), words, result['what']]


def describe_result(result: dict) -> str:
  """Returns a line for people."""
  return (
    f'{result["file"]}: {result["what"]};'
    f' {printable(result["class"])} {result["probability"]:.2%}'
  )


if __name__ == '__main__':
  command_line.run_tool(main)
