"""Compares the relative-attention kernel with XLA's operations, on TPUs.

    python -m tools.benchmark_attention
    python -m tools.benchmark_attention --chips=v4,v5e,v5p,v6e --grid=24x24
    python -m tools.benchmark_attention --train_step

Without a TPU it compiles for the chips and prints what their compiler says: no
number is measured. That needs libtpu: requirements-tpu-compiler.txt. How cycles
and bytes are counted, coatnet_jax/tpu_compiler/compiler_report.py explains.
On a machine with a TPU it times instead, as --measure does on any machine.

Cycles are millions; 'ms' is cycles at the chip's clock; 'of XLA' is cycles
relative to the better of the two forms without a kernel, 'xla' and 'reference'.
'temp' is HBM beside arguments and results. The floors are the time of the
matrix units with each head padded to their size in every product, and the time
to read and write queries, keys, values, results and their gradients once. The
kernel goes below the first at some sizes: where the probabilities are what a
matrix unit holds, a head of 32 is 32 rows that pass, and is not padded.

Each implementation has its arguments in the shape and layout that suit it best,
chosen by the compiler, as the projections around attention can give them:
[B, N, heads * head_dim] for the kernel, [B, N, heads, head_dim] for XLA.

--train_step compiles the whole train step of CoAtNet-0 (configs/coatnet_0.py,
224 px, 128 images, one chip) and prints the part of attention in its cycles: of
all that is computed in `relative_attention`; beside it stands the rest of the
attention layer but the matrix products of its two projections, so biases, and
whatever brings arrays into another layout. It takes 5 to 10 minutes for each
implementation, and 6 GB.

With --json: a list of objects with chip, grid, batch, heads, head_dim, dtype,
direction, implementation, cycles, kernel_cycles, milliseconds, of_xla,
hbm_bytes, temporary_bytes, largest_array_bytes (of what the program makes),
needed_bytes, product_floor_cycles and hbm_floor_cycles. Cycles and what follows
from them are null where the program does not fit into HBM. Where times are
measured: device, the same case, milliseconds (the median) and of_xla.
"""

import argparse
import dataclasses
import importlib.util
import re
import subprocess
import sys

import jax

from benchmarks.attention import figures
from benchmarks.attention.cases import CASES, DIRECTIONS, Case
from benchmarks.attention.tables import (
  ESTIMATED_COLUMNS,
  MEASURED_COLUMNS,
  TRAIN_STEP_COLUMNS,
  format_line,
  format_row,
)
from coatnet_jax.arguments import add_names, add_number
from coatnet_jax.errors import UserError
from coatnet_jax.strict_json import to_json
from coatnet_jax.tpu_compiler import topologies
from tools import command_line

IMPLEMENTATIONS = ('pallas', 'xla', 'reference')
DTYPES = ('bfloat16', 'float32')


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('benchmark_attention', __doc__)
  add_names(
    parser,
    '--chips',
    topologies.CHIPS,
    default='v5e',
    help=f'to compile for (v5e), of {",".join(topologies.CHIPS)}',
  )
  add_names(
    parser,
    '--implementations',
    IMPLEMENTATIONS,
    help=f'of relative attention, of {",".join(IMPLEMENTATIONS)}: all, but'
    " 'pallas' where times are measured without a TPU",
  )
  add_names(
    parser,
    '--directions',
    DIRECTIONS,
    default=','.join(DIRECTIONS),
    help=f'of {",".join(DIRECTIONS)} (both)',
  )
  parser.add_argument(
    '--grid',
    metavar='HxW',
    help='of tokens; with it one case of --batch (128), --heads (12) and'
    " --head_dim (32), without it the five that are CoAtNet-0's",
  )
  for name in ('batch', 'heads', 'head_dim'):
    add_number(parser, f'--{name}', help='with --grid alone')
  parser.add_argument(
    '--dtype',
    default='bfloat16',
    choices=DTYPES,
    help='type of arrays (bfloat16)',
  )
  parser.add_argument(
    '--measure',
    action='store_true',
    help='time on the devices there are, instead of compiling for others',
  )
  add_number(
    parser,
    '--repeats',
    default=20,
    help='runs of each, where times are measured (20)',
  )
  parser.add_argument(
    '--train_step',
    action='store_true',
    help="compile CoAtNet-0's train step for the first chip, with each of"
    " --implementations ('pallas' is what 'auto' chooses)",
  )
  command_line.add_json(parser)
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: an argument is out of its range, or libtpu is not installed.
  """
  options = create_parser().parse_args(arguments)
  chips, directions = options.chips, options.directions
  cases = resolve_cases(options)

  measures = options.measure or (not options.train_step and has_tpu())
  implementations = resolve_implementations(options, measures=measures)

  if measures:
    rows = figures.measure_cases(
      cases, implementations, directions, options.repeats
    )
    titles = MEASURED_COLUMNS
    header = f'Measured on {jax.devices()[0].device_kind}, one device.'
  else:
    # What is computed beside compiling; a TPU that is there may be busy.
    jax.config.update('jax_platforms', 'cpu')
    compiler = topologies.describe_compiler()
    header = f'Compiler estimate ({compiler}), not measured on a TPU.'
    if options.train_step:
      rows = figures.estimate_train_steps(chips[0], implementations)
      titles = TRAIN_STEP_COLUMNS
    else:
      rows = figures.estimate_cases(cases, chips, implementations, directions)
      titles = ESTIMATED_COLUMNS
  if options.json:
    command_line.show(to_json([*rows], indent=2))
    return 0
  command_line.show(header)
  command_line.show(
    format_line(titles, {name: name for name in titles if name != 'note'})
  )
  for row in rows:
    command_line.show(format_line(titles, format_row(row)))
  return 0


def has_tpu() -> bool:
  """Returns whether JAX finds a TPU on this machine.

  Another process looks: this one has to set up the compiler first, before
  anything loads libtpu.
  """
  if importlib.util.find_spec('libtpu') is None:
    return False
  process = subprocess.run(
    [sys.executable, '-c', 'import jax; print(jax.default_backend())'],
    capture_output=True,
    text=True,
    check=False,
  )
  return process.stdout.strip() == 'tpu'


def resolve_implementations(
  options: argparse.Namespace, *, measures: bool
) -> list[str]:
  """Returns what the command line asks for.

  Args:
    options: parsed command line.
    measures: whether programs are to run on this machine.

  Raises:
    UserError: an implementation does not run here.
  """
  runnable = list(IMPLEMENTATIONS)
  if measures and not has_tpu():
    runnable.remove('pallas')
  if options.implementations is None:
    return runnable
  for name in options.implementations:
    if name not in runnable:
      raise UserError(f'{name!r} runs on TPUs; this machine has none.')
  return options.implementations


def resolve_cases(options: argparse.Namespace) -> list[Case]:
  """Returns what the command line asks for.

  Raises:
    UserError: a size that is none, or one that needs --grid.
  """
  sizes = {name: getattr(options, name) for name in ('batch', 'heads')}
  sizes['head_dim'] = options.head_dim
  given = {name: size for name, size in sizes.items() if size is not None}
  if options.grid is None:
    if given:
      raise UserError(f'--{next(iter(given))} needs --grid: give both.')
    return [dataclasses.replace(case, dtype=options.dtype) for case in CASES]
  grid = re.fullmatch(r'(\d{1,4})x(\d{1,4})', options.grid, re.ASCII)
  grid = (int(grid[1]), int(grid[2])) if grid else (0, 0)
  if min(grid) < 1:
    raise UserError(
      f'--grid is {options.grid!r}; it must be HEIGHTxWIDTH, 14x14.'
    )
  for name, size in given.items():
    if size < 1:
      raise UserError(f'--{name} is {size}; it must be at least 1.')
  sizes = {'batch': 128, 'heads': 12, 'head_dim': 32, **given}
  return [Case(grid=grid, dtype=options.dtype, **sizes)]


if __name__ == '__main__':
  command_line.run_tool(main)
