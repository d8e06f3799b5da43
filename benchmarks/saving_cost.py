r"""What the checksums of a checkpoint add to the time it takes to save one.

    python -m benchmarks.saving_cost --config=configs/quickstart.py --saves=10

The state of a new run of the config is saved with checksums and without, in
turn, each time into a directory that is empty. Printed are the medians of the
seconds from the call until the checkpoint counts, and the median of the pairs'
ratios with the range of its middle half. Nothing is trained.
"""

import contextlib
import statistics
import sys
import tempfile
import time
from typing import Any
from unittest import mock

import jax

from coatnet_jax import arguments
from coatnet_jax.checkpoints import checksums, saving
from coatnet_jax.checkpoints.metadata import Progress
from coatnet_jax.config_flag import add_config, load_config, parse_with_config
from coatnet_jax.errors import UserError
from coatnet_jax.initial_state import prepare_first_state
from coatnet_jax.run import Run, create_run


def measure_pairs(
  run: Run, state: Any, number: int
) -> list[tuple[float, float]]:
  """Returns seconds to save a state, with checksums and without, in turn.

  Args:
    run: resolved run whose state it is.
    state: `TrainState` on the mesh.
    number: number of pairs; one more is saved before, and not counted.
  """
  pairs = []
  for index in range(number + 1):
    seconds = {}
    for has_checksums in (True, False) if index % 2 else (False, True):
      with contextlib.nullcontext() if has_checksums else _no_checksums():
        seconds[has_checksums] = _save(run, state)
    pairs.append((seconds[True], seconds[False]))
  return pairs[1:]


def _no_checksums() -> contextlib.AbstractContextManager:
  """Returns a context in which checkpoints get no checksums."""
  return mock.patch.object(checksums, 'write_checksums', return_value=None)


def _save(run: Run, state: Any) -> float:
  """Returns the seconds that it takes to save a state once."""
  with (
    tempfile.TemporaryDirectory('_saving_cost') as workdir,
    saving.open_checkpoints(workdir, run.checkpoint, print) as manager,
  ):
    start = time.perf_counter()
    saving.save_checkpoint(
      manager, state, step=1, progress=Progress(), metadata=run.metadata
    )
    saving.finish_saving(manager)
    return time.perf_counter() - start


def main(words: list[str]) -> int:
  """Runs the command line; returns the exit status.

  Args:
    words: words of the command line after the program's name.

  Raises:
    UserError: the config does not exist, or has a value that cannot be.
  """
  parser = arguments.create_parser('benchmarks.saving_cost', __doc__)
  add_config(parser)
  arguments.add_number(
    parser,
    '--saves',
    default=10,
    at_least=2,
    help='number of times that each is saved (10)',
  )
  options, changes = parse_with_config(parser, words)
  run = create_run(load_config(options.config, changes))
  create_state, abstract_state, _ = prepare_first_state(run)
  num_bytes = sum(
    leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract_state)
  )
  pairs = measure_pairs(run, create_state(), options.saves)
  ratios = [with_sums / without for with_sums, without in pairs]
  low, middle, high = statistics.quantiles(ratios, n=4)
  print(f'state         {num_bytes / 2**20:,.1f} MiB')
  for name, seconds in zip(('checksums', 'without'), zip(*pairs)):
    print(f'{name:13} {statistics.median(seconds):.3f} s')
  print(f'ratio         {middle:.3f} ({low:.3f} to {high:.3f})')
  return 0


if __name__ == '__main__':
  try:
    sys.exit(main(sys.argv[1:]))
  except UserError as error:
    sys.exit(f'Error: {error}')
