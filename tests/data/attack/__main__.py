"""See tests/data/attack/__init__.py."""

import argparse
import collections
import sys
import time
from collections.abc import Iterator

import numpy as np

from tests.data.attack import bombs, largest, seeds, trial


def list_mutations(number: int, seed: int) -> Iterator[tuple[str, bytes]]:
  """Yields damaged pictures of every kind, by turns."""
  whole = seeds.create_seeds()
  contents = list(whole.values())
  for index in range(number):
    name = list(whole)[index % len(whole)]
    rng = np.random.default_rng((seed, index))
    yield f'{name} #{index}', seeds.mutate(whole[name], rng, contents)


def list_pictures(options) -> Iterator[tuple[str, bytes]]:
  if options.largest:
    kinds = [kind for kind in largest.KINDS if options.only in kind]
    for name, data in largest.list_largest(kinds):
      yield f'largest {name}', data
    return
  for name, create in bombs.list_bombs():
    if not options.only or options.only in name:
      yield f'bomb {name}', create()
  if not options.only:
    yield from list_mutations(options.mutations, options.seed)


def main() -> int:
  """Prints what must not be, and a table; returns the exit status."""
  parser = argparse.ArgumentParser(prog='python -m tests.data.attack')
  parser.add_argument('--mutations', type=int, default=20_000)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument(
    '--largest',
    action='store_true',
    help='the largest pictures that are decoded, of each kind, instead',
  )
  parser.add_argument('--only', default='', help='pictures of this name alone')
  options = parser.parse_args()
  table = collections.defaultdict(lambda: [0, 0, 0.0, 0])
  problems, start = 0, time.monotonic()
  for found in trial.try_pictures(list_pictures(options)):
    is_mutation = not found.name.startswith(('bomb', 'largest'))
    row = table['mutations' if is_mutation else found.name.split()[0]]
    row[0] += 1
    row[1] += found.outcome == 'a picture'
    row[2] = max(row[2], found.seconds)
    row[3] = max(row[3], found.kibibytes)
    if not is_mutation:
      print(
        f'  {found.name:40} {found.seconds:5.2f} s'
        f' {found.kibibytes >> 10:5,} MiB  {found.outcome[:150]}',
        flush=True,
      )
    if found.problem:
      problems += 1
      print(f'! {found.problem}', flush=True)
  for kind, (number, decoded, seconds, kibibytes) in table.items():
    print(
      f'{kind}: {number:,}, {decoded:,} decoded, {number - decoded:,} damaged;'
      f' at most {seconds:.2f} s and {kibibytes >> 10:,} MiB'
    )
  print(f'{problems} problems, in {time.monotonic() - start:.0f} s')
  return int(problems > 0)


if __name__ == '__main__':
  sys.exit(main())
