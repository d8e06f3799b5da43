"""Marks what is worth keeping where the rest is computed again."""

import jax
from jax.ad_checkpoint import checkpoint_name

# The mark, for `jax.checkpoint_policies.save_only_these_names`.
KEPT = 'kept'


def keep(x: jax.Array) -> jax.Array:
  """Marks a result that the backward pass needs and that is costly to compute.

  Products and convolutions, not what follows them element by element: that the
  compiler writes into whatever reads it. Without a policy a mark does nothing.
  """
  return checkpoint_name(x, KEPT)
