"""Equation 3 and its gradients in NumPy and float64, to compare with."""

import jax.numpy as jnp
import numpy as np

# What may become NaN, or infinite, by name: functions of `create_inputs`.
EXTREMES = {
  # Every row of logits is constant.
  'constant': lambda q, k, v, table, grad: (0 * q, k, v, 0 * table, grad),
  '+1e4': lambda q, k, v, table, grad: (q, k, v, table + 1e4, grad),
  '-1e4': lambda q, k, v, table, grad: (q, k, v, table - 1e4, grad),
  # One key takes all, another is one among them.
  '+-1e4': lambda q, k, v, table, grad: (q, k, v, table * 1e4, grad),
  'means': lambda q, k, v, table, grad: (q + 100, k, v - 300, table, grad),
}


def create_inputs(grid, *, batch, heads, head_dim, dtype='float32', seed=0):
  """Returns q, k, v, table and the output's gradient, in float64.

  Their values are numbers of the dtype (of the table: float32), so that
  nothing is rounded when they are converted.
  """
  rng = np.random.default_rng(seed)
  height, width = grid
  tokens = (batch, height * width, heads, head_dim)
  table = (heads, 2 * height - 1, 2 * width - 1)
  shapes = (tokens, tokens, tokens, table, tokens)
  dtypes = (dtype, dtype, dtype, 'float32', dtype)
  return [
    np.asarray(jnp.asarray(rng.normal(size=shape), of), np.float64)
    for shape, of in zip(shapes, dtypes, strict=True)
  ]


def convert(inputs, dtype):
  """Returns `create_inputs` as arrays of a dtype; the table is float32."""
  q, k, v, table, grad = inputs
  q, k, v, grad = (jnp.asarray(x, dtype) for x in (q, k, v, grad))
  return q, k, v, jnp.asarray(table, jnp.float32), grad


def expand(table, grid):
  """Looks the bias of every pair of tokens up: [heads, N, N]."""
  return table[:, *_offsets(grid)]


def attend(q, k, v, table, grid, scale=None):
  """Returns the attention [B, N, heads, head_dim]."""
  weights, _ = _weights(q, k, table, grid, scale)
  return np.einsum('bhqk,bkhd->bqhd', weights, v)


def gradients(q, k, v, table, grad, grid, scale=None):
  """Returns the gradients of q, k, v and the table."""
  weights, scale = _weights(q, k, table, grid, scale)
  dv = np.einsum('bhqk,bqhd->bkhd', weights, grad)
  dweights = np.einsum('bqhd,bkhd->bhqk', grad, v)
  mean = (weights * dweights).sum(-1, keepdims=True)
  dlogits = weights * (dweights - mean)
  dtable = np.zeros_like(table)
  np.add.at(dtable, (slice(None), *_offsets(grid)), dlogits.sum(0))
  dq = np.einsum('bhqk,bkhd->bqhd', dlogits, k) * scale
  dk = np.einsum('bhqk,bqhd->bkhd', dlogits, q) * scale
  return dq, dk, dv, dtable


def relative_error(actual, expected):
  """Returns the largest difference, as a part of the largest value."""
  actual = np.asarray(actual, np.float64)
  assert actual.shape == expected.shape
  assert np.isfinite(actual).all()
  return np.abs(actual - expected).max() / np.abs(expected).max()


def relative_errors(actual, inputs, grid, scale=None):
  """Returns the errors of the output and the gradients of all inputs."""
  expected = (
    attend(*inputs[:4], grid, scale),
    *gradients(*inputs, grid, scale),
  )
  return [relative_error(x, y) for x, y in zip(actual, expected, strict=True)]


def _weights(q, k, table, grid, scale):
  scale = q.shape[-1] ** -0.5 if scale is None else scale
  logits = np.einsum('bqhd,bkhd->bhqk', q, k) * scale + expand(table, grid)
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  return weights / weights.sum(-1, keepdims=True), scale


def _offsets(grid):
  """Returns the entry of the table of each pair of tokens, two of [N, N]."""
  height, width = grid
  rows, columns = np.divmod(np.arange(height * width), width)
  return (
    rows[:, None] - rows[None, :] + height - 1,
    columns[:, None] - columns[None, :] + width - 1,
  )
