r"""Draws what is inside a model, a config or a run, as a PNG file.

    python -m tools.visualize position_tables --checkpoint=WORKDIR
    python -m tools.visualize stem --checkpoint=WORKDIR
    python -m tools.visualize augmentations --config=configs/quickstart.py
    python -m tools.visualize schedule --config=configs/coatnet_0.py
    python -m tools.visualize curves WORKDIR WORKDIR

A config's keys can be changed: --config.KEY=VALUE. A schedule needs no data
where the size of the config's data set is known; --train_examples says it of
others. Curves are those that runs have written for TensorBoard.
"""

import argparse
import pathlib
from typing import TYPE_CHECKING

from coatnet_jax import terminal
from coatnet_jax.arguments import add_number
from coatnet_jax.errors import UserError
from tools import command_line

if TYPE_CHECKING:
  from matplotlib.figure import Figure
  from ml_collections import ConfigDict

# What each command draws.
_WHAT = {
  'position_tables': 'learned relative-position tables, per block and head',
  'stem': "filters of the stem's first convolution",
  'augmentations': "what a config's training makes of pictures",
  'schedule': 'the learning-rate schedule of a config',
  'curves': 'curves of one run or several on one plot',
}


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line, without --config.KEY."""
  parser = command_line.create_bare_parser('visualize', __doc__)
  commands = command_line.add_commands(parser, 'figures')
  for name in ('position_tables', 'stem'):
    command_line.add_checkpoint(_add_command(commands, name))
  augmentations = _add_command(commands, 'augmentations')
  _add_config(augmentations)
  add_number(
    augmentations,
    '--pictures',
    default=4,
    help='number of pictures (4), the first of the training data',
  )
  add_number(
    augmentations, '--draws', default=6, help='number of draws for each (6)'
  )
  schedule = _add_command(commands, 'schedule')
  _add_config(schedule)
  add_number(
    schedule,
    '--train_examples',
    help='images to train with, of data of your own that are not here',
  )
  curves = _add_command(commands, 'curves')
  command_line.add_path(
    curves,
    'workdirs',
    command_line.parse_path,
    nargs='+',
    metavar='WORKDIR',
    help='directory of a run',
  )
  curves.add_argument(
    '--measure',
    default='',
    metavar='NAME,...',
    help='measures, a panel for each; training loss, evaluation loss and top-1'
    ' if left out',
  )
  return parser


def _add_command(commands, name: str) -> argparse.ArgumentParser:
  command = commands.add_parser(
    name, help=_WHAT[name], description=_WHAT[name], allow_abbrev=False
  )
  command_line.add_path(
    command,
    '--out',
    default=pathlib.Path(f'{name}.png'),
    metavar='FILE',
    help=f'PNG file ({name}.png); one that this tool made is replaced',
  )
  return command


def _add_config(parser: argparse.ArgumentParser) -> None:
  from coatnet_jax.config_flag import add_config

  add_config(parser)


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: what the user can put right.
  """
  from coatnet_jax import config_flag

  parser = create_parser()
  options, changes = config_flag.parse_with_config(parser, arguments)
  config = None
  if hasattr(options, 'config'):
    config = config_flag.load_config(options.config, changes)
  else:
    options = parser.parse_args(arguments)
  if options.out.suffix.lower() != '.png':
    raise UserError(f'--out={options.out} must be a PNG file, NAME.png.')

  from coatnet_jax.figures.canvas import check_target, write_figure

  check_target(options.out)
  terminal.begin('drawing')
  write_figure(draw(options, config), options.out)
  command_line.show(f'{options.out}: {_WHAT[options.command]}')
  return 0


def draw(options: argparse.Namespace, config: 'ConfigDict | None') -> 'Figure':
  """Returns the figure of a command.

  Args:
    options: parsed command line.
    config: config of a command that takes one.

  Raises:
    UserError: there is nothing to draw.
  """
  if options.command == 'position_tables':
    return draw_position_tables(options.checkpoint)
  if options.command == 'stem':
    return draw_stem(options.checkpoint)
  if options.command == 'augmentations':
    return draw_augmentations(config, options.pictures, options.draws)
  if options.command == 'schedule':
    return draw_schedule(config, options.train_examples)
  return draw_curves(
    options.workdirs, options.measure.split(',') if options.measure else []
  )


def draw_position_tables(checkpoint: pathlib.Path) -> 'Figure':
  """Returns the figure of a checkpoint's relative-position tables.

  Raises:
    UserError: its model has none.
  """
  from coatnet_jax.explanation.interception import compute_bias_tables
  from coatnet_jax.figures import position_tables

  trained = _load(checkpoint)
  tables = compute_bias_tables(
    trained.model, trained.variables, trained.preprocessing.image_size
  )
  if not tables:
    raise UserError(
      f'{trained.config.model.name} has no relative-position tables: give a'
      ' checkpoint of a model with relative attention.'
    )
  return position_tables.draw_position_tables(
    tables, f'Relative-position tables of {_name(trained)}'
  )


def draw_stem(checkpoint: pathlib.Path) -> 'Figure':
  """Returns the figure of a checkpoint's first convolution."""
  import numpy as np

  from coatnet_jax.figures.stem_filters import draw_stem_filters

  trained = _load(checkpoint)
  kernel = np.asarray(trained.variables['params']['s0_conv_0']['kernel'])
  height, width, _, count = kernel.shape
  return draw_stem_filters(
    kernel, f'{count} filters {height}x{width} of the stem of {_name(trained)}'
  )


def _load(checkpoint: pathlib.Path):
  from coatnet_jax.checkpoints.trained_model import load_trained_model

  terminal.begin('reading the checkpoint')
  trained = load_trained_model(checkpoint)
  for change in trained.changes:
    command_line.say(change)
  return trained


def _name(trained) -> str:
  return f'{trained.config.model.name}, step {trained.step:,}'


def draw_augmentations(
  config: 'ConfigDict', num_pictures: int, num_draws: int
) -> 'Figure':
  """Returns the figure of a config's augmentations.

  Args:
    config: config of the run.
    num_pictures: number of pictures, the first of the training data.
    num_draws: number of draws for each.

  Raises:
    UserError: the data are not there, or a value cannot be.
  """
  import numpy as np

  from coatnet_jax import paths
  from coatnet_jax.data.augmentation import (
    AugmentationOptions,
    PreprocessingOptions,
  )
  from coatnet_jax.data.decoding import CorruptImageError, decode_example
  from coatnet_jax.data.sources import DataOptions, create_source
  from coatnet_jax.figures.augmented_grid import draw_augmented_grid
  from coatnet_jax.run import resolve_values

  resolved = resolve_values(paths.resolve_config(config).to_dict())
  source = create_source(DataOptions(**resolved['data']), 'train')
  pictures = []
  for index in range(len(source)):
    if len(pictures) == num_pictures:
      break
    try:
      picture, label = decode_example(source, index)
    except CorruptImageError as error:
      command_line.say(f'{source.describe(index)}: {error}')
      continue
    labels = np.flatnonzero(label) if np.ndim(label) else [label]
    names = ', '.join(source.class_names[one] for one in labels)
    pictures.append((picture, names))
  if not pictures:
    raise UserError(f'{source.description}: no picture can be read.')
  return draw_augmented_grid(
    pictures,
    PreprocessingOptions(**resolved['preprocessing']),
    AugmentationOptions(**resolved['augmentation']),
    num_draws=num_draws,
    seed=resolved['seed'],
    title='The same pictures, as evaluation and as training see them',
  )


def draw_schedule(config: 'ConfigDict', train_examples: int | None) -> 'Figure':
  """Returns the figure of a config's learning rates.

  Args:
    config: config of the run.
    train_examples: number of images to train with; that of the data if None.

  Raises:
    UserError: the data are not known, or a value cannot be.
  """
  from coatnet_jax import paths
  from coatnet_jax.figures import rate_plot
  from coatnet_jax.planning.plan_config import find_sources
  from coatnet_jax.run import resolve_values
  from coatnet_jax.training import schedules

  resolved = resolve_values(paths.resolve_config(config).to_dict())
  training = resolved['training']
  if train_examples is None:
    try:
      train_examples = len(find_sources(config, None, None)[0])
    except UserError as error:
      raise UserError(
        f'{error.__cause__ or error} Without data: --train_examples=N.'
      ) from error
  steps_per_epoch = train_examples / training['global_batch_size']
  num_steps = schedules.resolve_steps(
    name='training.num',
    steps=training['num_steps'],
    epochs=training['num_epochs'],
    steps_per_epoch=steps_per_epoch,
  )
  schedule = schedules.create_learning_rate_schedule(
    **resolved['schedule'], steps_per_epoch=steps_per_epoch, num_steps=num_steps
  )
  return rate_plot.draw_schedule(
    schedule,
    num_steps,
    steps_per_epoch,
    f'Learning rate of {resolved["model"]["name"]}, {num_steps:,} steps of'
    f' {training["global_batch_size"]:,} images',
  )


def draw_curves(workdirs: list[pathlib.Path], wanted: list[str]) -> 'Figure':
  """Returns the figure of several runs' curves.

  Args:
    workdirs: directories of the runs.
    wanted: names of the measures; the usual ones if empty.

  Raises:
    UserError: a run has none, or there is no such measure.
  """
  from coatnet_jax.figures import run_curves
  from coatnet_jax.training.curves import read_rows

  for path in workdirs:
    if not path.is_dir():
      raise UserError(
        f'There is no directory {path}: give workdirs of runs, which have'
        ' written their curves there.'
      )
  paths = list(dict.fromkeys(str(path) for path in workdirs))
  runs = {
    name: read_rows(path)
    for name, path in zip(run_curves.name_runs(paths), paths)
  }
  return run_curves.draw_run_curves(
    runs, run_curves.find_measures(runs, wanted)
  )


if __name__ == '__main__':
  command_line.run_tool(main)
