"""Pixels by their place in the windows of a stride.

Where the stride is s, those whose rows and columns leave one remainder by s are
a phase: s*s of them make a map. A gradient is computed phase by phase where all
pixels of one see the same.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def interleave(phases: Sequence[Sequence[jax.Array]]) -> jax.Array:
  """Puts a map together from its phases.

  >>> a, b, c, d = (jnp.full((1, 1, 1, 1), i) for i in range(4))
  >>> interleave([[a, b], [c, d]])[0, :, :, 0].tolist()
  [[0, 1], [2, 3]]

  Args:
    phases: s rows of s arrays [B, H, W, C], by remainder of row and column.

  Returns:
    [B, s*H, s*W, C].
  """
  return _merge([_merge(row, axis=2) for row in phases], axis=1)


def _merge(arrays, axis):
  """Puts the entries of an axis in turn: one of each array, then the next."""
  shape = list(arrays[0].shape)
  shape[axis] *= len(arrays)
  return jnp.stack(arrays, axis + 1).reshape(shape)
