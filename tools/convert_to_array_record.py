"""Copies a TFDS data set that is prepared as TFRecord to ArrayRecord.

    python -m tools.convert_to_array_record SOURCE_DIR TARGET_DIR

where SOURCE_DIR has dataset_info.json (.../imagenet2012/5.1.0). The records
stay as they are, shard by shard; only the files around them change, so that
records can be read in any order. A shard that is there already is kept: run
it again where it was interrupted. TFDS's own `tfds convert_format` does the
same, but needs Apache Beam.
"""

import argparse
import json
import os
import pathlib
from typing import Any

os.environ.setdefault('NO_GCE_CHECK', 'true')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import tensorflow_datasets as tfds
from array_record.python import array_record_module

from coatnet_jax.errors import UserError
from coatnet_jax.strict_json import to_json
from tools import command_line


def convert_to_array_record(
  source_dir: pathlib.Path, target_dir: pathlib.Path
) -> int:
  """Converts a data set.

  Args:
    source_dir: directory of a data set prepared as TFRecord.
    target_dir: directory to write to; made if it does not exist.

  Returns:
    The number of shards that were written.

  Raises:
    UserError: `source_dir` is not such a data set, or `target_dir` has another
      one.
  """
  info_path = source_dir / 'dataset_info.json'
  if not info_path.is_file():
    raise UserError(
      f'There is no prepared TFDS data set in {source_dir}: it has no'
      f' {info_path.name}; give the directory of a version, .../NAME/1.0.0.'
    )
  info = _read_info(info_path)
  if info.get('fileFormat', 'tfrecord') != 'tfrecord':
    raise UserError(
      f'{source_dir} is prepared as {info["fileFormat"]}; it must be tfrecord,'
      ' to be converted.'
    )
  of_ours = {'fileFormat': 'array_record'}
  info |= of_ours
  target_info = target_dir / info_path.name
  if target_info.exists():
    found = _read_info(target_info)
    if target_info.samefile(info_path) or {**found, **of_ours} != info:
      raise UserError(
        f'{target_dir} has another data set; give a new directory.'
      )
  target_dir.mkdir(parents=True, exist_ok=True)
  num_written = 0
  builder = tfds.builder_from_directory(str(source_dir))
  for split in builder.info.splits.values():
    for source in split.filepaths:
      target = target_dir / source.name.replace('.tfrecord', '.array_record')
      if not target.exists():
        _convert_shard(pathlib.Path(source), target)
        num_written += 1
        command_line.show(str(target))
  _copy_metadata(source_dir, target_dir)
  target_info.write_text(
    to_json(info, indent=2, ensure_ascii=False), encoding='utf-8'
  )
  return num_written


def _read_info(path: pathlib.Path) -> dict[str, Any]:
  """Returns a dataset_info.json; a UserError says that it is none."""
  try:
    info = json.loads(path.read_text(encoding='utf-8'))
    if isinstance(info, dict):
      return info
  except (ValueError, RecursionError):
    pass
  raise UserError(f'{path} is damaged: it is no JSON object; get it again.')


def _convert_shard(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies the records of one file; the target appears when it is whole."""
  # Here, because it takes seconds to import.
  import tensorflow as tf

  incomplete = target.with_name(target.name + '.incomplete')
  writer = array_record_module.ArrayRecordWriter(
    str(incomplete), 'group_size:1'
  )
  number = 0
  try:
    for record in tf.data.TFRecordDataset(str(source)):
      writer.write(record.numpy())
      number += 1
  except tf.errors.OpError as error:
    raise UserError(
      f'{source} is damaged after {number:,} records'
      f' ({error.message.partition(chr(10))[0]}); get it again.'
    ) from error
  finally:
    writer.close()
  incomplete.rename(target)


def _copy_metadata(source_dir: pathlib.Path, target_dir: pathlib.Path) -> None:
  """Copies features.json, label names and what else is not a shard."""
  for path in source_dir.iterdir():
    if path.is_file() and '.tfrecord' not in path.name:
      (target_dir / path.name).write_bytes(path.read_bytes())


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('convert_to_array_record', __doc__)
  command_line.add_path(
    parser,
    'source_dir',
    metavar='SOURCE_DIR',
    help='directory of a data set prepared as TFRecord',
  )
  command_line.add_path(
    parser, 'target_dir', metavar='TARGET_DIR', help='a new directory'
  )
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; returns its exit status."""
  options = create_parser().parse_args(arguments)
  num_written = convert_to_array_record(options.source_dir, options.target_dir)
  command_line.show(f'Wrote {num_written} shards to {options.target_dir}.')
  return 0


if __name__ == '__main__':
  command_line.run_tool(main)
