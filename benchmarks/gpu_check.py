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
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import figures_file
from benchmarks.versus.contestant import describe
from benchmarks.versus.ours import Ours
from benchmarks.versus.task import Task
from coatnet_jax.arguments import add_number, create_parser
from coatnet_jax.errors import UserError, explain_choice
from coatnet_jax.models.factory import create_model
from coatnet_jax.models.variables import create_variables
from coatnet_jax.models.variants import VARIANTS
from coatnet_jax.ops.relative_attention import relative_attention

# What GPU and CPU may differ by: logits of their range; a gradient of its
# largest value, or of a hundredth of the largest of all, where it is next to 0.
LOGITS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
_NEXT_TO_NOTHING = 0.01
# Of bfloat16, whose numbers have eight digits in base two.
ATTENTION_TOLERANCE = 0.03
# Of the best batch's images per second, for batches above 64.
CLIFF = 0.8
_LARGEST_UNCHECKED_BATCH = 64

_GRIDS = ((7, 7), (14, 14), (24, 24))
_SECONDS_PER_TURN = 3.0
# What a check found, by its 'agrees'.
_OUTCOMES = {True: 'agree', False: 'DIFFER', None: 'not checked'}


@dataclasses.dataclass(frozen=True)
class Timing:
  """How long the train step of one batch takes.

  Attributes:
    task: model, batch and dtype of the step that was timed.
    first_call_seconds: time of the first step, with compiling.
    seconds: time of a step; None where there is none.
    peak_bytes: most memory used so far by any batch, if the device says it.
    error: why there is no time, or ''.
  """

  task: Task
  first_call_seconds: float | None = None
  seconds: float | None = None
  peak_bytes: int | None = None
  error: str = ''

  @property
  def images_per_second(self) -> float:
    """Returns 0 where there is no time."""
    return self.task.batch_size / self.seconds if self.seconds else 0.0


def compare_with_cpu(
  name: str, image_size: tuple[int, int], device: jax.Device
) -> dict[str, float]:
  """Returns what a model's results on a device differ by from the CPU's.

  Args:
    name: name of the variant, as `create_model` takes it.
    image_size: (height, width) in pixels.
    device: device whose results are compared with the CPU's.

  Returns:
    'logits', of their range, and 'gradients', the worst parameter's.
  """
  model = create_model(name)
  cpu = jax.devices('cpu')[0]
  rng = np.random.default_rng(0)
  images = rng.normal(size=(2, *image_size, 3)).astype(np.float32)

  def compute(params, batch_stats, images):
    def compute_loss(params):
      logits, _ = model.apply(
        {'params': params, 'batch_stats': batch_stats},
        images,
        train=True,
        mutable=['batch_stats'],
        rngs={'dropout': jax.random.key(0)},
      )
      # No row of weights is constant: a softmax would not see that.
      weights = jnp.cos(jnp.arange(logits.size)).reshape(logits.shape)
      return (weights * logits).mean(), logits

    (_, logits), gradients = jax.value_and_grad(compute_loss, has_aux=True)(
      params
    )
    return logits, gradients

  with jax.default_device(cpu), jax.default_matmul_precision('highest'):
    variables = jax.jit(functools.partial(create_variables, model, image_size))(
      jax.random.key(0)
    )
    results = []
    for where in (cpu, device):
      arguments = jax.device_put(
        (variables['params'], variables['batch_stats'], images), where
      )
      results.append(jax.device_get(jax.jit(compute)(*arguments)))
  (expected, expected_gradients), (found, gradients) = results
  return {
    'logits': float(np.abs(found - expected).max() / np.ptp(expected)),
    'gradients': compare_gradients(gradients, expected_gradients),
  }


def compare_gradients(found: Any, expected: Any) -> float:
  """Returns the largest difference of any array, as a part of its values.

  It is NaN if any is.

  >>> compare_gradients({'a': np.ones(2)}, {'a': np.array([1.0, 0.5])})
  0.5

  Args:
    found: tree of NumPy arrays of any shapes, the ones to be judged.
    expected: tree of arrays, what they should be.
  """
  largest = jax.tree.map(lambda x: np.abs(x).max(), expected)
  least = _NEXT_TO_NOTHING * np.max(jax.tree.leaves(largest))
  differences = jax.tree.map(
    lambda f, e, scale: np.abs(f - e).max() / max(scale, least),
    *(found, expected, largest),
  )
  # Python's own `max` passes over a NaN that is not the first.
  return float(np.max(jax.tree.leaves(differences)))


def compare_attention(
  grid: tuple[int, int], implementation: str, device: jax.Device
) -> float:
  """Returns how far attention is from its definition, with its gradients.

  Args:
    grid: (H, W), the numbers of rows and columns of tokens.
    implementation: form of attention, which computes in bfloat16.
    device: device whose results are compared with the CPU's.

  Returns:
    The largest difference of output and gradients, each of its largest value;
    NaN if any is.
  """
  height, width = grid
  rng = np.random.default_rng(0)
  tokens = (8, height * width, 12, 32)
  table = (12, 2 * height - 1, 2 * width - 1)
  q, k, v, grad = (
    jnp.asarray(rng.normal(size=tokens), jnp.bfloat16) for _ in range(4)
  )
  bias_table = jnp.asarray(rng.normal(size=table), jnp.float32)

  @functools.partial(jax.jit, static_argnames=('name', 'dtype'))
  def differentiate(q, k, v, bias_table, grad, *, name, dtype):
    q, k, v, grad = (x.astype(dtype) for x in (q, k, v, grad))
    out, pullback = jax.vjp(
      functools.partial(relative_attention, grid=grid, implementation=name),
      *(q, k, v, bias_table),
    )
    return [x.astype(jnp.float32) for x in (out, *pullback(grad))]

  operands = jax.device_put((q, k, v, bias_table, grad), device)
  found = differentiate(*operands, name=implementation, dtype='bfloat16')
  with jax.default_matmul_precision('highest'):
    expected = differentiate(*operands, name='reference', dtype='float32')
  differences = [
    jnp.abs(f - e).max() / jnp.abs(e).max()
    for f, e in zip(found, expected, strict=True)
  ]
  return float(np.max(differences))


def time_batches(
  tasks: Sequence[Task],
  deadline: float,
  *,
  clock: Callable[[], float] = time.monotonic,
  create: Callable[[Task], Ours] = Ours,
) -> Iterator[Timing]:
  """Times train steps, one batch after the other, until the time is over.

  Args:
    tasks: batches to time, what is most wanted first.
    deadline: time of the clock that none is begun after which the longest so
      far would not end before.
    clock: function that returns the time in seconds, for tests.
    create: function that makes what takes a task's steps.
  """
  longest = 0.0
  for task in tasks:
    start = clock()
    if start + longest > deadline:
      yield Timing(task, error='not begun: the time is over')
      continue
    try:
      yield _time_batch(create(task))
    except Exception as error:  # Out of memory, or it does not compile.
      yield Timing(task, error=describe(error))
    gc.collect()  # What it held of the device's memory.
    longest = max(longest, clock() - start)


def _time_batch(ours):
  ours.prepare()
  compiled = ours.compile()
  steps = max(1, int(_SECONDS_PER_TURN / compiled['seconds']))
  seconds = ours.turn(steps)['seconds'] if steps > 1 else compiled['seconds']
  return Timing(
    ours.task, compiled['first_call_seconds'], seconds, ours.peak_bytes()
  )


def find_cliffs(timings: Sequence[Timing]) -> list[Timing]:
  """Returns the batches above 64 that are far slower than a model's best.

  Args:
    timings: timings of one model at several batch sizes.
  """
  best = max((t.images_per_second for t in timings), default=0.0)
  return [
    timing
    for timing in timings
    if timing.seconds
    and timing.task.batch_size > _LARGEST_UNCHECKED_BATCH
    and timing.images_per_second < CLIFF * best
  ]


def format_timings(timings: Sequence[Timing]) -> str:
  """Returns a table in Markdown, by model, attention and batch.

  Args:
    timings: timings of all models at all batch sizes.
  """
  lines = [
    '| model | attention | images | ms | images/s | of best | first step | |',
    f'|{" --- |" * 8}',
  ]
  for group in group_timings(timings):
    best = max(timing.images_per_second for timing in group)
    cliffs = find_cliffs(group)
    for timing in sorted(group, key=lambda t: t.task.batch_size):
      task, speed = timing.task, timing.images_per_second
      cells = [task.model, task.attention, str(task.batch_size)]
      if timing.seconds:
        cells += [f'{1e3 * timing.seconds:,.1f}', f'{speed:,.0f}']
        cells += [f'{speed / best:.2f}', f'{timing.first_call_seconds:,.0f} s']
      else:
        cells += [''] * 4
      cells.append('a cliff' if timing in cliffs else timing.error)
      lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)


def group_timings(timings: Sequence[Timing]) -> list[list[Timing]]:
  """Returns the timings of each model and implementation of attention.

  Args:
    timings: timings of all models at all batch sizes.
  """
  groups = {}
  for timing in timings:
    key = (timing.task.model, timing.task.attention)
    groups.setdefault(key, []).append(timing)
  return list(groups.values())


def _create_parser() -> argparse.ArgumentParser:
  parser = create_parser('python -m benchmarks.gpu_check', __doc__)
  parser.add_argument(
    '--device',
    choices=('gpu', 'cpu'),
    default='gpu',
    help="what is checked; 'cpu' tries the program itself (%(default)s)",
  )
  parser.add_argument(
    '--models',
    default='coatnet_0_224,coatnet_0',
    metavar='NAMES',
    help='variants, with commas between (%(default)s)',
  )
  parser.add_argument(
    '--batches',
    default='256,128,64,512,32,16',
    metavar='NUMBERS',
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
    at_least=None,
    above=0,
    metavar='MINUTES',
    help='time after which nothing more is begun (%(default)s)',
  )
  figures_file.add_json(parser)
  return parser


def create_tasks(options: argparse.Namespace) -> list[Task]:
  """Returns the batches to time, what is most wanted first.

  Args:
    options: parsed command line, of `create_parser`.

  Raises:
    UserError: there is no such model or number.
  """
  models = options.models.split(',')
  for model in models:
    if model not in VARIANTS:
      raise UserError(explain_choice('A model of --models', model, VARIANTS))
  batches = options.batches.split(',')
  if not all(batch.isdecimal() and 0 < int(batch) < 2**16 for batch in batches):
    raise UserError(
      f'--batches is {options.batches!r}; it must be whole numbers, at least 1'
      ' and below 65,536, with commas between: 256,128.'
    )
  kinds = [
    (model, attention)
    for attention in ('auto', 'cudnn')[: 2 if options.device == 'gpu' else 1]
    for model in models
  ]
  tasks = [
    Task(
      model=model,
      image_size=(options.image_size,) * 2,
      batch_size=int(batch),
      mode='train',
      dtype='bfloat16',
      device=options.device,
      attention=attention,
    )
    for batch in batches
    for model, attention in kinds
  ]
  # Of cuDNN's attention one batch says enough.
  return [
    task
    for task in tasks
    if task.attention == 'auto' or task.batch_size == int(batches[0])
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
  untimed = [name for name in options.models.split(',') if name not in timed]
  if untimed:
    _say(f'\nNo train step was timed of {", ".join(untimed)}.')
  differ = any(found['agrees'] is False for found in report['agreements'])
  return 1 if differ or cliffs or untimed else 0


def _check(options, device, deadline):
  """Says and yields what agrees, what does not, and what was not checked."""
  checks = []
  for model in options.models.split(','):
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
