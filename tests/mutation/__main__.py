"""The command line: see the package's docstring."""

import argparse
import collections
import fnmatch
import os
import pathlib
import sys
import time
from collections.abc import Sequence

from tests.mutation import runner
from tests.mutation.mistake import Mistake
from tests.mutation.mistakes import MISTAKES

ROOT = pathlib.Path(__file__).parents[2]


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = argparse.ArgumentParser(
    prog='python -m tests.mutation',
    description='Puts mistakes into a copy of the code, and runs its tests.',
    allow_abbrev=False,
  )
  parser.add_argument(
    '--part',
    default='1/1',
    metavar='K/N',
    help='every Nth mistake, from the Kth on; K may be any number, and turns',
  )
  parser.add_argument(
    '--only',
    default='*',
    metavar='PATTERNS',
    help='names, files or rooms, with commas between: ema_*,coatnet_jax/ops',
  )
  parser.add_argument(
    '--jobs', type=int, default=os.cpu_count(), metavar='N', help='at a time'
  )
  parser.add_argument(
    '--timeout',
    type=float,
    default=600.0,
    metavar='SECONDS',
    help='what the tests of one mistake may take (%(default)g)',
  )
  parser.add_argument(
    '--whole_suite',
    action='store_true',
    help='let what survives meet the whole default suite',
  )
  parser.add_argument(
    '--list', action='store_true', help='show the mistakes and make none'
  )
  return parser


def choose(patterns: str, part: str) -> list[Mistake]:
  """Returns the mistakes that the command line asks for."""
  wanted = patterns.split(',')
  found = [
    mistake
    for mistake in MISTAKES
    if any(
      fnmatch.fnmatchcase(text, pattern)
      for text in (mistake.name, mistake.file, mistake.room)
      for pattern in wanted
    )
  ]
  number, _, parts = part.partition('/')
  number, parts = int(number), int(parts)
  return runner.choose_part(found, (number - 1) % parts + 1, parts)


def main(arguments: Sequence[str]) -> int:
  """Returns the exit status: 0 where every mistake is noticed."""
  options = create_parser().parse_args(arguments)
  mistakes = choose(options.only, options.part)
  if not mistakes:
    print('There is no such mistake.')
    return 2
  if options.list:
    for mistake in mistakes:
      print(f'{mistake.name:32} {mistake.file}\n    {mistake.sentence}')
    print(f'{len(mistakes)} mistakes.')
    return 0
  start = time.monotonic()
  results = runner.run(
    ROOT,
    mistakes,
    jobs=options.jobs,
    timeout_seconds=options.timeout,
    report=lambda result: print(describe(result), flush=True),
    whole_suite=options.whole_suite,
  )
  bad = [result for result in results if not result.outcome.is_good]
  if bad:
    print('\nNot as it should be:\n' + '\n'.join(map(describe, bad)))
  counts = collections.Counter(result.outcome.name for result in results)
  print(
    f'\n{len(results)} mistakes in {(time.monotonic() - start) / 60:.1f} min: '
    + ', '.join(
      f'{count} {name.lower().replace("_", " ")}'
      for name, count in counts.most_common()
    )
  )
  return 1 if bad else 0


def describe(result: runner.Result) -> str:
  """Returns a line for people, and what else there is to say below it."""
  mistake = result.mistake
  line = f'{result.seconds:5.0f} s  {mistake.name:32} {result.outcome.value}'
  if result.outcome is runner.Outcome.NOTICED:
    return f'{line} by {result.noticed_by}'
  detail = f'\n         {result.detail}' * bool(result.detail)
  return f'{line}\n         {mistake.file}: {mistake.sentence}{detail}'


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
