"""What tools.benchmark_attention compiles: attention, and a train step."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format, Layout
from jax.sharding import SingleDeviceSharding

from coatnet_jax import terminal
from coatnet_jax.errors import UserError
from coatnet_jax.ops.relative_attention import relative_attention
from coatnet_jax.tpu_compiler.compiler_report import compile_or_explain
from coatnet_jax.tpu_compiler.topologies import Chip

DIRECTIONS = ('forward', 'forward+backward')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """The size of an attention."""

  grid: tuple[int, int]
  batch: int
  heads: int
  head_dim: int = 32
  dtype: str = 'bfloat16'

  @property
  def num_tokens(self) -> int:
    """Returns N."""
    return self.grid[0] * self.grid[1]

  def count_products(self, direction: str) -> int:
    """Returns the matrix products of a head: 2, and 5 backward."""
    return 2 if direction == 'forward' else 7

  def count_arrays(self, direction: str) -> int:
    """Returns how many arrays of q's size must be read or written.

    Forward q, k, v and the result; backward these and the result's gradient
    are read, and three gradients written.
    """
    return 4 if direction == 'forward' else 12

  def compute_product_floor(self, chip: Chip, direction: str) -> int:
    """Returns the cycles of the matrix units, all of them always busy.

    In each product the head is either what is summed over or the width of the
    result, and counts as padded to the size of a matrix unit.
    """
    head_dim = -(-self.head_dim // chip.mxu_size) * chip.mxu_size
    multiply_adds = self.batch * self.heads * self.num_tokens**2 * head_dim
    products = self.count_products(direction)
    return round(products * multiply_adds / chip.multiply_adds_per_cycle)

  def compute_hbm_floor(self, chip: Chip, direction: str) -> int:
    """Returns the cycles in which the arrays pass through HBM's bandwidth."""
    num_bytes = (
      self.count_arrays(direction)
      * (self.batch * self.num_tokens * self.heads * self.head_dim)
      * np.dtype(self.dtype).itemsize
    )
    return round(num_bytes / chip.hbm_bytes_per_second * chip.clock_hz)


# CoAtNet-0's two stages at 224 px, its third at 384 and 512 px, and at 1,024.
CASES = (
  Case(grid=(14, 14), batch=128, heads=12),
  Case(grid=(7, 7), batch=128, heads=24),
  Case(grid=(24, 24), batch=64, heads=12),
  Case(grid=(32, 32), batch=32, heads=12),
  Case(grid=(64, 64), batch=4, heads=12),
)


def create_program(
  case: Case, implementation: str, direction: str
) -> tuple[Callable[..., Any], list[jax.ShapeDtypeStruct]]:
  """Returns attention as a function, and its arguments' shapes.

  Args:
    case: size of the attention.
    implementation: implementation of `relative_attention`.
    direction: one of `DIRECTIONS`. Forward takes q, k, v and the table; with
      backward also the result's gradient, and returns all gradients too.
  """
  heads = (case.batch, case.num_tokens, case.heads, case.head_dim)
  # One [B, N, heads, head_dim] is not another's layout away from the other: on
  # a TPU the last two axes are tiled.
  shape = heads
  if implementation == 'pallas':
    shape = (*heads[:2], case.heads * case.head_dim)

  def forward(q, k, v, table):
    q, k, v = (x.reshape(heads) for x in (q, k, v))
    return relative_attention(
      q, k, v, table, grid=case.grid, implementation=implementation
    ).reshape(shape)

  def forward_and_backward(q, k, v, table, gradient):
    out, pullback = jax.vjp(forward, q, k, v, table)
    return out, pullback(gradient)

  height, width = case.grid
  tokens = jax.ShapeDtypeStruct(shape, case.dtype)
  table = jax.ShapeDtypeStruct(
    (case.heads, 2 * height - 1, 2 * width - 1), jnp.float32
  )
  if direction == 'forward':
    return forward, [tokens, tokens, tokens, table]
  return forward_and_backward, [tokens, tokens, tokens, table, tokens]


def trace_program(
  case: Case, implementation: str, direction: str, device: jax.Device
) -> jax.stages.Traced:
  """Traces a program for one device, with layouts for the compiler to choose.

  Raises:
    UserError: the implementation does not take such heads.
  """
  function, arguments = create_program(case, implementation, direction)
  chosen = Format(Layout.AUTO, SingleDeviceSharding(device))
  jitted = jax.jit(function, in_shardings=chosen, out_shardings=chosen)
  try:
    return jitted.trace(*arguments)
  except ValueError as error:
    raise UserError(str(error)) from error


def prepare_program(
  case: Case, implementation: str, direction: str, device: jax.Device
) -> Callable[[], Any]:
  """Returns a compiled program with its arguments on the device."""
  traced = trace_program(case, implementation, direction, device)
  terminal.begin('compiling for the TPU')
  compiled = compile_or_explain(traced.lower())
  formats, _ = compiled.input_formats
  rng = np.random.default_rng(0)
  arguments = [
    jax.device_put(
      jnp.asarray(rng.standard_normal(x.shape, np.float32), x.dtype), format_
    )
    for x, format_ in zip(jax.tree.leaves(traced.in_avals), formats)
  ]
  return lambda: compiled(*arguments)


def measure_interleaved(
  programs: dict[str, Callable[[], Any]], repeats: int
) -> dict[str, list[float]]:
  """Returns the seconds of every run of every program.

  One run of each in turn, so that what slows the machine for a while slows
  all of them. A first round, which warms up, does not count.
  """
  seconds = {name: [] for name in programs}
  for index in range(repeats + 1):
    for name, program in programs.items():
      start = time.perf_counter()
      jax.block_until_ready(program())
      if index:
        seconds[name].append(time.perf_counter() - start)
  return seconds


def trace_train_step(device: jax.Device, attention: str) -> jax.stages.Traced:
  """Traces the whole train step of configs/coatnet_0.py for one device.

  128 images of 224 px, random ones: the program does not depend on them.

  Args:
    device: device to compile for, perhaps an abstract one.
    attention: value of `config.model.attention`.
  """
  # Training imports TensorFlow and more, for seconds.
  import train
  from coatnet_jax.initial_state import abstract_train_state
  from coatnet_jax.run import create_run
  from configs import coatnet_0

  config = coatnet_0.get_config()
  config.model.attention = attention
  config.data.source = 'synthetic'
  config.training.num_epochs, config.training.num_steps = 0.0, 100_000
  config.training.global_batch_size = 128
  config.evaluation.global_batch_size = 128
  run = create_run(config, devices=[device])
  _, abstract_state = abstract_train_state(run)
  return train.jit_train_step(run, abstract_state).trace(
    abstract_state, run.abstract_batch
  )
