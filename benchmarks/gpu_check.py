r"""Checks a GPU against the CPU, and looks for batches that are slow on it.

    python -m benchmarks.gpu_check --json=FILE
    python -m benchmarks.gpu_check --device=cpu --models=coatnet_mini \
        --batches=2,4 --image_size=32

First whether GPU and CPU agree in float32, with products in full precision:
logits, and the gradient of each parameter. Then whether the implementations of
attention agree with its definition, forward and backward, in bfloat16. Then how
long a train step takes, in bfloat16 on made-up images, for one batch after the
other: one that has far fewer images per second than the best is a cliff, which
is what a kernel for each channel would look like. Of each model first the batch
that says most. What the time does not suffice for is left out, and said.

It needs JAX, Flax and optax, but nothing that reads data and configs:
TensorFlow, grain, clu, ml-collections. docs/gpu.md says how to read it.
"""

import argparse
import dataclasses
import functools
import sys
import time

import jax

from benchmarks import figures_file
from benchmarks.gpu.agreement import (
  ATTENTION_TOLERANCE,
  GRADIENT_TOLERANCE,
  LOGITS_TOLERANCE,
  compare_attention,
  compare_with_cpu,
)
from benchmarks.gpu.batches import (
  find_cliffs,
  format_timings,
  group_timings,
  time_batches,
)
from benchmarks.versus.contestant import describe
from benchmarks.versus.task import Task
from coatnet_jax.arguments import (
  add_batch_sizes,
  add_names,
  add_number,
)
from coatnet_jax.errors import UserError
from coatnet_jax.models.variants import VARIANTS

_GRIDS = ((7, 7), (14, 14), (24, 24))
# What a check found, by its 'agrees'.
_OUTCOMES = {True: 'agree', False: 'DIFFER', None: 'not checked'}


def _create_parser() -> argparse.ArgumentParser:
  parser = figures_file.create_parser('gpu_check', __doc__)
  parser.add_argument(
    '--device',
    choices=('gpu', 'cpu'),
    default='gpu',
    help="what is checked; 'cpu' tries the program itself (%(default)s)",
  )
  add_names(
    parser,
    '--models',
    VARIANTS,
    default='coatnet_0_224,coatnet_0',
    help='variants, with commas between (%(default)s)',
  )
  add_batch_sizes(
    parser,
    '--batches',
    default='256,128,64,512,32,16',
    help='images of a step, what is most wanted first (%(default)s)',
  )
  add_number(
    parser,
    '--image_size',
    default=224,
    metavar='PIXELS',
    help='height and width of the images (%(default)s)',
  )
  add_number(
    parser,
    '--minutes',
    float,
    default=6.0,
    metavar='MINUTES',
    help='time after which nothing more is begun (%(default)s)',
  )
  return parser


def create_tasks(options: argparse.Namespace) -> list[Task]:
  """Returns the batches to time, what is most wanted first.

  Args:
    options: parsed command line, of `create_parser`.
  """
  kinds = [
    (model, attention)
    for attention in ('auto', 'cudnn')[: 2 if options.device == 'gpu' else 1]
    for model in options.models
  ]
  tasks = [
    Task(
      model=model,
      image_size=(options.image_size,) * 2,
      batch_size=batch,
      mode='train',
      dtype='bfloat16',
      device=options.device,
      attention=attention,
    )
    for batch in options.batches
    for model, attention in kinds
  ]
  # Of cuDNN's attention one batch says enough.
  return [
    task
    for task in tasks
    if task.attention == 'auto' or task.batch_size == options.batches[0]
  ]


def main(words: list[str]) -> int:
  """Runs the command line.

  Args:
    words: words of the command line after the program's name.

  Returns:
    The exit status: 1 if something differs, there is a cliff or a model has
    no time at all, else 0.

  Raises:
    UserError: there is no GPU, or an argument is wrong.
  """
  deadline = time.monotonic()
  options = _create_parser().parse_args(words)
  deadline += 60 * options.minutes
  tasks = create_tasks(options)
  try:
    device = jax.devices(options.device)[0]
  except RuntimeError as error:
    raise UserError(
      f'JAX finds no {options.device.upper()} here, but'
      f' {jax.default_backend()}: docs/gpu.md says what to install.'
      ' --device=cpu tries the program itself.'
    ) from error
  report = {
    **figures_file.describe_start('benchmarks.gpu_check', words),
    'device': device.device_kind,
    'jax': jax.__version__,
    'agreements': [],
    'timings': [],
  }
  _say(f'{report["date"]}, {device.device_kind}, jax {jax.__version__}\n')
  # Written each time: whatever ends this, what was found is kept.
  for agreement in _check(options, device, deadline):
    report['agreements'].append(agreement)
    figures_file.write(options.json, report)
  timings = []
  for timing in time_batches(tasks, deadline):
    task = timing.task
    timings.append(timing)
    _say(
      f'{task.model}, {task.batch_size} images, attention {task.attention}: '
      + (timing.error or f'{timing.images_per_second:,.0f} images/s')
    )
    report['timings'].append(dataclasses.asdict(timing))
    figures_file.write(options.json, report)
  _say(f'\n{format_timings(timings)}')
  cliffs = [c for group in group_timings(timings) for c in find_cliffs(group)]
  timed = {timing.task.model for timing in timings if timing.seconds}
  untimed = [name for name in options.models if name not in timed]
  if untimed:
    _say(f'\nNo train step was timed of {", ".join(untimed)}.')
  differ = any(found['agrees'] is False for found in report['agreements'])
  return 1 if differ or cliffs or untimed else 0


def _check(options, device, deadline):
  """Says and yields what agrees, what does not, and what was not checked."""
  checks = []
  for model in options.models:
    size = (options.image_size,) * 2
    checks.append(
      (
        f'{model}, float32, against the CPU',
        functools.partial(compare_with_cpu, model, size, device),
        {'logits': LOGITS_TOLERANCE, 'gradients': GRADIENT_TOLERANCE},
      )
    )
  implementations = ('xla', 'cudnn') if options.device == 'gpu' else ('xla',)
  for grid in _GRIDS if options.device == 'gpu' else _GRIDS[:1]:
    for name in implementations:
      checks.append(
        (
          f'attention {name}, {grid[0]}x{grid[1]} tokens',
          lambda grid=grid, name=name: {
            'attention': compare_attention(grid, name, device)
          },
          {'attention': ATTENTION_TOLERANCE},
        )
      )
  for what, check, tolerances in checks:
    differences, agrees, text = {}, None, 'the time is over'
    if time.monotonic() <= deadline:
      try:
        differences = check()
        agrees = all(differences[key] <= tolerances[key] for key in tolerances)
        text = ', '.join(
          f'{key} differ by {value:.1e} ({tolerances[key]:.0e} is allowed)'
          for key, value in differences.items()
        )
      except Exception as error:  # What else there is to check is checked.
        agrees, text = False, describe(error)
    _say(f'{_OUTCOMES[agrees]}: {what}: {text}')
    yield {'what': what, 'agrees': agrees, 'text': text, **differences}


def _say(text):
  print(text, flush=True)


if __name__ == '__main__':
  try:
    sys.exit(main(sys.argv[1:]))
  except UserError as error:
    sys.exit(f'Error: {error}')
