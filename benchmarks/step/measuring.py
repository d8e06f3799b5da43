"""A run's own train step, compiled and timed on made-up images."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.step import trace
from benchmarks.step.peaks import find_peak
from benchmarks.versus.contestant import read_peak_memory
from benchmarks.versus.tables import compute_quartiles
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.initial_state import abstract_train_state
from coatnet_jax.models import cost
from coatnet_jax.run import Run
from coatnet_jax.step_compilation import jit_train_step

# A round has as many steps as take about so many seconds.
_ROUND_SECONDS = 0.25
_PROFILED_STEPS = 3


def measure(
  run: Run,
  *,
  num_rounds: int,
  profiles: bool,
  report: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
  """Compiles and times a run's train step; returns what --json has.

  Args:
    run: resolved run, from `create_run`.
    num_rounds: number of rounds to time.
    profiles: whether some steps are traced by JAX's profiler afterwards.
    report: function called with a line on what goes on.

  Raises:
    FloatingPointError: a step gives a loss that is not finite.
  """
  # Compiling is timed, and loading what was compiled once is not that.
  jax.config.update('jax_enable_compilation_cache', False)
  create_state, abstract_state = abstract_train_state(run)
  start = time.perf_counter()
  report('tracing')
  lowered = jit_train_step(run, abstract_state).lower(
    abstract_state, run.abstract_batch
  )
  traced = time.perf_counter()
  report('compiling')
  compiled = lowered.compile()
  compiled_at = time.perf_counter()
  report('initialising')
  state, metrics = create_state(), None
  batch = mesh_lib.put_batch(create_batch(run), run.mesh, ('image', 'label'))

  def take_steps(count):
    nonlocal state, metrics
    start = time.perf_counter()
    for _ in range(count):
      state, metrics = compiled(state, batch)
    jax.block_until_ready(metrics)
    return (time.perf_counter() - start) / count

  report('taking steps')
  take_steps(1)
  steps = max(1, math.ceil(_ROUND_SECONDS / take_steps(1)))
  rounds = [take_steps(steps) for _ in range(num_rounds)]
  loss = float(metrics['loss'])
  if not math.isfinite(loss):
    raise FloatingPointError(f'the loss is {loss}')
  device = run.mesh.devices.flat[0]
  figures = {
    'versions': {'jax': jax.__version__},
    'device': device.device_kind,
    'num_devices': run.mesh.size,
    'num_parameters': sum(
      math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_state.params)
    ),
    'global_batch_size': run.training.global_batch_size,
    'trace_seconds': traced - start,
    'compile_seconds': compiled_at - traced,
    'steps_per_round': steps,
    'seconds_per_step': rounds,
    'peak_bytes': find_peak_bytes(device),
    'temporary_bytes': compiled.memory_analysis().temp_size_in_bytes,
    **summarise_times(rounds, run.training.global_batch_size),
  }
  figures |= rate(run, compiled, figures['median_seconds'])
  if profiles:
    report('profiling')
    profile = trace.profile(
      lambda: take_steps(_PROFILED_STEPS), compiled, _PROFILED_STEPS
    )
    figures['profile'] = {
      'seconds_per_step': profile.seconds,
      'by_kind': profile.by_kind,
      'largest': list(profile.largest),
    }
  return figures


def create_batch(run: Run) -> dict[str, np.ndarray]:
  """Returns random images and labels of a run's shapes.

  Args:
    run: resolved run, from `create_run`.
  """
  rng = np.random.default_rng(0)
  images, labels = (run.abstract_batch[name] for name in ('image', 'label'))
  return {
    'image': rng.integers(0, 256, images.shape, np.uint8),
    'label': rng.integers(0, run.model.num_classes, labels.shape, labels.dtype),
  }


def summarise_times(
  rounds: list[float], batch_size: int
) -> dict[str, float | list[float]]:
  """Returns median, quartiles and images per second.

  >>> summarise_times([0.25, 0.5, 1.0], batch_size=8)['images_per_second']
  16.0

  Args:
    rounds: seconds per step of each round.
    batch_size: number of images of a step.
  """
  lower, _, upper = compute_quartiles(rounds)
  median = statistics.median(rounds)
  return {
    'median_seconds': median,
    'quartile_seconds': [lower, upper],
    'images_per_second': batch_size / median,
  }


def rate(
  run: Run, compiled: jax.stages.Compiled, seconds: float
) -> dict[str, float | None]:
  """Returns what is computed in a step, and which part of the peak that is.

  Args:
    run: resolved run, from `create_run`.
    compiled: train step of the run.
    seconds: time in seconds that a step takes.
  """
  model_cost = cost.count_cost(run.model, run.preprocessing.image_size)
  # Of all devices, by the arithmetic of tools.plan: backward is twice forward.
  model_flops = (
    3 * 2 * model_cost.multiply_adds * run.training.global_batch_size
  )
  counted = (compiled.cost_analysis() or {}).get('flops')
  device = run.mesh.devices.flat[0]
  peak = find_peak(device.device_kind, run.config.model.dtype)
  budget = peak and peak * run.mesh.size * seconds
  # XLA's count is that of one device's program.
  counted = counted and counted * run.mesh.size
  return {
    'model_flops_per_step': model_flops,
    'compiler_flops_per_step': counted,
    'peak_flops_per_device': peak,
    'peak_share': budget and model_flops / budget,
    'compiler_peak_share': budget and counted and counted / budget,
  }


def find_peak_bytes(device: jax.Device) -> int | None:
  """Returns the most memory held: the device's, or on a CPU the process's.

  Args:
    device: device of the run; one stands for all.
  """
  if device.platform == 'cpu':
    return read_peak_memory()
  return (device.memory_stats() or {}).get('peak_bytes_in_use')
