"""What tools.plan tries: batch sizes, and choices side by side.

Each try is a compilation; `suggest` only computes.
"""

import math
from collections.abc import Callable, Iterator

import humanize
from ml_collections import ConfigDict

from coatnet_jax.distributed import mesh
from coatnet_jax.errors import UserError, explain_choice
from coatnet_jax.models.block_sequence import REMAT_POLICIES
from coatnet_jax.planning.plan_page import Plan
from coatnet_jax.run import Run

# What --compare may name: the config's key, and the values to try.
CHOICES = {
  'remat': ('model.remat', tuple(REMAT_POLICIES)),
  'scan': ('model.scan_blocks', (False, True)),
  'attention': ('model.attention', ('auto', 'xla')),
  'accumulation': ('training.gradient_accumulation_steps', (1, 2, 4)),
  'fsdp': ('sharding.fsdp', (1, 4, 16)),
  'tensor': ('sharding.tensor', (1, 2, 4)),
}

Planner = Callable[[ConfigDict], Plan]


def find_batch(config: ConfigDict, run: Run, plan: Planner) -> Iterator[Plan]:
  """Yields plans, the last of which has the largest batch that fits.

  Args:
    config: config whose batch is tried first.
    run: run of that config.
    plan: function that compiles a config.

  Raises:
    UserError: not even the smallest batch fits.
  """
  parts = run.training.gradient_accumulation_steps
  shards = mesh.count_batch_shards(run.mesh)
  size = max(run.training.global_batch_size // (shards * parts), 1)
  fitting, too_large = None, None
  while True:
    tried = config.copy_and_resolve_references()
    tried.training.global_batch_size = size * shards * parts
    result = plan(tried)
    yield result
    if result.fits:
      fitting = (size, result)
    else:
      too_large = (size, result)
    size = choose_next(fitting, too_large)
    if size == 0:
      needed, available = (
        humanize.naturalsize(size, binary=True, format='%.2f')
        for size in (too_large[1].needed_bytes, too_large[1].available_bytes)
      )
      raise UserError(
        f'Not even {shards * parts} images per step fit into HBM: they take'
        f' {needed} of {available}. A larger config.sharding.fsdp, or another'
        ' slice, may help.'
      )
    if fitting and size == fitting[0]:
      if not result.fits:
        yield fitting[1]
      return


def choose_next(
  fitting: tuple[int, Plan] | None, too_large: tuple[int, Plan] | None
) -> int:
  """Returns the batch size to try next.

  That at which memory runs out, were it a line through both, or through the one
  there is and what does not depend on the batch. From 16 on in eighths of a
  power of two, which is as finely as they matter.

  Args:
    fitting: largest size that fits, and its plan.
    too_large: smallest size that does not fit.

  Returns:
    A size; that of `fitting` where there is none between; 0 where nothing
    fits.
  """
  low = fitting[0] if fitting else 0
  size, plan = fitting or too_large
  base_size, base = 0, count_fixed_bytes(plan)
  if fitting and too_large:
    base_size, base = too_large[0], too_large[1].needed_bytes
  slope = (plan.needed_bytes - base) / (size - base_size)
  guess = 8 * size
  if slope > 0:
    guess = size + math.floor(
      (plan.available_bytes - plan.needed_bytes) / slope
    )
  least = low + _step(low)
  if too_large is None:
    return min(max(_round_down(guess), least), 8 * low)
  most = _round_down(too_large[0] - 1)
  if fitting is None:
    # Where the line is wrong, do not creep along it.
    most = min(most, too_large[0] * 3 // 4)
  if most < least:
    return low
  return _round_down(min(max(guess, least), most))


def _step(size):
  return max(1, 2 ** int(math.log2(max(size, 1))) // 8)


def _round_down(size):
  step = _step(size)
  return max(size // step * step, 0)


def count_fixed_bytes(plan: Plan) -> int:
  """Returns a chip's bytes that are there whatever the batch."""
  return sum(
    num_bytes
    for kind, num_bytes in plan.memory.items()
    if kind not in ('batch', 'temporaries')
  )


def parse_choices(text: str) -> list[tuple[str, str, tuple]]:
  """Returns names, config keys and values of --compare.

  >>> parse_choices('scan,fsdp=1:8')
  [('scan', 'model.scan_blocks', (False, True)),
   ('fsdp', 'sharding.fsdp', (1, 8))]

  Args:
    text: value of --compare, such as 'remat,fsdp=1:8:64'.

  Raises:
    UserError: there is no such choice, or a value is no number that must be.
  """
  found = []
  for part in text.split(','):
    name, _, values = part.partition('=')
    if name not in CHOICES:
      raise UserError(explain_choice('A choice of --compare', name, CHOICES))
    key, choices = CHOICES[name]
    if values:
      kind = type(choices[0])
      try:
        choices = tuple(
          value == 'True' if kind is bool else kind(value)
          for value in values.split(':')
        )
      except ValueError as error:
        raise UserError(
          f'--compare has {part!r}; {name} takes whole numbers.'
        ) from error
    found.append((name, key, choices))
  return found


def compare(
  config: ConfigDict, choices: list[tuple[str, str, tuple]], plan: Planner
) -> Iterator[tuple[str, Plan]]:
  """Yields what each choice is called, and its plan.

  Every choice is made alone; what does not fit the mesh is left out. Values
  that the config has already are planned once.

  Args:
    config: what else there is.
    choices: choices to compare, from `parse_choices`.
    plan: function that compiles a config and plans it.
  """
  asis = None
  for name, key, values in choices:
    for value in values:
      tried = config.copy_and_resolve_references()
      tried.update_from_flattened_dict({key: value})
      label = f'{name}={value}'
      if tried == config:
        asis = asis or plan(config)
        yield f'{label} (config)', asis
        continue
      try:
        yield label, plan(tried)
      except UserError:
        continue


def suggest(plan: Plan, run: Run) -> list[str]:
  """Returns settings that may fit where a plan does not, by arithmetic.

  As if temporaries were proportional to the images computed at a time.

  Args:
    plan: one that does not fit.
    run: run that was planned.
  """
  fixed = count_fixed_bytes(plan)
  room = plan.available_bytes - fixed
  parts = plan.gradient_accumulation_steps
  lines = []
  if room > 0:
    share = room / (plan.needed_bytes - fixed)
    shards = math.prod(plan.mesh[axis] for axis in mesh.BATCH_AXES)
    images = plan.global_batch_size // (shards * parts)
    if smaller := _round_down(int(images * share)):
      lines.append(
        f'config.training.global_batch_size={smaller * parts * shards}'
        f' ({smaller * parts} images per shard instead of {images * parts})'
      )
      more = next(
        n
        for n in range(1, images + 1)
        if images % n == 0 and images / n <= smaller
      )
      lines.append(
        f'config.training.gradient_accumulation_steps={parts * more}'
        ' (the same batch, in parts)'
      )
    if run.config.model.remat == 'none':
      lines.append("config.model.remat='blocks' (computes each block twice)")
  if room < plan.available_bytes / 2 and plan.num_chips > plan.mesh['fsdp']:
    lines.append(
      f'config.sharding.fsdp={min(plan.num_chips, 4 * plan.mesh["fsdp"])}'
      ' (parameters, optimizer state and averages take'
      f' {humanize.naturalsize(fixed, binary=True)} per chip)'
    )
  return lines
