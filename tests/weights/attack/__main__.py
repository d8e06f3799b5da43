"""Attacks what reads weights; ends with status 1 where an attack succeeds."""

import argparse
import pathlib
import sys
import tempfile
import time

from tests.weights.attack import attack_crafted, attack_format
from tests.weights.attack.mutations import FORMATS


def main() -> int:
  """Runs the command line."""
  parser = argparse.ArgumentParser(prog='tests.weights.attack')
  parser.add_argument('--mutations', type=int, default=10_000)
  parser.add_argument('--first', type=int, default=0, help='first seed')
  parser.add_argument('--formats', nargs='*', default=[*FORMATS, 'crafted'])
  options = parser.parse_args()
  failures = []
  print('format              files  read  refused  most s  most MiB  failures')
  with tempfile.TemporaryDirectory() as directory:
    for file_format in options.formats:
      begin = time.monotonic()
      folder = pathlib.Path(directory) / file_format
      folder.mkdir()
      if file_format == 'crafted':
        tally = attack_crafted(folder)
      else:
        seeds = range(options.first, options.first + options.mutations)
        tally = attack_format(file_format, seeds, folder)
      print(
        f'{file_format:18} {tally.files:6,} {tally.read:5,} {tally.refused:8,}'
        f' {tally.seconds:7.2f} {tally.bytes / 2**20:9.0f}'
        f' {len(tally.failures):9,}   ({time.monotonic() - begin:.0f} s)',
        flush=True,
      )
      failures += tally.failures
  for failure in failures[:50]:
    print(failure)
  return bool(failures)


if __name__ == '__main__':
  sys.exit(main())
