"""A plan, and the page that shows it.

Nothing is computed here that is not in the plan; where it is from is
`plan_program.py`'s.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from coatnet_jax.tpu_compiler import topologies

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
  """What is compiled for.

  Attributes:
    slice: slice that the run is planned for.
    num_slices: number of such slices.
  """

  slice: topologies.Slice
  num_slices: int = 1

  @property
  def name(self) -> str:
    """Returns 'v5e-256', or '2 x v5e-256'."""
    times = f'{self.num_slices} x ' if self.num_slices > 1 else ''
    return times + self.slice.name

  @property
  def num_chips(self) -> int:
    """Returns those of all slices."""
    return self.num_slices * self.slice.num_devices

  @property
  def num_hosts(self) -> int:
    """Returns those of all slices."""
    return self.num_slices * self.slice.num_hosts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What the compiler says of a train step. All of it is an estimate.

  Bytes and cycles are of one chip and one step. Where the step does not fit,
  `cycles` and all that follows from it are None.

  Attributes:
    target: name of the slices.
    num_chips: number of chips of all slices.
    num_hosts: number of hosts of all slices.
    chip: name of the chip.
    compiler: name and version of the compiler.
    model: name of the model and what of it matters here, for people.
    data: name of the data and what of it matters here, for people.
    mesh: sizes of the mesh's axes by name.
    num_parameters: number of trainable numbers.
    global_batch_size: number of images of a step.
    per_chip_batch_size: number of a step's images on each chip; not whole where
      the tensor axis divides an image.
    gradient_accumulation_steps: number of parts of a step.
    memory: bytes of HBM by kind; 'temporaries' is None where it does not fit.
    needed_bytes: bytes of HBM that the step needs.
    available_bytes: bytes of HBM that there are.
    forward_flops_per_image: FLOPs of the forward pass, two for each
      multiply-add; training takes three times as many.
    compiler_flops_per_image: FLOPs that the compiler counts: loops once, and no
      kernels.
    cycles: compiler's estimate of a step's cycles, without collectives.
    kernel_cycles: those of the cycles that Pallas kernels take.
    cycles_by_stage: same cycles by parts of the network.
    cycles_by_kind: same cycles by kinds of layers.
    hbm_bytes: bytes moved to and from HBM.
    seconds_per_step: time of the cycles at the chip's clock.
    images_per_second: images per second on all chips.
    peak_share: part of the chips' peak that forward and backward take.
    collectives: count and bytes of collectives by kind.
    link_seconds: time of those bytes at the links' bandwidth, were nothing else
      in the way; computed, not the compiler's.
    num_steps: number of steps of the recipe.
    hours: time of these steps.
    chip_hours: sum of the hours of all chips.
    host_images_per_second: images per second that each host must decode.
    compile_seconds: time of tracing and compiling.
    peak_memory_bytes: largest memory of the planning process.
  """

  target: str
  num_chips: int
  num_hosts: int
  chip: str
  compiler: str
  model: str
  data: str
  mesh: dict[str, int]
  num_parameters: int
  global_batch_size: int
  per_chip_batch_size: float
  gradient_accumulation_steps: int
  memory: dict[str, int | None]
  needed_bytes: int
  available_bytes: int
  forward_flops_per_image: int
  compiler_flops_per_image: float | None = None
  cycles: int | None = None
  kernel_cycles: int | None = None
  cycles_by_stage: dict[str, int] | None = None
  cycles_by_kind: dict[str, int] | None = None
  hbm_bytes: int | None = None
  seconds_per_step: float | None = None
  images_per_second: float | None = None
  peak_share: float | None = None
  collectives: dict[str, dict[str, int]] | None = None
  link_seconds: float | None = None
  num_steps: int
  hours: float | None = None
  chip_hours: float | None = None
  host_images_per_second: float | None = None
  compile_seconds: float
  peak_memory_bytes: int

  @property
  def fits(self) -> bool:
    """Returns whether it fits into HBM."""
    return self.cycles is not None


def format_page(plan: Plan, name: str) -> str:
  """Returns a plan as a page for people.

  Args:
    plan: plan of one config and target.
    name: name of the config, as the command line has it.
  """
  return '\n'.join(
    [
      f'Plan of {name} on {plan.target}',
      f'Compiler estimate ({plan.compiler}), not measured on a TPU.',
      '',
      *_format_facts(plan),
      '',
      *_format_memory(plan),
      *(_format_speed(plan) if plan.fits else ()),
      '',
      f'Planned in {plan.compile_seconds:,.0f} s and'
      f' {plan.peak_memory_bytes / _GIB:.1f} GiB of memory.',
    ]
  )


def _format_facts(plan: Plan) -> Iterator[str]:
  axes = ', '.join(f'{axis} {size}' for axis, size in plan.mesh.items())
  parts = plan.gradient_accumulation_steps
  yield f'model       {plan.model}; {plan.num_parameters:,} parameters'
  yield f'data        {plan.data}'
  yield (
    f'chips       {plan.num_chips:,} on {plan.num_hosts:,} host(s);'
    f' mesh: {axes}'
  )
  yield (
    f'batch       {plan.global_batch_size:,} images per step,'
    f' {plan.per_chip_batch_size:g} per chip'
    + f', in {parts} parts'
    * (parts > 1)
  )


def _format_memory(plan: Plan) -> Iterator[str]:
  yield 'HBM per chip              GiB'
  for kind, num_bytes in plan.memory.items():
    size = '?' if num_bytes is None else f'{num_bytes / _GIB:.3f}'
    yield f'  {kind:<19} {size:>8}'
  left = plan.available_bytes - plan.needed_bytes
  yield (
    f'  {"needed":<19} {plan.needed_bytes / _GIB:8.3f} of'
    f' {plan.available_bytes / _GIB:.2f}: '
    + (
      f'fits, {left / _GIB:.2f} left'
      if plan.fits
      else f'does not fit, by {-left / _GIB:.2f}'
    )
  )


def _format_speed(plan: Plan) -> Iterator[str]:
  chip = topologies.get_chip(plan.chip)
  flops = plan.forward_flops_per_image
  milliseconds = plan.seconds_per_step * 1e3
  yield ''
  yield 'A step, without collectives'
  yield (
    f'  cycles              {plan.cycles / 1e6:,.2f} million,'
    f' {milliseconds:,.2f} ms at {chip.clock_hz / 1e9:.2f} GHz;'
    f' Pallas kernels {plan.kernel_cycles / plan.cycles:.1%}'
  )
  yield (
    f'  HBM traffic         {plan.hbm_bytes / 1e9:,.2f} GB per chip,'
    f' {plan.hbm_bytes / chip.hbm_bytes_per_second * 1e3:,.2f} ms at its'
    ' bandwidth'
  )
  yield (
    f'  images/s            {plan.images_per_second:,.0f};'
    f' {plan.images_per_second / plan.num_chips:,.0f} per chip'
  )
  yield (
    f'  FLOPs per image     {flops / 1e9:,.2f} G forward,'
    f' {3 * flops / 1e9:,.2f} G in training'
    f' (compiler: {plan.compiler_flops_per_image / 1e9:,.2f} G, loops once, no'
    ' kernels)'
  )
  yield f'  share of peak       {plan.peak_share:.1%}'
  yield ''
  yield 'Cycles by stage         by kind of layer'
  yield from _format_columns(
    _list_shares(plan.cycles_by_stage, plan.cycles, 10),
    _list_shares(plan.cycles_by_kind, plan.cycles, 23),
  )
  yield ''
  yield 'Collectives                   per step    MB per chip'
  for kind, sums in plan.collectives.items():
    yield f'  {kind:<25} {sums["count"]:>9,}  {sums["bytes"] / 1e6:>13,.3f}'
  if not plan.collectives:
    yield '  none'
  else:
    yield (
      f'  {plan.link_seconds * 1e3:,.3f} ms at the bandwidth of the links'
      ' within a slice, by arithmetic'
    )
  yield ''
  yield 'The whole recipe, without evaluation'
  yield f'  steps               {plan.num_steps:,}'
  yield (
    f'  hours               {plan.hours:,.1f};'
    f' {plan.chip_hours:,.0f} chip-hours'
  )
  yield f'  each host decodes   {plan.host_images_per_second:,.0f} images/s'


def _list_shares(parts, total, width):
  return [
    f'  {part:<{width}} {cycles / total:6.1%}'
    for part, cycles in parts.items()
    if cycles
  ]


def _format_columns(left: Sequence[str], right: Sequence[str]) -> list[str]:
  rows = max(len(left), len(right))
  left = [*left, *[''] * (rows - len(left))]
  right = [*right, *[''] * (rows - len(right))]
  return [f'{a:<22}{b}'.rstrip() for a, b in zip(left, right)]


# Title: width, and how a plan shows it.
_COLUMNS = {
  'per chip': (8, lambda plan: f'{plan.per_chip_batch_size:g}'),
  'HBM GiB': (8, lambda plan: f'{plan.needed_bytes / _GIB:.2f}'),
  'fits': (5, lambda plan: 'yes' if plan.fits else 'no'),
  'Mcycles': (9, lambda plan: plan.fits and f'{plan.cycles / 1e6:,.1f}'),
  'images/s': (
    9,
    lambda plan: plan.fits and f'{plan.images_per_second:,.0f}',
  ),
  'of peak': (7, lambda plan: plan.fits and f'{plan.peak_share:.1%}'),
  'collective MB': (
    13,
    lambda plan: (
      plan.fits
      and f'{sum(c["bytes"] for c in plan.collectives.values()) / 1e6:,.2f}'
    ),
  ),
  'compiled in s': (13, lambda plan: f'{plan.compile_seconds:,.0f}'),
}


def format_titles(width: int) -> str:
  """Returns the titles of lines of `format_row`.

  Args:
    width: width of the names of plans.
  """
  titles = (f'  {title:>{size}}' for title, (size, _) in _COLUMNS.items())
  return ' ' * width + ''.join(titles)


def format_row(name: str, plan: Plan, width: int) -> str:
  """Returns a plan as a line.

  Args:
    name: name of the plan among others, what is special of it.
    plan: plan that the row shows.
    width: width of the names of plans.
  """
  cells = (f'  {show(plan) or "-":>{size}}' for size, show in _COLUMNS.values())
  return f'{name:<{width}}' + ''.join(cells)
