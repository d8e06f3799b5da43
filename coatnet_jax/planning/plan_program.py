"""The train step of a config, compiled for a slice, and what it says.

Facts and sums; how they are shown is `plan_page.py`'s, what to try next
`plan_search.py`'s.
"""

import contextlib
import dataclasses
import math
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from coatnet_jax import terminal
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.initial_state import abstract_train_state
from coatnet_jax.models import cost
from coatnet_jax.planning import cycle_breakdown
from coatnet_jax.planning.plan_page import Plan, Target
from coatnet_jax.run import Run, create_run
from coatnet_jax.step_compilation import jit_train_step
from coatnet_jax.tpu_compiler import collectives, compiler_report, topologies
from coatnet_jax.training.train_state import TrainState


def resolve_run(
  config: ConfigDict,
  target: Target,
  sources: tuple[ImageSource, ImageSource],
) -> Run:
  """Returns the run of a config on abstract devices.

  Raises:
    UserError: as `create_run`.
  """
  devices = topologies.create_abstract_devices(
    target.slice.name, target.num_slices
  )
  config = config.copy_and_resolve_references()
  # It is not planned: what fits any mesh.
  config.evaluation.global_batch_size = len(devices)
  return create_run(config, devices=devices, sources=sources)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedStep:
  """A run's train step on its way to being compiled.

  Attributes:
    run: resolved run, from `create_run`.
    abstract_state: shapes, dtypes and shardings of its state.
    traced: train step as JAX traced it.
    lowered: train step before it is compiled.
    compiled: compiled train step; None where it does not fit.
    needed_bytes: memory in bytes that it needs, where it does not fit.
    seconds: time in seconds that all this took.
  """

  run: Run
  abstract_state: TrainState
  traced: jax.stages.Traced
  lowered: jax.stages.Lowered
  compiled: jax.stages.Compiled | None
  needed_bytes: int | None
  seconds: float


def compile_step(run: Run) -> PlannedStep:
  """Compiles a run's train step for abstract devices.

  Args:
    run: resolved run, whose mesh has abstract devices.

  Raises:
    UserError: the image size or the mesh does not fit the model.
  """
  start = time.monotonic()
  terminal.begin('tracing the train step')
  with silence_compiler():
    _, abstract_state = abstract_train_state(run)
    traced = jit_train_step(run, abstract_state).trace(
      abstract_state, run.abstract_batch
    )
    lowered = traced.lower()
    compiled, needed_bytes = None, None
    terminal.begin('compiling for the TPU')
    try:
      compiled = compiler_report.compile_or_explain(lowered)
    except compiler_report.OutOfMemoryError as error:
      needed_bytes = error.needed_bytes
  return PlannedStep(
    run=run,
    abstract_state=abstract_state,
    traced=traced,
    lowered=lowered,
    compiled=compiled,
    needed_bytes=needed_bytes,
    seconds=time.monotonic() - start,
  )


@contextlib.contextmanager
def silence_compiler() -> Iterator[None]:
  """Keeps off stderr what libtpu writes there itself, unless it fails."""
  with tempfile.TemporaryFile() as log:
    stderr = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
      yield
    except jax.errors.JaxRuntimeError:
      log.seek(0)
      os.write(stderr, log.read())
      raise
    finally:
      os.dup2(stderr, 2)
      os.close(stderr)


def create_plan(step: PlannedStep, target: Target) -> Plan:
  """Returns what the compiler says of a train step.

  Args:
    step: train step of a run, from `compile_step`.
    target: slices that it was compiled for.
  """
  run, state = step.run, step.abstract_state
  chip = target.slice.chip
  batch_size = run.training.global_batch_size
  model_cost = cost.count_cost(run.model, run.preprocessing.image_size)
  memory = count_memory(step)
  facts = {
    'target': target.name,
    'num_chips': target.num_chips,
    'num_hosts': target.num_hosts,
    'chip': target.slice.chip_name,
    'compiler': topologies.describe_compiler(),
    'model': describe_model(run),
    'data': run.train_source.description,
    'mesh': dict(run.mesh.shape),
    'num_parameters': sum(
      math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params)
    ),
    'global_batch_size': batch_size,
    'per_chip_batch_size': batch_size / target.num_chips,
    'gradient_accumulation_steps': run.training.gradient_accumulation_steps,
    'memory': memory,
    'available_bytes': chip.hbm_bytes,
    'forward_flops_per_image': 2 * model_cost.multiply_adds,
    'num_steps': run.training.num_steps,
  }
  if step.compiled is None:
    facts['needed_bytes'] = step.needed_bytes
  else:
    facts['needed_bytes'] = sum(memory.values())
    facts |= estimate_speed(step, target, facts['forward_flops_per_image'])
  return Plan(
    **facts,
    compile_seconds=step.seconds,
    peak_memory_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
  )


def describe_model(run: Run) -> str:
  """Returns what of a model its costs depend on, in a line."""
  size = 'x'.join(str(n) for n in run.preprocessing.image_size)
  model = run.config.model
  options = [model.name, f'{size} px', model.dtype, f'remat {model.remat}']
  if model.scan_blocks:
    options.append('blocks scanned')
  if model.attention != 'auto':
    options.append(f'attention {model.attention}')
  return ', '.join(options)


def count_memory(step: PlannedStep) -> dict[str, int | None]:
  """Returns one chip's bytes of HBM by kind."""
  state = step.abstract_state
  batch = step.run.abstract_batch
  memory = {
    'parameters': count_shard_bytes(state.params),
    'optimizer state': count_shard_bytes(state.opt_state),
    'averages (EMA)': count_shard_bytes(state.ema),
    'batch statistics': count_shard_bytes(state.batch_stats),
    'batch': count_shard_bytes(batch),
  }
  if step.compiled is None:
    return memory | {'temporaries': None}
  sizes = step.compiled.memory_analysis()
  # Step, key, metrics, and what tiles add.
  memory['padding of these'] = (
    sizes.argument_size_in_bytes
    + sizes.output_size_in_bytes
    - sizes.alias_size_in_bytes
    - sum(memory.values())
  )
  return memory | {
    'temporaries': sizes.temp_size_in_bytes,
    'program': sizes.generated_code_size_in_bytes,
  }


def count_shard_bytes(tree: Any) -> int:
  """Returns one device's bytes of a tree of `ShapeDtypeStruct`."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def estimate_speed(
  step: PlannedStep, target: Target, forward_flops: int
) -> dict[str, Any]:
  """Returns what of a `Plan` needs the compiled step."""
  run, chip = step.run, target.slice.chip
  with silence_compiler():
    report = compiler_report.create_report(
      step.traced, step.compiled, target.slice.chip_name
    )
  batch_size = run.training.global_batch_size
  seconds = report.cycles / chip.clock_hz
  images_per_second = batch_size / seconds
  hours = seconds * run.training.num_steps / 3600
  kinds: dict[str, dict[str, int]] = {}
  for collective in report.collectives:
    sums = kinds.setdefault(collective.kind, {'count': 0, 'bytes': 0})
    sums['count'] += collective.times
    sums['bytes'] += collective.total_bytes
  return {
    'compiler_flops_per_image': step.compiled.cost_analysis()['flops']
    * target.num_chips
    / batch_size,
    'cycles': report.cycles,
    'kernel_cycles': report.kernel_cycles,
    'cycles_by_stage': cycle_breakdown.sum_cycles(
      report.operations, cycle_breakdown.find_stage, cycle_breakdown.STAGES
    ),
    'cycles_by_kind': cycle_breakdown.sum_cycles(
      report.operations, cycle_breakdown.find_kind, cycle_breakdown.KINDS
    ),
    'hbm_bytes': report.hbm_bytes,
    'seconds_per_step': seconds,
    'images_per_second': images_per_second,
    'peak_share': 3
    * forward_flops
    * images_per_second
    / (chip.peak_flops * target.num_chips),
    'collectives': dict(sorted(kinds.items())),
    'link_seconds': sum(
      collective.sent_bytes
      for collective in report.collectives
      if collective.kind in collectives.KINDS
    )
    / chip.ici_bytes_per_second,
    'hours': hours,
    'chip_hours': hours * target.num_chips,
    'host_images_per_second': images_per_second / target.num_hosts,
  }
