"""What --json of the benchmarks has in common: when, where, by what command."""

import argparse
import datetime
import os
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from coatnet_jax import arguments
from coatnet_jax.errors import UserError
from coatnet_jax.strict_json import to_json


class _StoreFile(argparse.Action):
  """Stores a path that can be written, as far as can be told beforehand."""

  def __call__(self, parser, namespace, values, option_string=None):
    """Raises UserError for what cannot be written, before minutes of work."""
    path = pathlib.Path(values).expanduser()
    is_there = path.exists()
    if path.is_dir() or not path.parent.is_dir():
      reason = 'is a directory' if is_there else 'is in no directory'
    elif not os.access(path if is_there else path.parent, os.W_OK):
      reason = 'may not be written'
    else:
      setattr(namespace, self.dest, path)
      return
    raise UserError(
      f'{option_string} is {values!r}, which {reason}; give a new file in a'
      ' directory that is there.'
    )


def create_parser(name: str, description: str) -> argparse.ArgumentParser:
  """Returns the parser of a benchmark that takes --json=FILE.

  Args:
    name: name of the benchmark's module.
    description: docstring of that module.
  """
  parser = arguments.create_parser(f'python -m benchmarks.{name}', description)
  parser.add_argument(
    '--json', action=_StoreFile, metavar='FILE', help='also write all figures'
  )
  return parser


def describe_start(module: str, words: Sequence[str]) -> dict[str, Any]:
  """Returns when, by which command and beside what else figures are made.

  Args:
    module: name of the benchmark: 'benchmarks.train_step'.
    words: words of its command line.
  """
  return {
    'command': shlex.join(['python', '-m', module, *words]),
    'date': datetime.date.today().isoformat(),
    'num_cpus': len(os.sched_getaffinity(0)),
    'load_before': os.getloadavg()[0],
  }


def describe_processor(start: dict[str, Any]) -> str:
  """Returns the processor, and how busy it was, for a line.

  >>> describe_processor({'num_cpus': 2, 'load_before': 0.02})
  '2 CPU cores (load before: 0.0)'

  Args:
    start: date, command and load before the start, of `describe_start`.
  """
  load = start['load_before']
  return f'{start["num_cpus"]} CPU cores (load before: {load:.1f})'


def write(path: pathlib.Path | None, figures: dict[str, Any]) -> None:
  """Writes figures to the file of --json, if there is one.

  Args:
    path: path of the file, over what is there; None writes nothing.
    figures: figures, as JSON has them.
  """
  if path is not None:
    path.write_text(to_json(figures, indent=2) + '\n')
