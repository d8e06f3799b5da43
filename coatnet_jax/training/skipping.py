"""Steps that change nothing, because a number in them is not finite.

`config.training.skip_nonfinite_steps` says how many a run may have. Not
`optax.apply_if_finite`: that knows gradients alone, and not the loss, nor batch
statistics and averages; and it applies what is not finite in the end.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from coatnet_jax.training.train_state import TrainState


def skip_unless_finite(
  new_state: TrainState, state: TrainState, metrics: Mapping[str, jax.Array]
) -> tuple[TrainState, dict[str, jax.Array]]:
  """Returns a step's state and metrics; where one is not finite, the old state.

  Its step counts all the same, so that the next one has the next batch.

  Args:
    new_state: state after the step.
    state: state before the step.
    metrics: float32 scalars of the step, among them the norms of gradients and
      of new parameters.
  """
  numbers = [*metrics.values(), *jax.tree.leaves(new_state.batch_stats)]
  is_finite = jnp.stack([jnp.isfinite(n).all() for n in numbers]).all()

  def choose(name):
    return jax.tree.map(
      lambda new, old: jnp.where(is_finite, new, old),
      getattr(new_state, name),
      getattr(state, name),
    )

  names = ('params', 'batch_stats', 'opt_state', 'ema')
  return (
    new_state.replace(**{name: choose(name) for name in names}),
    {**metrics, 'skipped': 1 - is_finite.astype(jnp.float32)},
  )


def count_updates(state: TrainState) -> jax.Array:
  """Returns how many updates the optimizer has made, an int32 scalar.

  Steps that were skipped made none.

  Args:
    state: state of a run.
  """
  counts = optax.tree.get_all_with_path(state.opt_state, 'count')
  return counts[0][1] if counts else state.step
