"""The programs that figures are made of: attention, and a train step."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format, Layout
from jax.sharding import SingleDeviceSharding

from benchmarks.attention.cases import Case
from coatnet_jax import terminal
from coatnet_jax.errors import UserError
from coatnet_jax.ops.relative_attention import relative_attention
from coatnet_jax.tpu_compiler.compiler_report import compile_or_explain


def create_program(
  case: Case, implementation: str, direction: str
) -> tuple[Callable[..., Any], list[jax.ShapeDtypeStruct]]:
  """Returns attention as a function, and its arguments' shapes.

  Args:
    case: grid, number of images, heads, head size and dtype of the attention.
    implementation: name of the implementation, one of
      `relative_attention.IMPLEMENTATIONS`.
    direction: passes that are computed, one of `DIRECTIONS`. Forward takes q,
      k, v and the table; with backward also the result's gradient, and returns
      all gradients too.
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

  Arguments are those of `create_program`, and:

  Args:
    device: device to compile for, perhaps an abstract one.

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
  """Returns a compiled program with its arguments on the device.

  Arguments are those of `trace_program`, but for the device, which is there.
  """
  traced = trace_program(case, implementation, direction, device)
  terminal.begin('compiling')
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


def time_in_turn(
  programs: dict[str, Callable[[], Any]],
) -> Iterator[dict[str, tuple[float, float]]]:
  """Yields each program's seconds, (by the clock, of the processor), in rounds.

  One run of each in turn, so that what slows the machine for a while slows
  all of them. A first round, which warms up, does not count. There is no last.

  Args:
    programs: compiled programs with their arguments, from `prepare_program`, by
      name.
  """
  for index in itertools.count():
    seconds = {}
    for name, program in programs.items():
      clock, processor = time.perf_counter(), time.process_time()
      jax.block_until_ready(program())
      seconds[name] = (
        time.perf_counter() - clock,
        time.process_time() - processor,
      )
    if index:
      yield seconds


def trace_train_step(device: jax.Device, attention: str) -> jax.stages.Traced:
  """Traces the whole train step of configs/coatnet_0.py for one device.

  128 images of 224 px, random ones: the program does not depend on them.

  Args:
    device: device to compile for, perhaps an abstract one.
    attention: name of the implementation of relative attention, a value of
      `config.model.attention`.
  """
  # Training imports TensorFlow and more, for seconds.
  from coatnet_jax.initial_state import abstract_train_state
  from coatnet_jax.run import create_run
  from coatnet_jax.step_compilation import jit_train_step
  from configs import coatnet_0

  config = coatnet_0.get_config()
  config.model.attention = attention
  config.data.source = 'synthetic'
  config.training.num_epochs, config.training.num_steps = 0.0, 100_000
  config.training.global_batch_size = 128
  config.evaluation.global_batch_size = 128
  run = create_run(config, devices=[device])
  _, abstract_state = abstract_train_state(run)
  return jit_train_step(run, abstract_state).trace(
    abstract_state, run.abstract_batch
  )
