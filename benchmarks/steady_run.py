r"""Whether a long run stays as large as it is: memory, handles, threads.

    python -m benchmarks.steady_run --config=configs/quickstart.py \
        --config.training.num_steps=20000 --config.data.num_workers=1

Starts main.py and looks at the process and its workers every second. Printed
are the medians over the second tenth of the run and over the last, by which
memory that JAX and Grain take when they begin is settled, and how much the one
is above the other. Exit status: 1 where one has grown by more than 2 %.
"""

import contextlib
import pathlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks.chaos.started_run import StartedRun, find_last_step
from coatnet_jax import arguments
from coatnet_jax.config_flag import add_config, load_config, parse_with_config
from coatnet_jax.errors import UserError

_EVERY_SECONDS = 1.0
_MAX_GROWTH = 0.02
_NAMES = ('memory of the run, MiB', 'memory of its workers, MiB')
_COUNTS = ('open files', 'threads', 'processes')


def measure(run: StartedRun) -> dict[str, float]:
  """Returns the sizes of a run at this moment.

  Args:
    run: run that was started.

  Raises:
    OSError: one of its processes has just ended.
  """
  processes = run.find_processes()
  memory = {process: _read_memory(process) for process in processes}
  own = memory.pop(run.process.pid)
  counts = (
    sum(_count(process, 'fd') for process in processes),
    sum(_count(process, 'task') for process in processes),
    len(processes),
  )
  return {
    **dict(zip(_NAMES, (own, sum(memory.values())), strict=True)),
    **dict(zip(_COUNTS, map(float, counts), strict=True)),
  }


def compare(
  rows: Sequence[dict[str, float]],
) -> dict[str, tuple[float, float]]:
  """Returns the medians of the second tenth and the last, by name.

  >>> compare([{'threads': float(k)} for k in range(100)])
  {'threads': (14.5, 94.5)}

  Args:
    rows: sizes at moments that follow each other evenly.
  """
  tenth = len(rows) // 10
  parts = rows[tenth : 2 * tenth], rows[-tenth:]
  return {
    name: tuple(statistics.median(row[name] for row in part) for part in parts)
    for name in rows[0]
  }


def main(words: list[str]) -> int:
  """Runs the command line; returns the exit status.

  Args:
    words: words of the command line after the program's name.

  Raises:
    UserError: the config does not exist, the run ended with an error, or it was
      too short to say anything.
  """
  parser = arguments.create_parser('benchmarks.steady_run', __doc__)
  add_config(parser)
  options, changes = parse_with_config(parser, words)
  load_config(options.config, changes)  # Its mistakes are said at once.
  directory = pathlib.Path(tempfile.mkdtemp('_steady_run'))
  words = [f'--config={options.config}', *changes]
  rows = []
  with StartedRun(words, directory / 'workdir', directory / 'output') as run:
    while not run.has_ended():
      time.sleep(_EVERY_SECONDS)
      if find_last_step(run.read_output()):
        # At its end there is nothing to measure.
        with contextlib.suppress(OSError, KeyError):
          rows.append(measure(run))
    status = run.wait()
  if status or len(rows) < 20:
    raise UserError(
      f'The run ended with status {status} after {len(rows)} s of training; see'
      f' {directory}.'
    )
  steps = find_last_step(run.read_output())
  print(f'{steps:,} steps in {len(rows)} s\n')
  print(f'{"":30}{"then":>10}{"now":>10}{"growth":>10}')
  has_grown = False
  for name, (then, now) in compare(rows).items():
    growth = now / then - 1 if then else 0.0
    has_grown |= growth > _MAX_GROWTH
    print(f'{name:<30}{then:>10,.0f}{now:>10,.0f}{growth:>10.1%}')
  return int(has_grown)


def _read_memory(process: int) -> float:
  """Returns the resident memory of a process that is its own, in MiB."""
  text = pathlib.Path(f'/proc/{process}/status').read_text()
  found = re.search(r'^RssAnon:\s+(\d+) kB', text, re.MULTILINE)
  return int(found[1]) / 1024 if found else 0.0


def _count(process: int, entries: str) -> int:
  return len(list(pathlib.Path(f'/proc/{process}/{entries}').iterdir()))


if __name__ == '__main__':
  try:
    sys.exit(main(sys.argv[1:]))
  except UserError as error:
    sys.exit(f'Error: {error}')
