"""Arguments that benchmarks of input share: numbers, rounds and a folder."""

import argparse
import pathlib

from coatnet_jax import arguments


def create_parser(
  program: str, description: str, folder: str, **numbers: int
) -> argparse.ArgumentParser:
  """Returns a parser of numbers and --folder.

  Args:
    program: name of the program in its help, what is typed to start it.
    description: docstring of the benchmark's module.
    folder: what --folder is for.
    **numbers: names of the numbers, with their defaults.
  """
  parser = arguments.create_parser(program, description)
  for name, default in numbers.items():
    parser.add_argument(f'--{name}', type=int, default=default)
  parser.add_argument(
    '--folder', type=pathlib.Path, help=f'for {folder}; else temporary'
  )
  return parser
