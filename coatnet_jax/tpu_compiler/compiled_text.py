"""Reads the text of a program that the TPU compiler made.

`compiled.as_text()` is the final program of one device, an HLO module: its
instructions in order, with memory spaces, and with the compiler's estimate of
every fusion. This module reads it; `compiler_report.py` adds it up.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_COMPUTATION = re.compile(r'(ENTRY )?%(\S+) \(')
_INSTRUCTION = re.compile(r'\s+(ROOT )?%(\S+) = ')
_ARRAY = re.compile(r'([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?')
_BITS = re.compile(r'[a-z]+(\d+)')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_CALLED = {
  'while': re.compile(r'(?:body|condition)=%([^\s,]+)'),
  'call': re.compile(r'to_apply=%([^\s,]+)'),
  'conditional': re.compile(
    r'(?:true_computation=|false_computation=)%([^\s,]+)'
  ),
}
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_CONDITION = re.compile(r'condition=%([^\s,]+)')


@dataclasses.dataclass(frozen=True)
class Array:
  """An operand or a result.

  Attributes:
    dtype: type of the elements, as the compiler writes it: 'bf16'.
    shape: shape of the array.
    in_hbm: whether the array lies in HBM, and not in a memory of the chip.
  """

  dtype: str
  shape: tuple[int, ...]
  in_hbm: bool

  @property
  def size(self) -> int:
    """Returns the number of elements."""
    return math.prod(self.shape)

  @property
  def num_bytes(self) -> int:
    """Returns the bytes of the elements, without what tiling adds."""
    # A bool is 'pred', which has no number of bits in its name.
    bits = 8 if self.dtype == 'pred' else int(_BITS.match(self.dtype)[1])
    return self.size * bits // 8

  def __str__(self) -> str:
    """Returns it as the compiler writes it: bf16[128,196,384]."""
    return f'{self.dtype}[{",".join(map(str, self.shape))}]'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: name of the instruction, without the percent sign.
    opcode: kind of the instruction: 'fusion', 'copy', 'custom-call' ...
    results: arrays that it makes; those of nested tuples in one tuple.
    operands: names of the instructions, of the same computation, whose results
      it takes.
    cycles: compiler's estimate in cycles; 0 where there is none.
    op_name: place in the traced function, by names of scopes and modules.
    target: name of what a custom call calls; '' for other instructions.
    line: text of the instruction.
  """

  name: str
  opcode: str
  results: tuple[Array, ...]
  operands: tuple[str, ...]
  cycles: int
  op_name: str
  target: str
  line: str


class Visit(NamedTuple):
  """An instruction where it runs.

  Attributes:
    computation: instructions of the computation that it is in, by name.
    instruction: instruction that runs.
    times: number of times that it runs.
    trips: number of trips of the innermost loop around it; 1 outside of loops.
  """

  computation: dict[str, Instruction]
  instruction: Instruction
  times: int
  trips: int


@dataclasses.dataclass(frozen=True)
class HloModule:
  """A program of one device.

  Attributes:
    entry: name of the computation that the program begins with.
    computations: computations by name, each a dict of instructions by name.
  """

  entry: str
  computations: dict[str, dict[str, Instruction]]

  def walk(self) -> Iterator[Visit]:
    """Yields every instruction that runs.

    Instructions in loops, calls and conditionals are among them, those in
    fusions are not. A loop's body runs as often as the limit of its counter
    says, which is right for counters that begin at 0, as those of `lax.scan`
    do; a loop without such a limit counts once. Every branch of a conditional
    counts.
    """
    yield from self._walk(self.entry, 1, 1)

  def _walk(self, name, times, trips):
    computation = self.computations[name]
    for instruction in computation.values():
      yield Visit(computation, instruction, times, trips)
      inner_times, inner_trips = times, trips
      if instruction.opcode == 'while':
        inner_trips = self._count_trips(instruction) or 1
        inner_times *= inner_trips
      for called in _find_called(instruction):
        yield from self._walk(called, inner_times, inner_trips)

  def _count_trips(self, loop):
    """Returns the constant that a loop's counter is compared with, or None."""
    condition = self.computations[_CONDITION.search(loop.line)[1]]
    root = list(condition.values())[-1]
    if root.opcode != 'compare' or 'direction=LT' not in root.line:
      return None
    for name in root.operands:
      found = re.search(r' constant\((\d+)\)', condition[name].line)
      if found:
        return int(found[1])
    return None


def parse_hlo_module(text: str) -> HloModule:
  """Returns the program of `compiled.as_text()`."""
  entry, computations, current = '', {}, None
  for line in text.splitlines():
    if header := _COMPUTATION.match(line):
      current = computations[header[2]] = {}
      entry = header[2] if header[1] else entry
    elif current is not None and (start := _INSTRUCTION.match(line)):
      instruction = _parse_instruction(line, start)
      current[instruction.name] = instruction
  return HloModule(entry, computations)


def _parse_instruction(line, start):
  rest = line[start.end() :]
  shape, rest = _split_shape(rest)
  opcode, _, rest = rest.partition('(')
  operands = rest[: _find_end(rest)]
  cycles, op_name, target = (
    pattern.search(line) for pattern in (_CYCLES, _OP_NAME, _TARGET)
  )
  return Instruction(
    name=start[2],
    opcode=opcode,
    results=parse_arrays(shape),
    operands=tuple(re.findall(r'%([^\s,()]+)', operands)),
    cycles=int(cycles[1]) if cycles else 0,
    op_name=op_name[1] if op_name else '',
    target=target[1] if target else '',
    line=line.strip(),
  )


def parse_arrays(text: str) -> tuple[Array, ...]:
  """Returns the arrays of a shape: bf16[2,3]{1,0:T(8,128)S(1)}, or a tuple.

  S(n) is the memory space: HBM without it, VMEM for 1, and memories for scalars
  and synchronisation for other numbers.

  >>> (array,) = parse_arrays('bf16[2,3]{1,0:T(8,128)S(1)}')
  >>> array.shape, array.num_bytes, array.in_hbm
  ((2, 3), 12, False)
  """
  return tuple(
    Array(
      dtype,
      tuple(int(n) for n in shape.split(',') if n),
      in_hbm='S(' not in layout,
    )
    for dtype, shape, layout in _ARRAY.findall(text)
    if _BITS.match(dtype) or dtype == 'pred'
  )


def _split_shape(text):
  """Returns the shape that a line begins with, and what follows it."""
  if not text.startswith('('):
    shape, _, rest = text.partition(' ')
    return shape, rest
  end = _find_end(text[1:]) + 2
  return text[:end], text[end:].lstrip()


def _find_end(text):
  """Returns where the parenthesis closes that was opened before the text."""
  depth = 1
  for found in re.finditer(r'[()]', text):
    depth += 1 if found[0] == '(' else -1
    if not depth:
      return found.start()
  return len(text)


def _find_called(instruction):
  pattern = _CALLED.get(instruction.opcode)
  if pattern is None:
    return []
  called = pattern.findall(instruction.line)
  if branches := _BRANCHES.search(instruction.line):
    called += [name.strip(' %') for name in branches[1].split(',')]
  return called
