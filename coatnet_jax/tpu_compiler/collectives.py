"""What a compiled program sends between devices, read from its text.

The bytes are those of one device's arrays; how they travel is the network's.
"""

import dataclasses
import re
from collections.abc import Iterator

from coatnet_jax.tpu_compiler.compiled_text import (
  HloModule,
  Instruction,
)

KINDS = (
  'all-gather',
  'all-reduce',
  'all-to-all',
  'collective-permute',
  'reduce-scatter',
)
# Added to the kind of a collective of several slices, which goes through their
# hosts and the data centre's network, already reduced within each slice.
BETWEEN_SLICES = ' between slices'
# XLA writes the groups of devices in three ways: as axes of a device mesh,
# {'data'=4,'fsdp'=2} {'data'}, perhaps with a part of an axis, 'data':(1)2; as
# a list, {{0,1},{2,3}}; or as an array, [2,4]<=[8].
_MESH_GROUPS = re.compile(r'replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}')
_LISTED_GROUPS = re.compile(r'replica_groups=\{\{([\d,]*)\}')
_ARRANGED_GROUPS = re.compile(r'replica_groups=\[\d+,(\d+)\]')
_CHANNEL = re.compile(r'channel_id=(\d+)')
_TRANSFER = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_CALLED = re.compile(r'(?:calls|called_computation)=%([^\s,]+)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
  """An exchange between devices, as often as it runs.

  Attributes:
    kind: kind of the collective, one of `KINDS`, perhaps with `BETWEEN_SLICES`.
    times: number of times that it runs; 1 in a loop whose end depends on its
      numbers.
    num_bytes: bytes of one device's array, each time: the array that is
      reduced, exchanged or sent, or that a gather makes.
    group_size: number of devices that take part together; 0 where all do.
    op_name: place in the traced function, by names of scopes and modules.
  """

  kind: str
  times: int
  num_bytes: int
  group_size: int
  op_name: str

  @property
  def total_bytes(self) -> int:
    """Returns the bytes of all times."""
    return self.times * self.num_bytes

  @property
  def sent_bytes(self) -> float:
    """Returns the bytes that a device sends in all, around a ring."""
    # In a ring of n devices each passes on n - 1 of n parts of the array; an
    # all-reduce is a reduce-scatter and an all-gather, so twice as many.
    others = 1 - 1 / self.group_size if self.group_size else 1
    rounds = {'all-reduce': 2 * others, 'collective-permute': 1}
    return self.total_bytes * rounds.get(self.kind, others)


def find_collectives(program: HloModule) -> Iterator[Collective]:
  """Yields the collectives of a program.

  A collective that begins in one place and ends in another counts once, where
  it begins. Collectives inside of fusions count too: on a TPU a reduce-scatter
  is a fusion of an all-reduce and a slice, and an all-gather that runs beside a
  computation is a chain of fusions, each with the same all-gather.

  Args:
    program: program of one device, from `parse_hlo_module`.
  """
  seen = set()
  for computation, instruction, times, _ in program.walk():
    for channel, found in _find_in(program, computation, instruction, times):
      key = (id(computation), found.kind, channel)
      if not channel or key not in seen:
        seen.add(key)
        yield found


def _find_in(program, computation, instruction, times):
  """Yields channel and collective, of an instruction and what it calls."""
  kind = instruction.opcode.removesuffix('-start')
  if kind in KINDS:
    channel = _CHANNEL.search(instruction.line)
    yield (
      channel and channel[1],
      _describe(computation, instruction, kind, times),
    )
  elif instruction.opcode == 'send':
    if transfer := _TRANSFER.search(instruction.line):
      kind = transfer[1].lower().replace('_', '-') + BETWEEN_SLICES
      yield None, _describe(computation, instruction, kind, times)
  elif instruction.opcode in ('fusion', 'async-start'):
    for name in _CALLED.findall(instruction.line):
      called = program.computations.get(name, {})
      for inner in called.values():
        for channel, found in _find_in(program, called, inner, times):
          if name.startswith('all-reduce-scatter'):
            found = dataclasses.replace(
              found, kind='reduce-scatter', op_name=instruction.op_name
            )
          yield channel, found


def _describe(computation, instruction, kind, times) -> Collective:
  group_size = read_group_size(instruction)
  num_bytes = sum(
    array.num_bytes
    for name in instruction.operands
    for array in computation[name].results
  )
  if kind == 'all-gather':
    if instruction.opcode == 'all-gather':
      num_bytes = sum(array.num_bytes for array in instruction.results)
    else:
      num_bytes *= group_size
  return Collective(
    kind=kind,
    times=times,
    num_bytes=num_bytes,
    group_size=group_size,
    op_name=instruction.op_name,
  )


def read_group_size(instruction: Instruction) -> int:
  """Returns how many devices a collective is between; 0 where not stated."""
  line = instruction.line
  if found := _MESH_GROUPS.search(line):
    axes = dict(re.findall(r"'([^']+)'=(\d+)", found[1]))
    size = 1
    for name, part in re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", found[2]):
      size *= int(part or axes[name])
    return size
  if found := _LISTED_GROUPS.search(line):
    return len(found[1].split(','))
  if found := _ARRANGED_GROUPS.search(line):
    return int(found[1])
  return 2 if 'source_target_pairs=' in line else 0
