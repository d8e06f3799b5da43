r"""Plans a run on TPUs without one: what it needs, and how long it takes.

    python -m tools.plan --config=configs/coatnet_0.py --topology=v5e-16
    python -m tools.plan --config=configs/coatnet_4.py:imagenet21k \
        --topology=v5e-256 --slices=2 --config.model.remat=blocks
    python -m tools.plan ... --find_batch
    python -m tools.plan ... --compare=remat,fsdp=1:8:64

Compiles the train step of train.py for the slice with the TPU's own compiler,
which runs on any machine (requirements-tpu-compiler.txt), and prints one page.
All of it is the compiler's estimate, or follows from it; nothing is measured on
a TPU. docs/pods.md says how to read it. A whole CoAtNet-0 takes 6 minutes on
two cores and 5 GB; --config.model.scan_blocks=True is quicker.

No data are needed: how many images and classes a config's data set has is known
of the usual ones; --train_examples and --num_classes say it of others. Model
and image size are those of the weights that config.init_from names, where the
config follows them.

--find_batch compiles several times, to find the largest batch per chip that
fits. --compare compiles each choice alone and shows them side by side: NAME for
the usual values, NAME=VALUE:VALUE for others.

--save_compiled=FILE keeps the compiled program, for a pod to load instead of
compiling (config.compiled_train_step=FILE), where versions, devices, shapes and
all else are the same.
"""

import argparse
import contextlib
import dataclasses
from collections.abc import Iterable

import jax
from ml_collections import ConfigDict

from coatnet_jax import compilation_cache
from coatnet_jax.arguments import add_number
from coatnet_jax.config_flag import add_config, load_config, parse_with_config
from coatnet_jax.errors import UserError
from coatnet_jax.planning import (
  plan_config,
  plan_page,
  plan_program,
  plan_search,
)
from coatnet_jax.planning.plan_page import Plan, Target
from coatnet_jax.run import Run
from coatnet_jax.strict_json import to_json
from coatnet_jax.tpu_compiler import compiled_step, topologies
from tools import command_line

# Characters for what is special about a plan: 'remat=expansions (config)'.
_LABEL_WIDTH = 25


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line, without --config.KEY."""
  parser = command_line.create_bare_parser('plan', __doc__)
  add_config(parser)
  parser.add_argument(
    '--topology', required=True, metavar='NAME', help='the slice: v5e-256'
  )
  add_number(parser, '--slices', default=1, help='number of equal slices (1)')
  for name, what in (
    ('train_examples', 'images to train with'),
    ('num_classes', 'classes'),
  ):
    add_number(parser, f'--{name}', help=f'{what}, of data of your own')
  parser.add_argument(
    '--find_batch',
    action='store_true',
    help='find the largest batch that fits, by compiling',
  )
  parser.add_argument(
    '--compare',
    metavar='NAMES',
    help=f'choices side by side, of {",".join(plan_search.CHOICES)}',
  )
  command_line.add_path(
    parser,
    '--save_compiled',
    command_line.parse_path,
    metavar='FILE',
    help='keep the compiled train step',
  )
  command_line.add_json(parser)
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Returns:
    The exit status: 0, or 1 where the step does not fit.

  Raises:
    UserError: what the user can put right.
  """
  options, changes = parse_with_config(create_parser(), arguments)
  target = Target(
    slice=topologies.get_slice(options.topology), num_slices=options.slices
  )
  choices = (
    plan_search.parse_choices(options.compare) if options.compare else []
  )
  if options.save_compiled and (options.find_batch or choices):
    raise UserError('--save_compiled keeps one program: give it alone.')
  if options.save_compiled:
    compiled_step.check_target(options.save_compiled)
  config = load_config(options.config, changes)
  # What is computed beside compiling; a TPU that is there may be busy.
  jax.config.update('jax_platforms', 'cpu')
  topologies.start_compiler()
  sources = plan_config.find_sources(
    config, options.train_examples, options.num_classes
  )
  config, taken_over = plan_config.follow_weights(config)
  for line in taken_over:
    command_line.say(line)
  name = options.config

  def plan_run(run: Run) -> Plan:
    with contextlib.ExitStack() as stack:
      if options.save_compiled:
        stack.enter_context(compilation_cache.switched_off())
      step = plan_program.compile_step(run)
    if options.save_compiled and step.compiled is not None:
      compiled_step.save_compiled(
        options.save_compiled, step.lowered, step.compiled, run.mesh
      )
    return plan_program.create_plan(step, target)

  def plan(config: ConfigDict) -> Plan:
    return plan_run(plan_program.resolve_run(config, target, sources))

  if choices:
    show_several(plan_search.compare(config, choices, plan), name, options.json)
    return 0
  run = plan_program.resolve_run(config, target, sources)
  if options.find_batch:
    tried = plan_search.find_batch(config, run, plan)
    best = show_several(
      ((f'{p.per_chip_batch_size:g} per chip', p) for p in tried),
      name,
      options.json,
    )
    if not options.json:
      command_line.show('\n' + plan_page.format_page(best, name))
    return 0
  return show_one(plan_run(run), run, name, options.json)


def show_one(plan: Plan, run: Run, name: str, as_json: bool) -> int:
  """Prints a plan; returns 1 where it does not fit."""
  suggestions = [] if plan.fits else plan_search.suggest(plan, run)
  if as_json:
    row = dataclasses.asdict(plan) | {'suggestions': suggestions}
    command_line.show(to_json(row, indent=2))
  else:
    command_line.show(plan_page.format_page(plan, name))
    if suggestions:
      command_line.show(
        'By arithmetic, not compiled, one of these may fit; --find_batch finds'
        ' out:\n' + '\n'.join(f'  --{line}' for line in suggestions)
      )
  return 0 if plan.fits else 1


def show_several(
  plans: Iterable[tuple[str, Plan]], name: str, as_json: bool
) -> Plan:
  """Prints plans side by side, each when it is there; returns the last.

  Args:
    plans: pairs of a label, what is special of the plan, and the plan.
    name: name of the config.
    as_json: whether to print a list of objects in the end instead.
  """
  rows, plan = [], None
  for label, plan in plans:
    rows.append({'choice': label} | dataclasses.asdict(plan))
    if as_json:
      continue
    if len(rows) == 1:
      command_line.show(f'Plans of {name} on {plan.target}')
      command_line.show(
        f'Compiler estimate ({plan.compiler}), not measured on a TPU.\n'
      )
      command_line.show(plan_page.format_titles(_LABEL_WIDTH))
    command_line.show(plan_page.format_row(label, plan, _LABEL_WIDTH))
  if as_json:
    command_line.show(to_json(rows, indent=2))
  return plan


if __name__ == '__main__':
  command_line.run_tool(main)
