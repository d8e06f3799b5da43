r"""Compares this project with timm on the same model, batch and machine.

    python -m benchmarks.versus_timm
    python -m benchmarks.versus_timm --models=coatnet_2_rw_224 \
        --batch=64,128 --dtype=bfloat16
    python -m benchmarks.versus_timm --inference --json=FILE
    python -m benchmarks.versus_timm --inference --onnx

Three contestants: this project's own train step (or its inference), timm's
model as PyTorch runs it, and the same by torch.compile; timm's are in channels
last with fused AdamW. The weights differ, shapes and number of parameters do
not, which is checked. In training: softmax cross-entropy, AdamW with the same
settings, no augmentation, no stochastic depth, nothing read from a disk.

Each is a process of its own that stays alive; they take turns, so that only one
computes at a time and what slows the machine for a while slows all. A turn is
at least 4 steps, after one that does not count. The ratio is taken within each
round; shown are its median and quartiles. 'first step' is what it takes with
compiling, nothing of which is kept from an earlier start. 'peak memory' is the
device's on a GPU, by each framework's own count, and else the process's.

A contestant that fails or takes too long has the reason in its row, and the
others go on. For timm: requirements-parity.txt, which needs no torchvision.
"""

import argparse
import dataclasses
import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence

from benchmarks import figures_file, stand_ins
from benchmarks.versus import tables, turns
from benchmarks.versus.task import Task
from coatnet_jax.arguments import (
  add_batch_sizes,
  add_names,
  add_number,
)
from coatnet_jax.errors import UserError
from coatnet_jax.models import timm_variants
from coatnet_jax.models.variants import get_variant

# A file that NVIDIA's driver makes, but for WSL2's.
_GPU = pathlib.Path('/dev/nvidiactl')
_DTYPES = ('float32', 'bfloat16')
_INSTALL = (
  'pip install -r requirements-parity.txt && pip install --no-deps timm==1.0.31'
)


def _create_parser() -> argparse.ArgumentParser:
  parser = figures_file.create_parser('versus_timm', __doc__)
  parser.add_argument(
    '--device',
    choices=('cpu', 'gpu'),
    help=f"what computes (gpu where NVIDIA's driver has made {_GPU}, else cpu)",
  )
  add_names(
    parser,
    '--models',
    timm_variants.VARIANTS,
    default='coatnet_0_224',
    help='models of timm, with commas between (%(default)s)',
  )
  add_batch_sizes(
    parser,
    '--batch',
    help='images of a step, with commas between (8 on a CPU, 128 on a GPU)',
  )
  modes = parser.add_mutually_exclusive_group()
  for mode, text in (
    ('train', 'compare whole train steps, as is done without this'),
    ('inference', 'compare images to logits'),
  ):
    modes.add_argument(
      f'--{mode}', dest='mode', action='store_const', const=mode, help=text
    )
  parser.add_argument(
    '--onnx',
    action='store_true',
    help='also run the exported model by ONNX Runtime (--inference on a CPU in'
    ' float32; requirements-export.txt)',
  )
  parser.add_argument(
    '--dtype',
    choices=_DTYPES,
    help='compute dtype (float32 on a CPU, bfloat16 on a GPU)',
  )
  add_number(parser, '--rounds', default=9, help='most rounds (%(default)s)')
  add_number(
    parser,
    '--minutes',
    float,
    default=7.5,
    metavar='MINUTES',
    help='most time for one model and batch; fewer rounds are made where it'
    ' would not do (%(default)s)',
  )
  return parser


def main(words: list[str]) -> int:
  """Runs the command line; returns the exit status.

  Args:
    words: words of the command line after the program's name.

  Raises:
    UserError: torch or timm is missing, or an argument is wrong.
  """
  options = _create_parser().parse_args(words)
  tasks = create_tasks(options)
  check_installed('onnxruntime' if options.onnx else None)
  start = figures_file.describe_start('benchmarks.versus_timm', words)
  comparisons = []
  for task in tasks:
    print(f'{task.describe()}\n', flush=True)
    with tempfile.TemporaryDirectory() as folder:
      rows = turns.compare(
        create_contestants(task, pathlib.Path(folder), with_onnx=options.onnx),
        max_rounds=options.rounds,
        max_seconds=60 * options.minutes,
        report=_report,
      )
    results = tables.summarise(rows, task)
    print(
      describe_machine(results, start), tables.format_table(results), sep='\n\n'
    )
    print()
    comparisons.append({'task': dataclasses.asdict(task), 'results': results})
    figures_file.write(options.json, start | {'comparisons': comparisons})
  return int(any(not c['results'][0]['seconds_per_step'] for c in comparisons))


def create_tasks(options: argparse.Namespace) -> list[Task]:
  """Returns what the command line asks for.

  Raises:
    UserError: --onnx is not for what is asked for.
  """
  # Where a GPU is asked for, the frameworks say whether they find one.
  device = options.device or ('gpu' if _GPU.exists() else 'cpu')
  dtype = options.dtype or {'cpu': 'float32', 'gpu': 'bfloat16'}[device]
  mode = options.mode or 'train'
  if options.onnx and (mode, device, dtype) != ('inference', 'cpu', 'float32'):
    raise UserError(
      f'--onnx is for inference on a CPU in float32, and this is {mode} on a'
      f' {device.upper()} in {dtype}: add --inference --device=cpu'
      ' --dtype=float32, or leave out --onnx.'
    )
  return [
    Task(
      model=model,
      image_size=get_variant(model).image_size,
      batch_size=batch_size,
      mode=mode,
      dtype=dtype,
      device=device,
    )
    for model in options.models
    for batch_size in options.batch or {'cpu': [8], 'gpu': [128]}[device]
  ]


def check_installed(exporter: str | None = None) -> None:
  """Raises UserError where torch, timm or what runs an export is missing.

  Args:
    exporter: package that runs the exported model; None where nothing does.
  """
  if exporter and not stand_ins.is_installed(exporter):
    raise UserError(
      f'{exporter} is not installed, which --onnx runs the model by: pip'
      ' install -r requirements-export.txt, or leave out --onnx.'
    )
  missing = [
    name for name in ('torch', 'timm') if not stand_ins.is_installed(name)
  ]
  if missing:
    raise UserError(
      f'{" and ".join(missing)} {"are" if len(missing) > 1 else "is"} not'
      f' installed, which this project is compared with: {_INSTALL}'
    )


def create_contestants(
  task: Task, folder: pathlib.Path, *, with_onnx: bool = False
) -> list[turns.Contestant]:
  """Returns this project, timm eager and timm compiled, not started yet.

  Args:
    task: model, batch, dtype and mode that all are to compute.
    folder: directory for what they write to stderr.
    with_onnx: whether ONNX Runtime is one of them.
  """
  environment = create_environment(task.device)
  argument = task.to_json()
  return [
    turns.Contestant(
      name,
      [sys.executable, '-m', f'benchmarks.versus.{module}', *words, argument],
      environment,
      folder / name,
    )
    for name, module, *words in (
      ('this project', 'ours'),
      ('timm, eager', 'timms', 'eager'),
      ('timm, compiled', 'timms', 'compiled'),
      *([('ONNX Runtime', 'onnx_runtime')] if with_onnx else []),
    )
  ]


def create_environment(device: str) -> dict[str, str]:
  """Returns the environment of every contestant.

  Args:
    device: kind of device that computes, 'cpu' or 'gpu'.
  """
  environment = {
    **os.environ,
    'JAX_PLATFORMS': {'cpu': 'cpu', 'gpu': 'cuda'}[device],
    # None takes the whole GPU, or compiles less than the others.
    'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
    'TORCHINDUCTOR_FORCE_DISABLE_CACHES': '1',
  }
  if device == 'cpu':
    environment['CUDA_VISIBLE_DEVICES'] = ''
    # As main.py starts itself.
    environment.setdefault('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1')
  return environment


def describe_machine(results: Sequence[dict], start: dict) -> str:
  """Returns what was measured on, and with which versions, in a line.

  Args:
    results: results of one comparison, from `tables.summarise`.
    start: date, command and load before the start, of
      `figures_file.describe_start`.
  """
  versions = {}
  for result in results:
    versions.update(result.get('versions', {}))
  devices = dict.fromkeys(r['device'] for r in results if 'device' in r)
  return ', '.join(
    [
      f'Measured {start["date"]} on {" / ".join(devices)}',
      figures_file.describe_processor(start),
      *(f'{name} {version}' for name, version in versions.items()),
    ]
  )


def _report(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


if __name__ == '__main__':
  try:
    sys.exit(main(sys.argv[1:]))
  except UserError as error:
    sys.exit(f'Error: {error}')
