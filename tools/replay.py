"""Takes a step of a run again, and says where its numbers stop being finite.

    python -m tools.replay --workdir=WORKDIR --step=N

It begins at the newest checkpoint before the step, takes the steps from there,
and the last one apart: what every module puts out, the loss, the gradients and
the new statistics. Nothing is written. A step that is finite is shown too.

The images are those of the run's data, or of WORKDIR/diverged, where a run that
diverged keeps the batch. On as many devices of the same kind as the run had,
the numbers are the run's to the bit.

Exit status: 0 where the step is finite, 1 where not.

With --json: one object with step, checkpoint (of which step the way began at),
has_kept_batch, begins (where it stops being finite, or empty), loss, metrics,
before and after (arrays of the state that are not finite), and lists forward,
statistics and gradients of objects with name, not_finite, largest and norm.
"""

import argparse
import dataclasses
import logging
import math
from collections.abc import Iterator

from etils import epath
from ml_collections import ConfigDict

from coatnet_jax import terminal
from coatnet_jax.arguments import add_number
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.errors import UserError
from coatnet_jax.initial_state import (
  check_same_data,
  prepare_first_state,
  prepare_train_state,
)
from coatnet_jax.replay import replaying
from coatnet_jax.replay.examination import Examination, StepFunctions
from coatnet_jax.run import Run, create_run
from coatnet_jax.strict_json import to_json
from coatnet_jax.training import workdir as workdir_lib
from tools import command_line


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('replay', __doc__)
  command_line.add_workdir(parser)
  add_number(
    parser,
    '--step',
    required=True,
    help='number of the step, as the run tells it',
  )
  command_line.add_json(parser)
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: there is no run, it has no such step, or its data or weights are
      not there any more.
  """
  options = create_parser().parse_args(arguments)
  workdir = str(options.workdir)
  terminal.begin('reading the data set')
  run = open_run(options.workdir)
  if options.step > run.training.num_steps:
    raise UserError(
      f'--step is {options.step}; it must be one of the'
      f' {run.training.num_steps:,} steps of the run.'
    )
  if changed := check_same_data(run, workdir):
    command_line.say(
      f'The data have changed since: {changed}. Steps that are taken again, and'
      ' a batch that was not kept, are of other images.'
    )
  examination = replay_step(run, workdir, options.step)
  if options.json:
    begins = {'begins': examination.find_origin()}
    command_line.show(
      to_json(begins | dataclasses.asdict(examination), indent=2)
    )
  else:
    for line in describe(examination, options.step):
      command_line.show(line)
  return int(bool(examination.find_origin()))


def open_run(workdir: epath.Path) -> Run:
  """Returns the run of a workdir, on the devices that there are.

  Args:
    workdir: directory of the run.

  Raises:
    UserError: there is none, or its data are not there.
  """
  if not workdir_lib.is_claimed(str(workdir)):
    raise UserError(
      f'--workdir={workdir} has no {workdir_lib.CONFIG_FILE}; give the'
      ' --workdir of a run.'
    )
  values = workdir_lib.read_config(str(workdir))
  for section in ('data', 'sharding'):
    if not isinstance(values.get(section), dict):
      raise UserError(
        f'{workdir / workdir_lib.CONFIG_FILE} has no section {section!r}; it is'
        ' damaged, or is not one of this program.'
      )
  # Images may have changed, which is said; and the program is compiled here.
  values['data']['changed'] = 'accept'
  values['compiled_train_step'] = ''
  try:
    mesh_lib.create_mesh(**values['sharding'])
  except UserError:
    values['sharding'] = {'replica': -1, 'data': -1, 'fsdp': 1, 'tensor': 1}
  return create_run(ConfigDict(values))


def replay_step(run: Run, workdir: str, step: int) -> Examination:
  """Takes the step of a run apart; see `replaying.replay_step`."""
  import train  # Here, because it takes seconds.

  terminal.begin('preparing the model')
  # A run that resumes needs nothing of what it started from; one that is taken
  # again from its first step does.
  create_state, abstract_state, _ = (
    prepare_train_state(run, workdir)
    if replaying.find_checkpoint_before(workdir, step)
    else prepare_first_state(run)
  )
  terminal.begin('compiling the train step')
  take_step = train.compile_train_step(run, abstract_state, logging.info)
  return replaying.replay_step(
    run,
    workdir,
    step,
    StepFunctions(train.prepare_inputs, train.compute_gradients, take_step),
    create_state,
    abstract_state,
  )


def describe(found: Examination, wanted: int) -> Iterator[str]:
  """Yields the lines of a table for people.

  Args:
    found: step that was taken apart.
    wanted: number of the step that was asked for.
  """
  if found.step != wanted:
    yield f'An earlier step than {wanted:,} is not finite already.'
  start = (
    f'the checkpoint of step {found.checkpoint:,}'
    if found.checkpoint
    else 'the start of the run'
  )
  taken = found.step - 1 - found.checkpoint
  more = '' if taken == 1 else 's'
  yield f'step        {found.step:,}, {taken:,} step{more} after {start}'
  yield 'batch       ' + (
    'kept when the run diverged'
    if found.has_kept_batch
    else 'made anew of the data'
  )
  for name in ('loss', 'learning_rate', 'gradient_norm', 'parameter_norm'):
    value = found.loss if name == 'loss' else found.metrics[name]
    yield f'{name.replace("_", " "):15} {value:.6g}'
  if found.metrics.get('skipped'):
    yield 'skipped         the step changed nothing'
  parts = summarize_parts(found)
  yield ''
  yield (
    f'{"":20} {"largest output":>14} {"gradient norm":>14} {"not finite":>11}'
  )
  for part, (largest, norm, count) in parts.items():
    shown = '' if norm is None else f'{norm:.4g}'
    yield f'{part:20} {largest:>14.4g} {shown:>14} {count:>11,}'
  yield ''
  origin = found.find_origin()
  yield f'It begins {origin}.' if origin else 'Everything is finite.'


def summarize_parts(
  found: Examination,
) -> dict[str, tuple[float, float | None, int]]:
  """Returns of each part of the model what a line of the table says.

  Args:
    found: step that was taken apart.

  Returns:
    Largest output, norm of the gradients (None without parameters), and how
    many outputs, gradients and statistics are not finite, by the part's name,
    such as 's1_block_0', in the order in which they are computed.
  """
  parts = {}
  for numbers in (*found.forward, *found.gradients, *found.statistics):
    parts.setdefault(numbers.name.split('/')[0], []).append(numbers)
  forward, gradients = set(found.forward), set(found.gradients)
  return {
    part: (
      max((n.largest for n in members if n in forward), default=0.0),
      math.hypot(*(n.norm for n in members if n in gradients))
      if gradients.intersection(members)
      else None,
      sum(n.not_finite for n in members),
    )
    for part, members in parts.items()
  }


if __name__ == '__main__':
  command_line.run_tool(main)
