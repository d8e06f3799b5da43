r"""Disturbs real runs at random moments, and looks whether anything was lost.

    python -m tools.chaos --config=configs/quickstart.py
    python -m tools.chaos --config=configs/quickstart.py --rounds=30 \
        --faults=kill,term

Each round starts main.py, does one kind of harm at a random moment of one of
its stages (starting, loading, preparing, compiling, training, saving,
evaluating, ending), starts the run again until it is finished, and compares
parameters, statistics, averages, optimizer state and evaluations with an
undisturbed run's, bit for bit. It also looks at exit statuses, times, messages,
and for processes that were left behind: docs/reliability.md says what is
promised.

The faults: kill, term and int are signals; stop_worker and kill_worker meet the
processes that prepare data; bit_flip, truncate and delete a file of the newest
checkpoint; disk_full, read_only and io_error are errors of the system's calls,
of which the kernel asks this program (Linux only); clock sets the clock; a
second_run starts in the same workdir; nan is a run that diverges; data_changed
changes pictures between two starts.

The run is shortened to --steps; --config.KEY=VALUE changes any key. What broken
rounds wrote is kept under --directory. Exit status: 0 if nothing was lost, 1 if
something was.

With --json: a list of objects with fault, stage, seed, starts, seconds_to_end,
events and broken (promises that were broken).
"""

import os

# Runs are started, and their arrays compared.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import argparse
import concurrent.futures
import dataclasses
import pathlib
import tempfile

from benchmarks.chaos import faults, rounds, system_calls
from benchmarks.chaos.stages import STAGES, Cadence
from coatnet_jax import terminal
from coatnet_jax.arguments import add_names, add_number
from coatnet_jax.config_flag import add_config, load_config, parse_with_config
from coatnet_jax.errors import UserError
from coatnet_jax.strict_json import to_json
from tools import command_line


@dataclasses.dataclass(frozen=True)
class _Task:
  """A round that is to be played.

  Attributes:
    fault: name of what disturbs it, of `faults.FAULTS`.
    number: number of the round among those of the fault.
    seed: seed of its random numbers.
  """

  fault: str
  number: int
  seed: int

  @property
  def stage(self) -> str:
    """Name of the stage that is disturbed: another one in each round."""
    turn = self.seed + self.number + list(faults.FAULTS).index(self.fault)
    return list(STAGES)[turn % len(STAGES)]

  def play(self, plan: rounds.Plan) -> rounds.Round:
    """Plays the round."""
    return rounds.run_round(
      faults.FAULTS[self.fault],
      plan,
      f'{self.fault}_{self.number}',
      seed=self.seed * 10_007 + self.number,
      stage=self.stage,
    )


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line, without --config.KEY."""
  parser = command_line.create_bare_parser('chaos', __doc__)
  add_config(parser)
  add_number(
    parser, '--rounds', default=1, help='rounds of each fault (%(default)s)'
  )
  add_names(
    parser,
    '--faults',
    faults.FAULTS,
    default=','.join(faults.FAULTS),
    help='faults, separated by commas (all)',
  )
  add_number(parser, '--seed', at_least=0, default=0, help='%(default)s')
  add_number(
    parser,
    '--steps',
    at_least=8,
    default=40,
    help='steps of the run (%(default)s)',
  )
  add_number(parser, '--jobs', default=1, help='rounds at a time (%(default)s)')
  command_line.add_path(
    parser,
    '--directory',
    metavar='DIR',
    help="directory for what the runs write (a new one of the system's)",
  )
  command_line.add_json(parser)
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: a fault or the config does not exist, or the run does not finish
      by itself.
  """
  options, changes = parse_with_config(create_parser(), arguments)
  names = options.faults
  fails_calls = set(names) & set(faults.FAILING_CALLS)
  if fails_calls and (reason := system_calls.explain_why_not()):
    raise UserError(
      f'{", ".join(sorted(fails_calls))} cannot be tried here: {reason}. Name'
      ' other --faults.'
    )
  load_config(options.config, changes)  # Its mistakes are said at once.
  directory = options.directory or pathlib.Path(tempfile.mkdtemp('_chaos'))
  directory.mkdir(parents=True, exist_ok=True)
  if any(directory.iterdir()):
    raise UserError(f'--directory={directory} is not empty; name a new one.')
  plan = rounds.Plan(
    [f'--config={options.config}', *changes],
    Cadence(
      num_steps=options.steps,
      evaluation_steps=options.steps // 4,
      checkpoint_steps=options.steps // 8,
    ),
    directory,
  )
  tasks = [
    _Task(name, number, options.seed)
    for number in range(options.rounds)
    for name in names
  ]
  terminal.begin('running the run undisturbed')
  undisturbed = plan.find_undisturbed()
  command_line.say(
    f'Undisturbed it takes {undisturbed.seconds:.0f} s. {len(tasks)} rounds in'
    f' {directory} ...'
  )
  played = []
  with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
    for task, result in zip(
      tasks, pool.map(lambda task: task.play(plan), tasks), strict=True
    ):
      terminal.begin('disturbing runs', f'round {len(played) + 1}')
      played.append((task, result))
      command_line.say(_describe_round(task, result))
  if options.json:
    command_line.show(
      to_json([_to_row(task, result) for task, result in played], indent=2)
    )
  else:
    for line in format_table(played):
      command_line.show(line)
  return int(any(result.broken for _, result in played))


def format_table(played: list[tuple[_Task, rounds.Round]]) -> list[str]:
  """Returns the lines of a table with a row for each fault.

  Args:
    played: rounds that were played.
  """
  lines = [
    f'{"fault":<13}{"rounds":>7}{"starts":>8}{"survived":>10}{"broken":>8}'
    f'{"longest to the end":>20}'
  ]
  for name in dict.fromkeys(task.fault for task, _ in played):
    results = [result for task, result in played if task.fault == name]
    broken = sum(bool(result.broken) for result in results)
    seconds = max(result.seconds_to_end for result in results)
    lines.append(
      f'{name:<13}{len(results):>7}'
      f'{sum(result.num_starts for result in results):>8}'
      f'{len(results) - broken:>10}{broken:>8}'
      + (f'{seconds:>18.1f} s' if seconds else '')
    )
  return lines


def _describe_round(task: _Task, result: rounds.Round) -> str:
  label = f'{task.fault}, round {task.number + 1}, {task.stage}'
  if not result.broken:
    return f'{label}: survived ({"; ".join(result.events)})'
  broken = '\n  '.join(result.broken)
  return f'{label}: BROKEN, see {result.directory}\n  {broken}'


def _to_row(task: _Task, result: rounds.Round) -> dict:
  return {
    'fault': task.fault,
    'stage': task.stage,
    'seed': task.seed,
    'starts': result.num_starts,
    'seconds_to_end': result.seconds_to_end,
    'events': result.events,
    'broken': result.broken,
  }


if __name__ == '__main__':
  command_line.run_tool(main)
