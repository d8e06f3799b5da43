"""Arguments that benchmarks of input share: numbers, rounds and a folder."""

import argparse
import pathlib


def create_parser(
  description: str, folder: str, **numbers: int
) -> argparse.ArgumentParser:
  """Returns a parser of numbers and --folder.

  Args:
    description: docstring of the benchmark's module, of which the first line is
      shown.
    folder: what --folder is for.
    **numbers: names of the numbers, with their defaults.
  """
  parser = argparse.ArgumentParser(description=description.splitlines()[0])
  for name, default in numbers.items():
    parser.add_argument(f'--{name}', type=int, default=default)
  parser.add_argument(
    '--folder', type=pathlib.Path, help=f'for {folder}; else temporary'
  )
  return parser
