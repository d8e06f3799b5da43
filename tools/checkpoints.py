"""Lists a run's checkpoints, verifies them, and repairs what can be.

    python -m tools.checkpoints --workdir=WORKDIR
    python -m tools.checkpoints --workdir=WORKDIR --repair

Every file is read and compared with its checksum: BLAKE3, or SHA-256 where an
older version wrote it. --repair brings back what was put aside and is whole,
mends the files that arrays do not depend on, writes config.json anew from a
checkpoint where it is missing or damaged, and puts aside what is damaged; it
deletes nothing. docs/reliability.md says what a run does by itself.

Exit status: 0 where everything that is in use is whole, config.json too; 1
where not, or where nothing is left but what was put aside.

With --json: a list of objects with path, step, num_bytes, metrics, damage (what
is wrong by the name of a file), is_verified and is_aside.
"""

import os

# Files are read, and nothing is computed.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import argparse

import humanize
from etils import epath
from ml_collections import ConfigDict

from coatnet_jax import terminal
from coatnet_jax.checkpoints import checksums, folder, inspection
from coatnet_jax.checkpoints.metadata import restore_metadata
from coatnet_jax.errors import UserError
from coatnet_jax.strict_json import to_json
from coatnet_jax.training import lease
from coatnet_jax.training.workdir import find_config_problem, replace_config
from tools import command_line


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('checkpoints', __doc__)
  command_line.add_workdir(parser)
  parser.add_argument(
    '--repair', action='store_true', help='put right what can be'
  )
  command_line.add_json(parser)
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: there are no checkpoints, or a run is using the workdir that is
      to be repaired.
  """
  options = create_parser().parse_args(arguments)
  workdir = options.workdir
  if not (workdir / 'checkpoints').is_dir():
    raise UserError(
      f'--workdir={workdir} has no checkpoints; give the --workdir of a run.'
    )
  if options.repair:
    terminal.begin('repairing checkpoints')
    with lease.hold(workdir, command_line.say):
      for line in inspection.repair_checkpoints(workdir):
        command_line.say(line)
      if problem := find_config_problem(workdir):
        source = repair_config(workdir)
        command_line.say(f'{problem}; it is written anew from {source}.')
  terminal.begin('verifying checkpoints')
  found = inspection.inspect_checkpoints(workdir)
  if options.json:
    values = [{**vars(one), 'path': str(one.path)} for one in found]
    command_line.show(to_json(values, indent=2))
  else:
    for one in found:
      command_line.show(describe(one))
    if not found:
      command_line.show(f'{workdir} has no checkpoint yet.')
  if problem := find_config_problem(workdir):
    command_line.say(f'{problem}: without it the run cannot be resumed.')
  in_use = [one for one in found if not one.is_aside]
  if found and not in_use:
    command_line.say(
      f'No checkpoint of {workdir} is whole: restore one from a backup, or'
      ' start the run again, from its first step.'
    )
    return 1
  return int(bool(problem) or any(one.damage for one in in_use))


def repair_config(workdir: epath.Path) -> epath.Path:
  """Writes the config of a run anew, from its newest checkpoint that has one.

  Args:
    workdir: directory of the run.

  Returns:
    The directory of the checkpoint.

  Raises:
    UserError: no checkpoint has one, or it cannot be written.
  """
  directory = workdir / 'checkpoints'
  for step in reversed(folder.find_steps(directory)):
    try:
      metadata = restore_metadata(directory / str(step))
    except UserError:
      continue
    replace_config(workdir, ConfigDict(metadata.config))
    return directory / str(step)
  raise UserError(
    f'{find_config_problem(workdir)}, and no checkpoint is left that has its'
    ' content: restore the file from a backup, or start again in a new'
    ' --workdir.'
  )


def describe(found: inspection.Inspected) -> str:
  """Returns a line about a checkpoint.

  Args:
    found: checkpoint that was looked at.
  """
  if found.damage:
    state = f'DAMAGED: {checksums.describe_damage(found.damage)}'
  elif found.is_verified:
    state = 'whole'
  else:
    state = 'of an older version, without checksums'
  top1 = found.metrics.get('top1')
  size = humanize.naturalsize(found.num_bytes, binary=True)
  return (
    f'step {found.step:>9,}  {size:>10}  '
    + (f'top-1 {top1:7.2%}' if top1 is not None else 'not evaluated')
    + f'  {state}'
    + f', put aside in {found.path}' * found.is_aside
  )


if __name__ == '__main__':
  command_line.run_tool(main)
