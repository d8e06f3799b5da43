"""Where a program's time goes by kind of layer, from the device's own trace.

JAX's profiler writes what ran when, by the names of the compiled program's
instructions; the program's text says which layer each of them belongs to. The
kinds are those of `tools.plan` (coatnet_jax/planning/cycle_breakdown.py), whose
rules these are: a fusion counts where the instruction is that it is named
after. 'copies' compute nothing: they bring an array into another place or
layout.
"""

import collections
import dataclasses
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from coatnet_jax.planning import cycle_breakdown
from coatnet_jax.tpu_compiler.compiled_text import (
  HloModule,
  Instruction,
  parse_hlo_module,
)

COPIES = 'copies'
UNKNOWN = 'not in the program'
# In the order in which they are shown.
KINDS = (
  *cycle_breakdown.KINDS[:-1],
  COPIES,
  cycle_breakdown.KINDS[-1],
  UNKNOWN,
)
# What only moves numbers, or nothing at all.
_MOVES = frozenset(
  {
    'bitcast',
    'copy',
    'copy-done',
    'copy-start',
    'get-tuple-element',
    'parameter',
    'reshape',
    'transpose',
    'tuple',
  }
)
_POOLS = frozenset({'reduce-window', 'select-and-scatter'})
# How far away an instruction may be that another one's place is taken from.
_FARTHEST = 4
# What waits for other instructions, on whichever thread these run.
_CONTAINERS = ('while', 'conditional')
_FUSED = re.compile(r'(?:calls|to_apply)=%([^\s,]+)')


@dataclasses.dataclass(frozen=True)
class Event:
  """An instruction that ran.

  Attributes:
    name: name of the instruction in the compiled program.
    start: time in nanoseconds at which it began.
    duration: time in nanoseconds that it took, others inside it included.
  """

  name: str
  start: float
  duration: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
  """Where the time of a step goes, on one device.

  What runs side by side, on streams of a GPU or threads of a CPU, counts each
  for itself, so that the sum may be more than the step takes.

  Attributes:
    by_kind: seconds per step of each of `KINDS`.
    largest: dicts with 'name', 'kind', 'op_name' and 'seconds' per step of the
      instructions that take most.
  """

  by_kind: dict[str, float]
  largest: tuple[dict[str, Any], ...]

  @property
  def seconds(self) -> float:
    """Returns the sum of all."""
    return sum(self.by_kind.values())


def profile(
  take_steps: Callable[[], Any],
  compiled: jax.stages.Compiled,
  num_steps: int,
  num_largest: int = 10,
) -> Profile:
  """Traces steps, and returns where their time goes.

  Args:
    take_steps: function that takes the steps and waits for them.
    compiled: compiled program of a step, which is run while it is traced.
    num_steps: number of steps that it takes.
    num_largest: number of instructions of `Profile.largest`.
  """
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0  # Slows the host down, and is not looked at.
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder, profiler_options=options):
      take_steps()
    lines, num_devices = [], 0
    for path in pathlib.Path(folder).rglob('*.xplane.pb'):
      data = jax.profiler.ProfileData.from_file(str(path))
      new_lines, new_devices = read_lines(data)
      lines, num_devices = lines + new_lines, num_devices + new_devices
  return summarise(
    lines,
    parse_hlo_module(compiled.as_text()),
    num_steps * max(1, num_devices),
    num_largest,
  )


def read_lines(data: Any) -> tuple[list[list[Event]], int]:
  """Returns what ran, by thread or stream, and on how many devices.

  Args:
    data: `jax.profiler.ProfileData` of a trace.
  """
  planes = list(data.planes)
  devices = [p for p in planes if p.name.startswith('/device:')]
  by_device = [
    [
      [_read_event(event) for event in line.events]
      for line in plane.lines
      # Of a TPU, and of a GPU; their other lines sum these up.
      if line.name == 'XLA Ops' or line.name.startswith('Stream')
    ]
    for plane in devices
  ]
  if by_device := [lines for lines in by_device if any(lines)]:
    return [line for lines in by_device for line in lines], len(by_device)
  # A CPU's threads, which do other things too.
  lines = []
  for plane in planes:
    if plane.name == '/host:CPU':
      for line in plane.lines:
        events = ((e, dict(e.stats)) for e in line.events)
        lines.append(
          [_read_event(e) for e, stats in events if 'hlo_op' in stats]
        )
  return [line for line in lines if line], 1


def _read_event(event: Any) -> Event:
  name = dict(event.stats).get('hlo_op') or event.name
  # A TPU's has the whole instruction for its name.
  found = re.match(r'%?([^\s=]+)', str(name))
  name = found[1] if found else str(name)
  return Event(name, event.start_ns, event.duration_ns)


def summarise(
  lines: Iterable[Iterable[Event]],
  program: HloModule,
  num_steps: int,
  num_largest: int = 10,
) -> Profile:
  """Returns where the time goes.

  Args:
    lines: events of each thread or stream.
    program: text of the compiled program that ran, parsed.
    num_steps: number of steps that the events are of.
    num_largest: number of instructions of `Profile.largest`.
  """
  instructions = list_instructions(program)
  seconds = collections.Counter()
  for line in lines:
    for name, own in compute_own_times(line).items():
      instruction = instructions.get(name)
      if instruction is None or instruction.opcode not in _CONTAINERS:
        seconds[name] += own / 1e9 / num_steps
  by_kind = dict.fromkeys(KINDS, 0.0)
  rows = []
  for name, value in seconds.most_common():
    kind, op_name = find_kind(name, instructions, program)
    by_kind[kind] += value
    rows.append(
      {'name': name, 'kind': kind, 'op_name': op_name, 'seconds': value}
    )
  return Profile(by_kind=by_kind, largest=tuple(rows[:num_largest]))


def compute_own_times(events: Iterable[Event]) -> dict[str, float]:
  """Returns each instruction's nanoseconds without those of others inside it.

  >>> compute_own_times([Event('call', 0, 10), Event('dot', 2, 3)])
  {'call': 7.0, 'dot': 3.0}

  Args:
    events: events of one thread or stream, which lie inside each other or
      apart.
  """
  own = collections.defaultdict(float)
  open_events = []
  for event in sorted(events, key=lambda e: (e.start, -e.duration)):
    while open_events and (
      event.start >= open_events[-1].start + open_events[-1].duration
    ):
      open_events.pop()
    own[event.name] += event.duration
    if open_events:
      own[open_events[-1].name] -= event.duration
    open_events.append(event)
  return dict(own)


def find_kind(
  name: str, instructions: Mapping[str, Instruction], program: HloModule
) -> tuple[str, str]:
  """Returns one of `KINDS`, and the place in the traced function.

  What the compiler has made itself has no place, and counts where the nearest
  instruction is that it reads.

  Args:
    name: name of an instruction of the compiled program.
    instructions: all instructions of the program, by name.
    program: program that it may be of.
  """
  if name not in instructions:
    return UNKNOWN, ''
  inside = _list_fused(instructions[name], program)
  opcodes = {i.opcode for i in inside or [instructions[name]]}
  op_name = ''
  nearest = [name]
  for _ in range(_FARTHEST):
    found = [_find_op_name(instructions[n], program) for n in nearest]
    op_name = next(filter(None, found), '')
    if op_name:
      break
    nearest = [
      operand
      for near in nearest
      for operand in instructions[near].operands
      # An argument's name is that of the argument.
      if operand in instructions and instructions[operand].opcode != 'parameter'
    ]
  if opcodes <= _MOVES:
    return COPIES, op_name
  if opcodes & _POOLS:
    return 'pooling', op_name
  return (cycle_breakdown.find_kind(op_name) if op_name else 'rest'), op_name


def list_instructions(program: HloModule) -> dict[str, Instruction]:
  """Returns the instructions of all computations by name, which is their own.

  Args:
    program: program of one device.
  """
  return {
    name: instruction
    for computation in program.computations.values()
    for name, instruction in computation.items()
  }


def _find_op_name(instruction: Instruction, program: HloModule) -> str:
  """Returns where an instruction is, or the last of those inside it; or ''."""
  inside = _list_fused(instruction, program)
  return next(
    (i.op_name for i in (instruction, *reversed(inside)) if i.op_name), ''
  )


def _list_fused(
  instruction: Instruction, program: HloModule
) -> list[Instruction]:
  """Returns the instructions of a fusion or call, of those inside it too."""
  if instruction.opcode not in ('fusion', 'call'):
    return []
  found = _FUSED.search(instruction.line)
  inside = []
  for inner in program.computations.get(found[1], {}).values() if found else ():
    inside += _list_fused(inner, program) or [inner]
  return inside
