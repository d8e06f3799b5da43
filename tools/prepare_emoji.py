r"""Prepares the data sets emoji_google and emoji_twitter: drawings, 64x64.

    python -m tools.prepare_emoji --output_dir=DATA
    python -m tools.prepare_emoji --output_dir=DATA --packages_dir=DIR

The first gets the npm packages emoji-datasource-google and
emoji-datasource-twitter, 74 and 62 MB, by `npm pack`, from the registry that
npm is set up for. The second takes the files that `npm pack` has written in
DIR. Both are of version 16.0.0, which a checksum makes sure of.

What is written are two TFDS data sets of the same 23 classes, for
--config.data.name=emoji_google --config.data.data_dir=DATA. See docs/data.md.
"""

import argparse
import pathlib
import subprocess
import tempfile

from coatnet_jax.data.preparation.emoji import (
  PACKAGES,
  VERSION,
  EmojiPackage,
  EmojiSource,
)
from coatnet_jax.data.preparation.preparation import (
  PreparationOptions,
  prepare,
)
from coatnet_jax.errors import UserError
from tools import command_line


def main(arguments: list[str]) -> int:
  """Prepares both data sets; see `command_line.run_tool`.

  Raises:
    UserError: a package cannot be had or is another one, or the disk is full.
  """
  args = create_parser().parse_args(arguments)
  options = PreparationOptions(output_dir=args.output_dir)
  with tempfile.TemporaryDirectory() as folder:
    for package in PACKAGES:
      if args.packages_dir:
        path = args.packages_dir / package.file_name
      else:
        path = download(package, pathlib.Path(folder))
      source = EmojiSource(package, path)
      directory = prepare(source, options, command_line.say)
      sizes = ', '.join(
        f'{len(examples):,} images in {split!r}'
        for split, examples in source.splits.items()
      )
      command_line.show(f'{directory} is complete: {sizes}.')
  return 0


def download(package: EmojiPackage, folder: pathlib.Path) -> pathlib.Path:
  """Gets a package from npm's registry; returns where the file is.

  Args:
    package: package to get.
    folder: folder to write it to.

  Raises:
    UserError: npm is not installed, or did not succeed.
  """
  command_line.say(f'npm pack {package.name}@{VERSION}')
  command = ['npm', 'pack', '--silent', f'{package.name}@{VERSION}']
  try:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
  except FileNotFoundError as error:
    raise UserError(
      'npm is not installed: install it, or run `npm pack'
      f' {package.name}@{VERSION}` elsewhere and give the folder of what it'
      ' writes by --packages_dir.'
    ) from error
  except subprocess.CalledProcessError as error:
    raise UserError(
      f'`npm pack {package.name}@{VERSION}` ended with status'
      f' {error.returncode}; it needs a network, or a registry that npm is set'
      ' up for.'
    ) from error
  return folder / package.file_name


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('prepare_emoji', __doc__)
  command_line.add_path(
    parser, '--output_dir', required=True, help='the TFDS data directory'
  )
  command_line.add_path(
    parser, '--packages_dir', help='has both .tgz files; else npm gets them'
  )
  return parser


if __name__ == '__main__':
  command_line.run_tool(main)
