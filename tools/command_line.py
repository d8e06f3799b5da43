"""What tools share that read a checkpoint: start-up, arguments, errors."""

import argparse
import pathlib
import re
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from absl import flags, logging
from etils import epath

from coatnet_jax import arguments, paths, terminal, texts
from coatnet_jax.errors import UserError, explain_disk_failure
from coatnet_jax.escapes import escape
from coatnet_jax.library_noise import silence_libraries
from tools import SCREEN

if TYPE_CHECKING:
  from jax.sharding import Mesh


def run_tool(main: Callable[[list[str]], int]) -> NoReturn:
  """Runs a tool and ends the process.

  A UserError is shown without its traceback and ends with status 1. Where
  nobody reads the results any more, as after `| head`, it ends without a word;
  after Ctrl-C with one line.

  Args:
    main: the tool's function of the words after the program's name, which
      returns the exit status.
  """
  # What absl.app does for programs whose flags are absl's: Grain's worker
  # processes ask for them.
  flags.FLAGS.mark_as_parsed()
  texts.use_utf8()
  silence_libraries()
  signal.signal(signal.SIGINT, signal.default_int_handler)
  terminal.begin('preparing')
  try:
    try:
      status = main(sys.argv[1:])
    except SystemExit as end:  # Of argparse.
      status = end.code
    SCREEN.close()
    terminal.write_result()
    sys.exit(status)
  except UserError as error:
    SCREEN.close()
    sys.exit(escape(f'Error: {error}'))
  except KeyboardInterrupt:
    SCREEN.close()
    terminal.end_interrupted()
  except terminal.UnreadError:
    sys.exit(terminal.UNREAD)
  except OSError as error:
    SCREEN.close()
    if not (message := explain_disk_failure(error)):
      raise
    sys.exit(escape(f'Error: {message}'))


def show(text: str = '') -> None:
  """Prints a result."""
  SCREEN.show(text)


def say(text: str) -> None:
  """Tells a person something on stderr; stdout has nothing but results."""
  SCREEN.line(text)


def keep_compiled() -> None:
  """Has JAX keep compiled programs for the next start; the log says where."""
  from coatnet_jax import compilation_cache  # Imports JAX.

  logging.info('Programs are %s', compilation_cache.keep_compiled())


def create_parser(
  name: str, description: str, *, resizes: bool = False
) -> argparse.ArgumentParser:
  """Returns a parser of what most tools take, --checkpoint and --json.

  Args:
    name: name of the tool's module.
    description: docstring of that module.
    resizes: whether --image_size comes after them.
  """
  parser = create_bare_parser(name, description)
  add_checkpoint(parser)
  add_json(parser)
  if resizes:
    add_image_size(parser)
  return parser


def create_bare_parser(name: str, description: str) -> argparse.ArgumentParser:
  """Returns a parser without arguments; see `create_parser`."""
  return arguments.create_parser(f'python -m tools.{name}', description)


def add_workdir(parser: argparse.ArgumentParser) -> None:
  """Adds --workdir, of a run that is there."""
  _add_directory(parser, '--workdir', help='directory of a run')


def add_json(parser: argparse.ArgumentParser) -> None:
  """Adds --json."""
  parser.add_argument(
    '--json', action='store_true', help='print JSON, and nothing else'
  )


def parse_path(text: str) -> epath.Path:
  """Returns a path, perhaps of a bucket; a `type` of argparse's arguments."""
  return _take(paths.resolve_path, text)


def parse_local_path(text: str) -> pathlib.Path:
  """Returns a path of this machine; a `type` of argparse's arguments."""
  return _take(paths.resolve_local_path, text)


def parse_shown_path(text: str) -> pathlib.Path:
  """Returns a path of this machine that is shown as it was typed."""
  return _take(paths.expand_local_path, text)


def _take(resolve: Callable, text: str):
  """Calls a function of a path; argparse shows what is wrong with it."""
  try:
    return resolve(text)
  except UserError as error:
    raise argparse.ArgumentTypeError(str(error)) from error


def add_path(
  parser: argparse.ArgumentParser,
  name: str,
  read: Callable[[str], Any] = parse_local_path,
  *,
  metavar: str = 'PATH',
  **options: Any,
) -> None:
  """Adds an argument that is a path.

  Args:
    parser: parser to add it to.
    name: name of the argument: '--out'.
    read: kind of path: `parse_local_path`, `parse_path` or `parse_shown_path`.
    metavar: word for the path in the help.
    **options: further options, those of `parser.add_argument`.
  """
  parser.add_argument(name, type=read, metavar=metavar, **options)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
  """Adds --checkpoint, for `trained_model.find_checkpoint`."""
  _add_directory(
    parser,
    '--checkpoint',
    help='a workdir, for its best checkpoint, or WORKDIR/checkpoints/STEP',
  )


def _add_directory(parser: argparse.ArgumentParser, name: str, **options: Any):
  add_path(parser, name, parse_path, required=True, metavar='DIR', **options)


def add_images(parser: argparse.ArgumentParser) -> None:
  """Adds the images, for `predict.find_images`."""
  add_path(
    parser,
    'images',
    parse_shown_path,
    nargs='+',
    metavar='IMAGE',
    help='a file (JPEG, PNG, GIF, BMP, WebP, TIFF), or a directory of them',
  )


def add_batch_size(
  parser: argparse.ArgumentParser, default: int | None = None
) -> None:
  """Adds --batch_size, of a computation whose result it does not change.

  Args:
    parser: parser to add it to.
    default: number of images; None for that of the run.
  """
  usual = 'as in the run' if default is None else default
  arguments.add_number(
    parser,
    '--batch_size',
    default=default,
    help=f'images at a time ({usual}); does not change the result',
  )


def add_commands(parser: argparse.ArgumentParser, title: str):
  """Returns what takes the parsers of a tool's commands.

  Args:
    parser: parser of the tool.
    title: heading of the commands in its help.
  """
  return parser.add_subparsers(
    dest='command',
    required=True,
    metavar='NAME',
    title=title,
    description='NAME --help lists what each one takes',
  )


def add_image_size(parser: argparse.ArgumentParser) -> None:
  """Adds --image_size, for `parse_image_size`."""
  parser.add_argument(
    '--image_size',
    metavar='N|HxW',
    help='pixels, square or HEIGHTxWIDTH, instead of those it was saved with;'
    ' relative position tables are resized',
  )


def parse_image_size(text: str | None) -> tuple[int, int] | None:
  """Returns --image_size as (height, width); None if it was not given.

  Raises:
    UserError: it is not one or two positive numbers.
  """
  if text is None:
    return None
  found = re.fullmatch(r'(\d{1,6})(?:x(\d{1,6}))?', text, re.ASCII)
  size = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
  if min(size) < 1:
    raise UserError(
      f'--image_size is {text!r}; it must be pixels, 384, or'
      ' HEIGHTxWIDTH, 384x256.'
    )
  return size


def resolve_batch_size(batch_size: int, mesh: 'Mesh') -> int:
  """Returns --batch_size, rounded up to be sharded over the devices.

  Args:
    batch_size: number of images at a time.
    mesh: mesh of the devices.

  Raises:
    UserError: it is not positive.
  """
  if batch_size < 1:
    raise UserError(f'--batch_size is {batch_size}; it must be at least 1.')
  return -(-batch_size // mesh.size) * mesh.size
