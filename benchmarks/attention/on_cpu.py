"""Times relative attention's 'xla' form on this CPU against plain forms.

    python -m benchmarks.attention.on_cpu

One line for each grid, heads, head size, batch, dtype and direction: the
median of each form, run in turn so that what else the machine does slows all
of them, and how long 'xla' takes of the faster plain one, in wall-clock and in
processor time. On a shared machine the latter is the steadier. Not for a TPU:
`python -m tools.benchmark_attention`.
"""

import argparse
import functools
import itertools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.attention.programs import time_in_turn
from coatnet_jax.ops.relative_attention import relative_attention
from coatnet_jax.ops.relative_attention.bias_table import expand_bias_table

# Grid, heads, head size and batches: CoAtNet's at 160 to 512 px.
SHAPES = (
  ((14, 14), 12, 32, (1, 8, 32)),
  ((14, 14), 16, 32, (8,)),
  ((14, 14), 24, 32, (8,)),
  ((14, 14), 32, 32, (8,)),
  ((14, 14), 20, 64, (8,)),
  ((14, 14), 12, 128, (8,)),
  ((14, 14), 16, 128, (8,)),
  ((7, 7), 24, 32, (1, 8, 32)),
  ((7, 7), 32, 32, (8,)),
  ((7, 7), 32, 64, (8,)),
  ((10, 10), 12, 32, (8,)),
  ((5, 5), 24, 32, (8,)),
  ((24, 24), 12, 32, (1, 8)),
  ((12, 12), 24, 32, (8,)),
  ((32, 32), 12, 32, (1, 4)),
  ((16, 16), 24, 32, (8,)),
)
DTYPES = ('float32', 'bfloat16')
MIN_RUNS, MAX_RUNS = 5, 50


def _attend_by_einsum(q, k, v, bias_table, *, grid):
  """The definition without transposed heads."""
  logits = jnp.einsum(
    'bqhd,bkhd->bhqk', q, k, preferred_element_type=jnp.float32
  )
  logits = q.shape[-1] ** -0.5 * logits + expand_bias_table(bias_table, grid)
  weights = jax.nn.softmax(logits).astype(v.dtype)
  return jnp.einsum('bhqk,bkhd->bqhd', weights, v)


FORMS = {
  'plain': functools.partial(relative_attention, implementation='reference'),
  'einsum': _attend_by_einsum,
  'xla': functools.partial(relative_attention, implementation='xla'),
}


def _compile(attend, grid, backward, inputs):
  attend = functools.partial(attend, grid=grid)

  def run(*inputs):
    if not backward:
      return attend(*inputs[:4])
    out, pullback = jax.vjp(attend, *inputs[:4])
    return out, pullback(inputs[4])

  return jax.jit(run).lower(*inputs).compile()


def measure(grid, heads, head_dim, batch, dtype, backward, seconds):
  """Returns for each form its median (wall-clock, processor) seconds."""
  rng = np.random.default_rng(0)
  tokens = (batch, grid[0] * grid[1], heads, head_dim)
  table = (heads, 2 * grid[0] - 1, 2 * grid[1] - 1)
  q, k, v, grad = (
    jnp.asarray(rng.standard_normal(tokens, np.float32), dtype)
    for _ in range(4)
  )
  inputs = q, k, v, jnp.asarray(rng.standard_normal(table, np.float32)), grad
  runs = {
    name: functools.partial(_compile(attend, grid, backward, inputs), *inputs)
    for name, attend in FORMS.items()
  }
  rounds = []
  end = time.perf_counter() + seconds
  for times in itertools.islice(time_in_turn(runs), MAX_RUNS):
    rounds.append(times)
    if len(rounds) >= MIN_RUNS and time.perf_counter() > end:
      break
  return {
    name: [
      statistics.median(column)
      for column in zip(*(times[name] for times in rounds))
    ]
    for name in runs
  }


def main():
  """Prints the table, in Markdown."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    '--seconds', type=float, default=3, help='for each line, at least'
  )
  seconds = parser.parse_args().seconds
  jax.config.update('jax_platforms', 'cpu')
  print(
    '| grid | heads | batch | dtype | | plain ms | einsum ms | xla ms'
    ' | xla of the faster | in processor time |'
  )
  print('|' + ' --- |' * 10)
  for grid, heads, head_dim, batches in SHAPES:
    for batch, dtype, backward in itertools.product(
      batches, DTYPES, (False, True)
    ):
      medians = measure(grid, heads, head_dim, batch, dtype, backward, seconds)
      (plain, _), (einsum, _), (xla, _) = medians.values()
      ratios = [
        x / min(a, b) for a, b, x in zip(*medians.values(), strict=True)
      ]
      print(
        f'| {grid[0]}x{grid[1]} | {heads} x {head_dim} | {batch} | {dtype}'
        f' | {"forward + backward" if backward else "forward"}'
        f' | {1e3 * plain:.1f} | {1e3 * einsum:.1f} | {1e3 * xla:.1f}'
        f' | {ratios[0]:.2f} | {ratios[1]:.2f} |',
        flush=True,
      )


if __name__ == '__main__':
  main()
