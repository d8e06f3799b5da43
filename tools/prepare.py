r"""Prepares a data set: archives, folders or idx files to ArrayRecord.

    python -m tools.prepare imagenet2012 --output_dir=DIR \
        --train_archive=ILSVRC2012_img_train.tar \
        --validation_archive=ILSVRC2012_img_val.tar
    python -m tools.prepare imagenet21k_fall11 --output_dir=DIR \
        --archive=fall11_whole.tar
    python -m tools.prepare folder --output_dir=DIR --source_dir=IMAGES
    python -m tools.prepare idx --output_dir=DIR --source_dir=IDX_FILES
    python -m tools.prepare tfds --output_dir=DIR --source_dir=TFRECORDS

What is written in DIR/NAME/VERSION is a TFDS data set, for
--config.data.name=NAME --config.data.data_dir=DIR. Run the same command again
where it was interrupted. report.txt beside the shards lists each image that
was left out or encoded anew. See docs/data.md.
"""

import argparse
import functools
import os
import pathlib
import shlex

import humanize

from coatnet_jax.arguments import add_number
from coatnet_jax.data.preparation.files import (
  FolderPreparationSource,
  IdxPreparationSource,
)
from coatnet_jax.data.preparation.imagenet import (
  create_imagenet21k,
  create_imagenet2012,
)
from coatnet_jax.data.preparation.preparation import (
  ORDERS,
  PreparationOptions,
  estimate_bytes,
  get_data_set_directory,
  plan_shards,
  prepare,
)
from coatnet_jax.data.preparation.shards import explain_disk_errors
from coatnet_jax.data.preparation.verification import DEFAULT_MAX_PIXELS
from coatnet_jax.errors import UserError
from tools import command_line

# What each command prepares.
_WHAT = {
  'imagenet2012': "ImageNet-1k, of the challenge's archives",
  'imagenet21k_fall11': 'ImageNet-21k of 2011, of an archive of archives',
  'imagenet21k_winter21': 'ImageNet-21k of 2021, likewise',
  'imagenet21k_p': 'the part of ImageNet-21k with training and validation',
  'folder': 'images in a folder for each class',
  'idx': "files of MNIST's format",
  'tfds': 'a TFDS data set in TFRecord',
}
_IMAGENET21K = ('imagenet21k_fall11', 'imagenet21k_winter21', 'imagenet21k_p')


def main(arguments: list[str]) -> int:
  """Prepares a data set; see `command_line.run_tool`.

  Raises:
    UserError: the input is missing or broken, or the disk is full.
  """
  args = create_parser().parse_args(arguments)
  if args.command == 'tfds':
    return _convert(args)
  options = PreparationOptions(
    output_dir=args.output_dir,
    num_workers=args.num_workers,
    shard_mebibytes=args.shard_mebibytes,
    order=args.order,
    max_pixels=args.max_pixels,
  )
  source = _create_source(args)
  for split, examples in source.splits.items():
    command_line.say(
      f'{split}: {len(examples):,} images,'
      f' {humanize.naturalsize(examples.sizes.sum())},'
      f' {len(source.class_names):,} classes.'
    )
  for note in source.notes:
    command_line.say(note)
  if args.dry_run:
    shards = [s for part in plan_shards(source, options).values() for s in part]
    command_line.say(
      f'{get_data_set_directory(source, options)} will have {len(shards):,}'
      f' shards of about {humanize.naturalsize(estimate_bytes(shards))}'
      ' together.'
    )
    return 0
  try:
    directory = prepare(source, options, command_line.say, _create_writer(args))
  except KeyboardInterrupt:
    command_line.say('Interrupted; run the same command again to resume.')
    return 130
  command_line.show(f'{directory} is complete; see report.txt there.')
  return 0


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('prepare', __doc__)
  commands = command_line.add_commands(parser, 'data sets')
  imagenet2012 = _add_command(commands, 'imagenet2012')
  for name in ('--train_archive', '--validation_archive'):
    command_line.add_path(imagenet2012, name, required=True, help='tar archive')
  command_line.add_path(
    imagenet2012,
    '--devkit',
    help='ILSVRC2012_devkit_t12.tar.gz, for the validation labels; else those'
    ' that TFDS has',
  )
  command_line.add_path(
    imagenet2012, '--classes', help='file of another class list'
  )
  for name in _IMAGENET21K:
    command = _add_command(commands, name)
    command_line.add_path(
      command, '--archive', required=True, help='tar of class archives'
    )
    command_line.add_path(command, '--classes', help='file, a class per line')
    command.add_argument(
      '--leave_out_other_classes',
      action='store_true',
      help='take only the classes of --classes',
    )
    if name != 'imagenet21k_p':
      _add_eval_fraction(command, 0.004)
  for name in ('folder', 'idx'):
    command = _add_command(commands, name)
    command_line.add_path(
      command, '--source_dir', required=True, help='where the files are'
    )
    command.add_argument(
      '--name', help='name of the data set; that of source_dir if left out'
    )
    if name == 'folder':
      _add_eval_fraction(command, 0.1)
      command_line.add_path(
        command, '--classes', help='file, the folders in the order of labels'
      )
      command.add_argument(
        '--only_split',
        default='',
        metavar='NAME',
        help='hold nothing out and call all images so: test, for example',
      )
  tfds = commands.add_parser('tfds', allow_abbrev=False, help=_WHAT['tfds'])
  command_line.add_path(
    tfds, '--source_dir', required=True, help='has dataset_info.json'
  )
  command_line.add_path(
    tfds, '--output_dir', required=True, help='the TFDS data directory'
  )
  return parser


def _add_command(commands, name: str) -> argparse.ArgumentParser:
  """Adds a data set with what all of them take."""
  command = commands.add_parser(name, allow_abbrev=False, help=_WHAT[name])
  command_line.add_path(
    command, '--output_dir', required=True, help='the TFDS data directory'
  )
  add_number(command, '--num_workers', default=os.cpu_count(), help='processes')
  add_number(
    command,
    '--shard_mebibytes',
    float,
    default=128,
    help='size of a shard',
  )
  command.add_argument(
    '--order',
    choices=ORDERS,
    default='shuffled',
    help='source: as in the archive, for a disk that is slow to seek',
  )
  add_number(
    command,
    '--max_pixels',
    default=DEFAULT_MAX_PIXELS,
    help='larger images are left out (default: %(default)s)',
  )
  command.add_argument(
    '--beam',
    metavar='OPTIONS',
    help='write shards by an Apache Beam pipeline of these options, such as'
    ' "--runner=DirectRunner"; see docs/data.md',
  )
  command.add_argument(
    '--dry_run', action='store_true', help='say what there is, write nothing'
  )
  return command


def _add_eval_fraction(parser, default: float) -> None:
  add_number(
    parser,
    '--eval_fraction',
    float,
    at_least=0,
    below=1,
    default=default,
    help='part held out, by hashes of names (default: %(default)s)',
  )


def _create_source(args: argparse.Namespace):
  if args.command == 'imagenet2012':
    return create_imagenet2012(
      args.train_archive,
      args.validation_archive,
      **_pick(args, 'devkit', 'classes', 'num_workers'),
      show=command_line.say,
    )
  if args.command in _IMAGENET21K:
    names = ('classes', 'leave_out_other_classes', 'num_workers')
    return create_imagenet21k(
      args.command,
      args.archive,
      **_pick(args, *names, 'eval_fraction'),
      show=command_line.say,
    )
  directory = args.source_dir
  name = args.name or directory.name
  # TFDS takes no other names of data sets.
  if not name.isidentifier() or not name.isascii():
    raise UserError(
      f'{name!r} is no name for a data set; give one of letters, digits and _'
      ' by --name.'
    )
  if args.command == 'folder':
    options = _pick(args, 'eval_fraction', 'classes', 'only_split')
    return FolderPreparationSource(name, directory, **options)
  return IdxPreparationSource(name, directory)


def _pick(args, *names):
  """Returns those of some arguments that the command has, by name."""
  return {name: getattr(args, name) for name in names if name in args}


def _create_writer(args: argparse.Namespace):
  """Returns what writes shards on a cluster; None for processes here."""
  if args.beam is None:
    return None
  # Here, because few have Apache Beam.
  try:
    from coatnet_jax.data.preparation import beam_pipeline
  except ModuleNotFoundError as error:
    raise UserError(
      f'--beam needs a package that is not installed ({error.name}): pip'
      ' install -r requirements-beam.txt.'
    ) from error
  return functools.partial(
    beam_pipeline.write_shards, beam_options=shlex.split(args.beam)
  )


def _convert(args: argparse.Namespace) -> int:
  """Copies the records of a TFRecord data set, shard by shard."""
  # Here, because it needs TensorFlow, which takes seconds to import.
  from tools.convert_to_array_record import convert_to_array_record

  source_dir = args.source_dir
  target_dir = args.output_dir / pathlib.Path(*_name_and_version(source_dir))
  if target_dir == source_dir:
    raise UserError(
      f'{source_dir} is itself in --output_dir; choose another one.'
    )
  with explain_disk_errors(target_dir):
    num_written = convert_to_array_record(source_dir, target_dir)
  command_line.show(
    f'{target_dir} is complete; {num_written} shards were written.'
  )
  return 0


def _name_and_version(directory: pathlib.Path) -> list[str]:
  """Returns NAME/VERSION or NAME/CONFIG/VERSION of a data set's directory."""
  import tensorflow_datasets as tfds

  try:
    info = tfds.builder_from_directory(str(directory)).info
  except (tfds.core.dataset_info.DatasetInfoFileError, OSError) as error:
    raise UserError(
      f'There is no prepared TFDS data set in {directory}: it has no readable'
      ' dataset_info.json.'
    ) from error
  return info.full_name.split('/')


if __name__ == '__main__':
  command_line.run_tool(main)
