"""What a program costs on a TPU, according to the TPU's compiler.

    devices = topologies.create_abstract_devices('v5e')
    report = compile_report(jax.jit(f).trace(*abstract_arguments), 'v5e')

Compiler estimates, made without a TPU; nothing here is a measurement.

**Cycles of XLA's operations** are the `estimated_cycles` that the compiler
writes into the program for every fusion, copy and convolution, of the whole
device. The compiler's cost model is pessimistic for what is bound by HBM:
adding two arrays on a v5e is estimated at 1.7 times what the bandwidth allows.
Loops count as often as they run, and every branch of a conditional counts.
Collectives and copies that run in the background have no estimate.

**Cycles of Pallas kernels** are the bundles of the final schedule times the
steps of the Pallas grid, of each kernel compiled alone; `pallas_schedules.py`
says what that leaves out.

**HBM bytes** are those of the operands and results that lie in HBM, of every
operation that runs. Each array counts whole and once, without the padding of
tiles. A copy counts what it moves; an array that a loop stacks or goes over
counts one part for each trip. A kernel's blocks count as often as the grid
fetches them: whenever their index changes from one step to the next.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping

import humanize
import jax

from coatnet_jax.errors import UserError
from coatnet_jax.tpu_compiler import topologies
from coatnet_jax.tpu_compiler.collectives import Collective, find_collectives
from coatnet_jax.tpu_compiler.compiled_text import (
  Array,
  HloModule,
  Instruction,
  parse_hlo_module,
)
from coatnet_jax.tpu_compiler.pallas_schedules import (
  KERNEL_TARGET,
  KernelCall,
  compile_schedules,
  find_kernel_calls,
)

# Operations that move no bytes themselves: new names for arrays that are there,
# and calls, whose computations are counted by themselves.
_FREE_OPCODES = frozenset(
  {
    'after-all',
    'bitcast',
    'call',
    'conditional',
    'constant',
    'get-tuple-element',
    'parameter',
    'partition-id',
    'tuple',
    'while',
  }
)
# The compiler's words when it has laid a program out that does not fit, and
# those, earlier, for a program that never could.
_OUT_OF_MEMORY = (
  r'[Uu]sed ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm',
  r'HLO temporaries \(([\d.]+)([KMGT])\) exceeds available HBM'
  r' \(([\d.]+)([KMGT])\)',
)


class OutOfMemoryError(UserError):
  """The program does not fit into HBM.

  Attributes:
    needed_bytes: bytes of HBM that the program needs.
    available_bytes: bytes of HBM that the compiler can give.
  """

  def __init__(self, needed_bytes: int, available_bytes: int):
    needed, available = (
      humanize.naturalsize(size, binary=True, format='%.2f')
      for size in (needed_bytes, available_bytes)
    )
    super().__init__(
      f'The program needs {needed} of HBM; there are {available}.'
    )
    self.needed_bytes = needed_bytes
    self.available_bytes = available_bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation:
  """An operation of XLA, or a kernel, as often as it runs.

  Attributes:
    name: name in the compiled program.
    op_name: place in the traced function, by names of scopes and modules.
    is_kernel: whether it is a Pallas kernel.
    cycles: cycles of all times, as the module counts them; 0 where the
      compiler has no estimate.
    hbm_bytes: HBM bytes of all times, as the module counts them.
    bundles: number of bundles of a kernel's schedule.
    steps: number of steps of a kernel's grid.
  """

  name: str
  op_name: str
  is_kernel: bool
  cycles: int
  hbm_bytes: int
  bundles: int = 0
  steps: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """What one device does of a program, by the compiler's estimate.

  Attributes:
    operations: operations that have cycles or bytes.
    temporary_bytes: bytes of HBM beside arguments and results.
    argument_bytes: bytes of HBM that arguments take.
    output_bytes: bytes of HBM that results take; a result in the place of an
      argument takes none.
    largest_array: largest array in HBM that the program makes, results
      included.
    collectives: collectives that the program runs.
  """

  operations: tuple[Operation, ...]
  temporary_bytes: int
  argument_bytes: int
  output_bytes: int
  largest_array: Array
  collectives: tuple[Collective, ...]

  @property
  def cycles(self) -> int:
    """Returns the cycles of all operations."""
    return sum(operation.cycles for operation in self.operations)

  @property
  def kernels(self) -> tuple[Operation, ...]:
    """Returns the Pallas kernels."""
    return tuple(o for o in self.operations if o.is_kernel)

  @property
  def kernel_cycles(self) -> int:
    """Returns the cycles of the Pallas kernels."""
    return sum(operation.cycles for operation in self.kernels)

  @property
  def hbm_bytes(self) -> int:
    """Returns the HBM bytes of all operations."""
    return sum(operation.hbm_bytes for operation in self.operations)

  @property
  def needed_bytes(self) -> int:
    """Returns the HBM of arguments, results and temporaries."""
    return self.argument_bytes + self.output_bytes + self.temporary_bytes

  def count_cycles(self, scope: str) -> int:
    """Returns the cycles of operations whose op_name contains `scope`."""
    return sum(o.cycles for o in self.operations if scope in o.op_name)


def compile_report(traced: jax.stages.Traced, chip: str) -> Report:
  """Compiles a traced function and counts what it costs.

  Args:
    traced: `jax.jit(f).trace(...)` of `jax.ShapeDtypeStruct`, with shardings
      on devices of `create_abstract_devices`, in the arguments or in `jit`.
    chip: kind of chip that those devices are.

  Raises:
    OutOfMemoryError: it does not fit into HBM.
    UserError: a kernel has a loop of its own, so that it cannot be counted.
  """
  compiled = compile_or_explain(traced.lower())
  return create_report(traced, compiled, chip)


def create_report(
  traced: jax.stages.Traced, compiled: jax.stages.Compiled, chip: str
) -> Report:
  """Counts what a compiled function costs; see `compile_report`."""
  memory = compiled.memory_analysis()
  program = parse_hlo_module(compiled.as_text())
  calls = find_kernel_calls(traced.jaxpr, topologies.get_chip(chip).num_cores)
  return Report(
    operations=tuple(count_operations(program, compile_schedules(calls, chip))),
    temporary_bytes=memory.temp_size_in_bytes,
    argument_bytes=memory.argument_size_in_bytes,
    output_bytes=memory.output_size_in_bytes - memory.alias_size_in_bytes,
    largest_array=find_largest_array(program),
    collectives=tuple(find_collectives(program)),
  )


def compile_or_explain(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
  """Compiles a program, and explains an error about memory.

  Raises:
    OutOfMemoryError: it does not fit into HBM.
  """
  try:
    return lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    sizes = parse_out_of_memory(str(error))
    if sizes is None:
      raise
    raise OutOfMemoryError(*sizes) from error


def parse_out_of_memory(message: str) -> tuple[int, int] | None:
  """Reads the bytes needed and available in a message of the compiler.

  Args:
    message: text of the compiler's error.

  Returns:
    (needed, available); None for an error about something else.

  >>> sizes = parse_out_of_memory('Used 25.81G of 15.75G hbm.')
  >>> [f'{size / 2**30:.2f}' for size in sizes]
  ['25.81', '15.75']
  """
  for pattern in _OUT_OF_MEMORY:
    if found := re.search(pattern, message):
      break
  else:
    return None
  unit = {'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
  needed, needed_unit, available, available_unit = found.groups()
  return (
    int(float(needed) * unit[needed_unit]),
    int(float(available) * unit[available_unit]),
  )


def count_operations(
  program: HloModule, bundles: Mapping[KernelCall, int]
) -> Iterator[Operation]:
  """Yields everything that runs and has a cost.

  Args:
    program: program of one device, from `parse_hlo_module`.
    bundles: number of scheduled bundles of each kernel call of the traced
      function.
  """
  for computation, instruction, times, trips in program.walk():
    if instruction.target == KERNEL_TARGET:
      call = _match_kernel(instruction, bundles)
      count = bundles[call]
      yield Operation(
        name=instruction.name,
        op_name=instruction.op_name,
        is_kernel=True,
        cycles=count * call.steps * times,
        hbm_bytes=times
        * sum(
          num_bytes
          for array, num_bytes in zip(
            [*_list_operands(computation, instruction), *instruction.results],
            call.fetched_bytes,
            strict=True,
          )
          if array.in_hbm
        ),
        bundles=count,
        steps=call.steps,
      )
      continue
    hbm_bytes = count_hbm_bytes(computation, instruction, trips) * times
    if instruction.cycles or hbm_bytes:
      yield Operation(
        name=instruction.name,
        op_name=instruction.op_name,
        is_kernel=False,
        cycles=instruction.cycles * times,
        hbm_bytes=hbm_bytes,
      )


def _match_kernel(instruction, bundles):
  """Returns the call that became an instruction: its name and its results."""
  results = [(a.dtype, a.shape) for a in instruction.results]
  found = [
    call
    for call in bundles
    if f'/{call.name}/' in f'/{instruction.op_name}/'
    and [(_shorten_dtype(t), shape) for t, shape in call.results] == results
  ]
  if len({(c.steps, c.fetched_bytes, bundles[c]) for c in found}) != 1:
    raise ValueError(
      f'{len(found)} kernels of the traced function may be {instruction.name}:'
      f' {instruction.op_name}.'
    )
  return found[0]


def _shorten_dtype(name):
  """Returns the compiler's name of a NumPy type: 'bf16' of 'bfloat16'."""
  for long, short in (('bfloat', 'bf'), ('float', 'f'), ('uint', 'u')):
    if name.startswith(long):
      return short + name.removeprefix(long)
  return 's' + name.removeprefix('int')


def _list_operands(computation, instruction) -> list[Array]:
  return list(
    itertools.chain.from_iterable(
      computation[name].results for name in instruction.operands
    )
  )


def count_hbm_bytes(
  computation: Mapping[str, Instruction],
  instruction: Instruction,
  trips: int = 1,
) -> int:
  """Returns the bytes an operation of XLA reads from and writes to HBM.

  Args:
    computation: instructions of the computation that it is in, by name.
    instruction: operation to count, not a kernel.
    trips: number of trips of the loop around it. A `lax.scan` goes over, or
      stacks, an array with that number of rows, and each trip touches one row.
  """
  opcode = instruction.opcode
  if opcode in _FREE_OPCODES or opcode.endswith('-done'):
    return 0
  # No kernel: it gives one name to parts that lie side by side already.
  if opcode == 'custom-call':
    return 0
  operands = _list_operands(computation, instruction)
  if opcode in ('copy-start', 'slice-start'):
    # The result is source, destination and a flag, in some order.
    source = operands[0]
    destination = min(instruction.results[:2], key=lambda array: array.size)
    if opcode == 'copy-start':
      destination = instruction.results[0]
    return destination.num_bytes * (source.in_hbm + destination.in_hbm)
  return sum(
    array.num_bytes // (trips if array.shape[:1] == (trips,) else 1)
    for array in (*operands, *instruction.results)
    if array.in_hbm
  )


def find_largest_array(program: HloModule) -> Array:
  """Returns the largest array in HBM that is not an argument."""
  return max(
    (
      array
      for _, instruction, _, _ in program.walk()
      if instruction.opcode != 'parameter'
      for array in instruction.results
      if array.in_hbm
    ),
    key=lambda array: array.num_bytes,
    default=Array('u8', (0,), in_hbm=True),
  )
