"""Evaluates the model of a checkpoint on every image of a data set.

    python -m tools.evaluate --checkpoint=WORKDIR

Model, preprocessing and data are those of the run. Other data are named by
what differs from the run's config.data; their classes must be among the
model's, by name, or as many in the same order:

    --data.name=fashion_mnist --data.data_dir=DIR
    --data.source=folder --data.data_dir=DIR --data.eval_split=val
    --data.source=folder --data.data_dir=DIR_OF_CLASSES
    --data.name=imagenet2012_real,imagenet_a,imagenet_r --data.data_dir=DIR

ImageNet-ReaL, -A, -R and -C (imagenet2012_corrupted, all of it) have rules of
their own; docs/evaluation.md has them and the definitions of all figures.

At other image sizes, --image_size=384 or --image_size=384x256 (height x
width), the relative position tables are resized. Several sizes and several
names, with commas between, are evaluated one after the other.

--fewshot=1,5,10 and --linear_probe judge the frozen features instead of the
logits: a classifier of them is fitted to images of config.data.train_split, or
--data.train_split, of any classes.

--results=PATH writes PATH.json and PATH.md, with the accuracy of every class.

With --json: one object, or a list of them where there are several evaluations,
with checkpoint, step, model, data, image_size, changes (what was done to the
weights for that size), rules, top1, top5, loss, calibration_error,
mean_class_accuracy, count (of images), undecodable (images that are left out),
most_confused and images_per_second.

Images with several labels each, of a list, have mean_average_precision,
micro_f1 and macro_f1 in place of the last figures, and per_class: class, count,
average_precision, precision, recall and f1, at probability 0.5.
"""

import argparse
import dataclasses
import os
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from coatnet_jax import paths, terminal
from coatnet_jax.arguments import add_number
from coatnet_jax.checkpoints.trained_model import (
  TrainedModel,
  load_trained_model,
  open_saved_model,
)
from coatnet_jax.data.sources import DataOptions, check_has_splits
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation import data_sets, results, tasks
from coatnet_jax.evaluation.descriptions import (
  describe_result,
  describe_subject,
)
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.strict_json import to_json
from tools import command_line

_NUM_SEEDS = 3
# Evaluations of which only the results file has what is said of every class.
_WITHOUT_CLASSES = ('classification', 'linear_probe')
# Fields of `DataOptions` that say which images are held out.
_DIVISION = frozenset({'eval_fraction', 'num_folds', 'fold', 'group_pattern'})


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_parser('evaluate', __doc__, resizes=True)
  command_line.add_batch_size(parser)
  parser.add_argument(
    '--fewshot',
    metavar='N,...',
    help='images per class to fit a classifier of the features to',
  )
  add_number(
    parser,
    '--fewshot_seeds',
    default=_NUM_SEEDS,
    help=f'number of choices of those images ({_NUM_SEEDS})',
  )
  parser.add_argument(
    '--linear_probe',
    action='store_true',
    help='fit a classifier of the features to all training images',
  )
  command_line.add_path(
    parser,
    '--results',
    command_line.parse_path,
    help='write PATH.json and PATH.md',
  )
  add_data(parser)
  return parser


def add_data(parser: argparse.ArgumentParser) -> None:
  """Adds --data.KEY, for `resolve_data`."""
  group = parser.add_argument_group(
    'data', "instead of the run's; configs/base.py says what they mean"
  )
  # Without what the annotations say of ranges.
  for name, kind in typing.get_type_hints(DataOptions).items():
    if kind in (str, int, float) and name != 'changed':
      is_path = f'data.{name}' in paths.CONFIG_KEYS
      group.add_argument(
        f'--data.{name}',
        type=parse_data_path if is_path else kind,
        metavar='VALUE',
        help=f'config.data.{name}',
      )


def find_data_changes(options: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what --data.KEY changes, by field of `DataOptions`.

  Args:
    options: arguments of the command line by name.
  """
  return {
    name.removeprefix('data.'): value
    for name, value in options.items()
    if name.startswith('data.') and value is not None
  }


def parse_data_path(text: str) -> str:
  """Returns a path of --data, which may be empty, as a config has it."""
  return text and str(command_line.parse_path(text))


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: the checkpoint or the data cannot be used, or a number is out of
      range.
  """
  options = vars(create_parser().parse_args(arguments))
  base = options['results'] and results.check_results_path(options['results'])
  command_line.keep_compiled()
  facts, evaluations = {}, []
  for trained, task in open_tasks(options):
    subject = describe_task(trained, task)
    if not options['json']:
      command_line.show(describe_subject(subject))
    result = run_task(task, trained, options['batch_size'])
    if not options['json']:
      command_line.show(describe_result({**subject, **result}))
    facts = facts or results.describe_trained_model(trained)
    evaluations.append({**subject, **result})
  if options['json']:
    short = [_shorten(one) for one in evaluations]
    shown = short if len(short) > 1 else short[0]
    command_line.show(to_json(shown, indent=2))
  if base:
    for path in results.write_results(base, facts, evaluations):
      command_line.say(f'Written: {path}')
  return 0


def _shorten(evaluation: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what --json prints of an evaluation."""
  left_out = evaluation['kind'] in _WITHOUT_CLASSES and 'per_class'
  return {name: v for name, v in evaluation.items() if name != left_out}


def open_tasks(
  options: Mapping[str, Any],
) -> Iterator[tuple[TrainedModel, tasks.Task]]:
  """Yields what is to be evaluated, for one image size after the other.

  What is wrong with a size or the data is found before the first is yielded.

  Args:
    options: arguments of the command line by name.

  Raises:
    UserError: the checkpoint or the data cannot be used, or a number is out of
      range.
  """
  sizes = parse_image_sizes(options['image_size'])
  shots = parse_shots(options['fewshot'])
  terminal.begin('reading the checkpoint')
  # While a run goes on, its best checkpoint may change.
  saved = open_saved_model(options['checkpoint'])
  for note in saved.notes:
    command_line.say(note)
  path = saved.path
  check_image_sizes(path, sizes[1:])
  changes = find_data_changes(options)
  for size in sizes:
    terminal.begin('reading the checkpoint')
    trained = load_trained_model(path, image_size=size)
    terminal.begin('reading the data set')
    opened = []
    for data in resolve_data(trained, changes):
      if shots:
        seeds = range(options['fewshot_seeds'])
        opened.append(tasks.open_few_shot(data, trained, shots, seeds))
      if options['linear_probe']:
        opened.append(tasks.open_linear_probe(data, trained))
      if not shots and not options['linear_probe']:
        data = hold_nothing_out(data, trained, changes)
        opened.append(
          tasks.open_classification(data, trained, command_line.say)
        )
    for task in opened:
      yield trained, task


def parse_image_sizes(text: str | None) -> list[tuple[int, int] | None]:
  """Returns the sizes of --image_size; [None] if it was not given.

  Raises:
    UserError: one is not one or two positive numbers.
  """
  if text is None:
    return [None]
  return [command_line.parse_image_size(size) for size in text.split(',')]


def parse_shots(text: str | None) -> tuple[int, ...]:
  """Returns the numbers of --fewshot; none if it was not given.

  Raises:
    UserError: one is not positive.
  """
  if text is None:
    return ()
  if not re.fullmatch(r'0*[1-9]\d{0,5}(,0*[1-9]\d{0,5})*', text, re.ASCII):
    raise UserError(
      f'--fewshot is {text!r}; it must be images per class, as in 1,5,10.'
    )
  return tuple(int(number) for number in text.split(','))


def check_image_sizes(
  path: os.PathLike[str], sizes: Sequence[tuple[int, int]]
) -> None:
  """Raises UserError for a size that does not fit the model of a checkpoint."""
  if not sizes:
    return
  model = open_saved_model(path).model
  for size in sizes:
    abstract_variables(model, size)


def resolve_data(
  trained: TrainedModel, changes: Mapping[str, Any]
) -> list[DataOptions]:
  """Returns the data of a checkpoint's run, with changes.

  Args:
    trained: trained model, from `load_trained_model`.
    changes: fields of `DataOptions` by name; of several names of data sets,
      with commas between, each is another one. A name alone means one of TFDS.
      One that is made to evaluate models of ImageNet has its usual split.

  Raises:
    UserError: a value that is not possible, or a split of data without splits.
  """
  if changes.get('name'):
    changes = {'source': 'tfds', **changes}
  # Images are read once: to keep them would decode them in a single thread.
  config = {**trained.config.data, 'cache_mebibytes': 0}
  own = DataOptions(**config)
  names = [name.strip() for name in changes.get('name', own.name).split(',')]
  if len(names) > 1 and not all(names):
    raise UserError(
      f'--data.name is {changes["name"]!r}; it must be names with commas'
      ' between, none of them empty.'
    )
  found = []
  for name in names:
    data = DataOptions(**{**config, **changes, 'name': name})
    is_other = data_sets.identify(data) != data_sets.identify(own)
    if is_other and 'eval_split' not in changes:
      data = data_sets.add_usual_split(data)
    if changes.get('eval_split'):
      check_has_splits(data)
    found.append(data)
  return found


def hold_nothing_out(
  data: DataOptions, trained: TrainedModel, changes: Mapping[str, Any]
) -> DataOptions:
  """Does what that of `data_sets` does, unless the command line says else.

  What it says of the division is kept, and a part takes the place of folds.

  Args:
    data: options of the data, from `resolve_data`.
    trained: trained model, from `load_trained_model`.
    changes: changes that the data were resolved with.
  """
  given = _DIVISION.intersection(changes)
  if given & {'num_folds', 'fold'}:
    return data
  if 'eval_fraction' in given:  # Not looked at where there are folds.
    return dataclasses.replace(data, num_folds=0, fold=0)
  if given:
    return data
  (own,) = resolve_data(trained, {})
  return data_sets.hold_nothing_out(data, own)


def run_task(
  task: tasks.Task, trained: TrainedModel, batch_size: int | None
) -> dict[str, Any]:
  """Runs an evaluation; what cannot be decoded is named on stderr.

  Args:
    task: evaluation from `open_tasks`.
    trained: trained model that it was opened for.
    batch_size: number of images at a time, the run's if None.

  Returns:
    Figures by name: `tasks.Task`.

  Raises:
    UserError: the batch size is not positive, no image counts, or more cannot
      be decoded than may be.
  """
  if batch_size is None:
    batch_size = trained.config.evaluation.global_batch_size
  return task.run(
    trained,
    batch_size=command_line.resolve_batch_size(batch_size, trained.mesh),
    report_undecodable=lambda name: command_line.say(f'Cannot decode {name}'),
  )


def describe_task(trained: TrainedModel, task: tasks.Task) -> dict[str, Any]:
  """Returns what is evaluated on what."""
  return {
    'kind': task.kind,
    'checkpoint': str(trained.path),
    'step': trained.step,
    'model': trained.config.model.name,
    'data': task.data,
    'split': task.split,
    'image_size': task.preprocessing.image_size,
    'changes': trained.changes,
    'rules': task.rules,
    'preprocessing': dataclasses.asdict(task.preprocessing),
  }


if __name__ == '__main__':
  command_line.run_tool(main)
