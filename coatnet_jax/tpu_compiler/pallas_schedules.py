"""How long a Pallas kernel runs on a TPU: its schedule, and its grid.

A kernel's cycles are the 'total scheduled bundles' of the compiler's final
schedule, times the steps of its Pallas grid. A bundle is what the chip issues
in one cycle. Not in it: waiting for HBM, and any stall. Blocks under `pl.when`
count in every step. Where a chip has two cores, they share the first grid axis
that is 'parallel'. A kernel with a loop of its own would be counted as if the
loop ran once; that is an error here.

Checked by hand on a forward kernel of 4 images of 196 tokens (v5e): its listing
ends with bundle 0xc4a, so 3,147 bundles from 0, which is the number that the
compiler states; 15 of them come before the grid's loop and run once, all else
is in it. Twice the images at the same block give the same 3,147 bundles and
twice the steps. `tests/tpu_compiler` does this again.
"""

import concurrent.futures
import dataclasses
import functools
import math
import multiprocessing
import pathlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.export
import numpy as np
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import SingleDeviceSharding

from coatnet_jax.errors import UserError
from coatnet_jax.tpu_compiler import topologies

# What the compiled program calls a Pallas kernel.
KERNEL_TARGET = 'tpu_custom_call'

# Time, instruction and number of the pass; the listing is the next pass'.
_ANALYSIS_NAME = re.compile(
  r'(?P<start>\d+-(?P<instruction>.+)-)(?P<number>\d+)'
  r'-schedule-analysis_final_bundles\.txt'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelCall:
  """A `pallas_call` in a traced function.

  Attributes:
    name: name that `pallas_call` was given.
    results: types and shapes of the results, for one device.
    steps: number of steps of the grid on the core that takes most.
    fetched_bytes: bytes of each operand and result that the grid moves.
    body: the kernel's program, as text.
    equation: equation of the jaxpr, to compile it alone.
  """

  name: str
  results: tuple[tuple[str, tuple[int, ...]], ...]
  steps: int
  fetched_bytes: tuple[int, ...]
  body: str = ''
  equation: Any = dataclasses.field(default=None, compare=False, repr=False)


def compile_schedules(
  calls: Iterable[KernelCall], chip: str
) -> dict[KernelCall, int]:
  """Returns the scheduled bundles of kernels, each compiled alone.

  Another process compiles them, the first time that this one needs it: the
  compiler writes schedules of everything or of nothing, and writing those of a
  whole train step takes many times as long as compiling it.

  Args:
    calls: calls from `find_kernel_calls`; equal ones are compiled once.
    chip: kind of chip to compile for.

  Raises:
    UserError: a kernel has a loop of its own, or libtpu is not installed.
  """
  return {
    call: bundles
    for call in set(calls)
    for bundles in [_compile_schedule(call, chip)]
  }


@functools.cache
def _compile_schedule(call, chip):
  equation = call.equation

  def kernel(*operands):
    return equation.primitive.bind(
      *[
        pltpu.with_memory_space_constraint(x, space)
        if isinstance(space := variable.aval.memory_space, type(pltpu.HBM))
        else x
        for x, variable in zip(operands, equation.invars)
      ],
      **equation.params,
    )

  kernel.__name__ = call.name  # What the compiler calls it then.
  exported = jax.export.export(jax.jit(kernel), platforms=['tpu'])(
    *[
      jax.ShapeDtypeStruct(variable.aval.shape, variable.aval.dtype)
      for variable in equation.invars
    ]
  )
  bundles, error = (
    _start_schedule_writer()
    .submit(_compile_alone, bytes(exported.serialize()), chip)
    .result()
  )
  if error:
    raise UserError(error)
  return bundles


@functools.cache
def _start_schedule_writer():
  """Returns the process that compiles with schedules; it ends with this one."""
  return concurrent.futures.ProcessPoolExecutor(
    max_workers=1,
    mp_context=multiprocessing.get_context('spawn'),
    initializer=_use_cpu,
  )


def _use_cpu():
  jax.config.update('jax_platforms', 'cpu')


@functools.cache
def _schedules_directory():
  """Starts this process' compiler; its schedules' directory ends with it."""
  directory = tempfile.TemporaryDirectory(prefix='coatnet_jax_schedules_')
  topologies.start_compiler(directory.name)
  return directory


def _compile_alone(exported: bytes, chip: str) -> tuple[int, str]:
  """Compiles an exported kernel in this process.

  Returns:
    The bundles, and what the user has to be told; a `UserError` would say the
    same with the traceback of a process.
  """
  directory = pathlib.Path(_schedules_directory().name)
  sharding = SingleDeviceSharding(topologies.create_abstract_devices(chip)[0])
  program = jax.export.deserialize(exported)
  before = set(directory.iterdir())
  jax.jit(program.call, in_shardings=sharding, out_shardings=sharding).lower(
    *program.in_avals
  ).compile()
  new = set(directory.iterdir()) - before
  try:
    (bundles,) = read_schedules(new).values()
  except UserError as error:
    return 0, str(error)
  finally:
    for path in new:
      path.unlink()
  return bundles, ''


def read_schedules(paths: set[pathlib.Path]) -> dict[str, int]:
  """Returns the scheduled bundles of every kernel, by its instruction's name.

  Args:
    paths: the files that the compiler wrote.

  Raises:
    UserError: a kernel's schedule has a loop beside the grid's.
  """
  by_name = {path.name: path for path in paths}
  bundles = {}
  for file_name, path in by_name.items():
    found = _ANALYSIS_NAME.fullmatch(file_name)
    if found is None:
      continue
    name, text = found['instruction'], path.read_text()
    # The schedule of the whole program, which has no instruction's name,
    # mentions kernels too.
    if f'%{name} = ' not in text or KERNEL_TARGET not in text:
      continue
    listing = f'{found["start"]}{int(found["number"]) + 1:02}-final_bundles.txt'
    if has_inner_loop(by_name[listing].read_text()):
      raise UserError(
        f'The kernel {name} has a loop of its own; its cycles cannot be'
        ' counted.'
      )
    bundles[name] = parse_bundles(text)
  return bundles


def parse_bundles(text: str) -> int:
  """Returns the total of a schedule's analysis."""
  return int(re.search(r'total scheduled bundles:\s+(\d+)', text)[1])


def has_inner_loop(listing: str) -> bool:
  """Returns whether a schedule has a loop within that of the grid.

  'LB' marks the first bundle of a loop, '>' how deep it is.
  """
  return re.search(r'^\s*0x[0-9a-f]+ LB: >>', listing, re.MULTILINE) is not None


def find_kernel_calls(jaxpr: Any, num_cores: int = 1) -> list[KernelCall]:
  """Returns every `pallas_call` of a traced function.

  Args:
    jaxpr: jaxpr of the function; within `shard_map` shapes are one device's.
    num_cores: number of cores of a device.
  """
  return [
    _describe_kernel_call(equation, num_cores)
    for equation in _walk_equations(jaxpr)
    if equation.primitive.name == 'pallas_call'
  ]


def _walk_equations(jaxpr) -> Iterator[Any]:
  jaxpr = getattr(jaxpr, 'jaxpr', jaxpr)
  for equation in jaxpr.eqns:
    yield equation
    if equation.primitive.name == 'pallas_call':
      continue
    for parameter in equation.params.values():
      several = isinstance(parameter, tuple | list)
      for value in parameter if several else [parameter]:
        if hasattr(getattr(value, 'jaxpr', value), 'eqns'):
          yield from _walk_equations(value)


def _describe_kernel_call(equation, num_cores):
  mapping = equation.params['grid_mapping']
  grid = tuple(int(n) for n in mapping.grid)
  parameters = equation.params['compiler_params']  # Perhaps none.
  return KernelCall(
    name=equation.params['name'],
    results=tuple(
      (variable.aval.dtype.name, variable.aval.shape)
      for variable in equation.outvars
    ),
    steps=count_steps(
      grid, getattr(parameters, 'dimension_semantics', None), num_cores
    ),
    fetched_bytes=tuple(
      _count_fetched_bytes(block, grid) for block in mapping.block_mappings
    ),
    body=str(equation.params['jaxpr']),
    equation=equation,
  )


def count_steps(
  grid: tuple[int, ...],
  dimension_semantics: tuple[Any, ...] | None,
  num_cores: int,
) -> int:
  """Returns how many steps of a grid the busiest core takes.

  >>> count_steps((4, 6), ('parallel', 'arbitrary'), num_cores=2)
  12

  Args:
    grid: grid of the kernel.
    dimension_semantics: kind of each of its axes; the cores share the first
      'parallel' one.
    num_cores: number of cores of the device.
  """
  sizes = list(grid)
  for axis, semantics in enumerate(dimension_semantics or ()):
    if str(getattr(semantics, 'value', semantics)) == 'parallel':
      sizes[axis] = -(-sizes[axis] // num_cores)
      break
  return math.prod(sizes)


def _count_fetched_bytes(block, grid):
  """Returns the bytes that a block moves while the whole grid runs."""
  steps = np.indices(grid, np.int32).reshape(len(grid), -1)
  index_map = functools.partial(
    jax.core.eval_jaxpr,
    block.index_map_jaxpr.jaxpr,
    block.index_map_jaxpr.consts,
  )
  indices = jax.vmap(index_map)(*steps)
  indices = np.stack([np.broadcast_to(i, steps.shape[1]) for i in indices])
  fetches = 1 + np.any(indices[:, 1:] != indices[:, :-1], axis=0).sum()
  aval = block.block_aval.inner_aval
  return int(fetches) * aval.size * aval.dtype.itemsize
