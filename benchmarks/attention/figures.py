"""Figures of relative attention: what a TPU's compiler says, or the clock.

Each is a row of a table, as `python -m tools.benchmark_attention --json` prints
it: that command's help says what is in one.
"""

import dataclasses
import itertools
import re
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from benchmarks.attention.cases import Case
from benchmarks.attention.programs import (
  prepare_program,
  time_in_turn,
  trace_program,
  trace_train_step,
)
from coatnet_jax.tpu_compiler import compiler_report, topologies

# Of an attention layer: attention itself, and the products of its projections.
_NOT_BESIDE_ATTENTION = r'relative_attention|/(qkv|out)/dot_general'


def estimate_cases(
  cases: Sequence[Case],
  chips: Sequence[str],
  implementations: Sequence[str],
  directions: Sequence[str],
) -> Iterator[dict[str, Any]]:
  """Yields what --json prints, compiling one program at a time."""
  for chip in chips:
    device = topologies.create_abstract_devices(chip)[0]
    for case in cases:
      for direction in directions:
        yield from compare_with_xla(
          [
            estimate(case, implementation, direction, chip, device)
            for implementation in implementations
          ],
          'cycles',
        )


def estimate(
  case: Case, implementation: str, direction: str, chip: str, device: jax.Device
) -> dict[str, Any]:
  """Returns one object of --json, without 'of_xla'.

  Args:
    case: size of the attention.
    implementation: implementation of `relative_attention`.
    direction: one of `DIRECTIONS`.
    chip: name of the chip to compile for.
    device: abstract device of that chip.
  """
  traced = trace_program(case, implementation, direction, device)
  try:
    report = compiler_report.compile_report(traced, chip)
    needed_bytes = report.needed_bytes
  except compiler_report.OutOfMemoryError as error:
    report, needed_bytes = None, error.needed_bytes
  properties = topologies.get_chip(chip)
  return {
    'chip': chip,
    **dataclasses.asdict(case),
    'direction': direction,
    'implementation': implementation,
    'cycles': report and report.cycles,
    'kernel_cycles': report and report.kernel_cycles,
    'milliseconds': report and report.cycles / properties.clock_hz * 1e3,
    'hbm_bytes': report and report.hbm_bytes,
    'temporary_bytes': report and report.temporary_bytes,
    'largest_array_bytes': report and report.largest_array.num_bytes,
    'needed_bytes': needed_bytes,
    'product_floor_cycles': case.compute_product_floor(properties, direction),
    'hbm_floor_cycles': case.compute_hbm_floor(properties, direction),
  }


def compare_with_xla(rows: list[dict[str, Any]], key: str) -> list[dict]:
  """Adds 'of_xla': a row's `key` over the least of what has no kernel.

  Args:
    rows: rows of one case, an implementation each.
    key: key of the number to compare.
  """
  without_kernel = [
    row[key]
    for row in rows
    if row['implementation'] != 'pallas' and row[key] is not None
  ]
  for row in rows:
    row['of_xla'] = None
    if without_kernel and row[key] is not None:
      row['of_xla'] = row[key] / min(without_kernel)
  return rows


def measure_cases(
  cases: Sequence[Case],
  implementations: Sequence[str],
  directions: Sequence[str],
  repeats: int,
) -> Iterator[dict[str, Any]]:
  """Yields what --json prints, timing on the first device there is."""
  device = jax.devices()[0]
  for case in cases:
    for direction in directions:
      programs = {
        name: prepare_program(case, name, direction, device)
        for name in implementations
      }
      rounds = [*itertools.islice(time_in_turn(programs), repeats)]
      yield from compare_with_xla(
        [
          {
            'device': device.device_kind,
            **dataclasses.asdict(case),
            'direction': direction,
            'implementation': name,
            'milliseconds': 1e3
            * statistics.median(seconds[name][0] for seconds in rounds),
          }
          for name in implementations
        ],
        'milliseconds',
      )


def estimate_train_steps(
  chip: str, implementations: Sequence[str]
) -> Iterator[dict[str, Any]]:
  """Yields for each implementation the cycles of CoAtNet-0's train step."""
  device = topologies.create_abstract_devices(chip)[0]
  for name in implementations:
    attention = 'auto' if name == 'pallas' else name
    report = compiler_report.compile_report(
      trace_train_step(device, attention), chip
    )
    of_attention = report.count_cycles('relative_attention')
    beside = sum(
      operation.cycles
      for operation in report.operations
      if '/attention/' in operation.op_name
      and not re.search(_NOT_BESIDE_ATTENTION, operation.op_name)
    )
    yield {
      'chip': chip,
      'implementation': name,
      'cycles': report.cycles,
      'milliseconds': report.cycles / topologies.get_chip(chip).clock_hz * 1e3,
      'attention_cycles': of_attention,
      'attention_share': of_attention / report.cycles,
      'beside_attention_cycles': beside,
      'kernel_cycles': report.kernel_cycles,
      'hbm_bytes': report.hbm_bytes,
      'temporary_bytes': report.temporary_bytes,
    }
