"""Everything that a train step changes, and how it starts."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from coatnet_jax.models.variables import create_variables


@flax.struct.dataclass
class TrainState:
  """The state of a run; all of it is in every checkpoint.

  Attributes:
    step: int32 scalar, optimizer steps taken.
    params: parameters of the model, float32.
    batch_stats: running BatchNorm statistics, float32.
    opt_state: state of the optimizer.
    ema: `{'params', 'batch_stats'}` averaged over steps, or None.
    key: PRNG key of the run; a step's key is this one with the step folded in.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  ema: Any
  key: jax.Array

  @property
  def variables(self) -> dict[str, Any]:
    """What the model is trained with."""
    return {'params': self.params, 'batch_stats': self.batch_stats}

  @property
  def eval_variables(self) -> dict[str, Any]:
    """What the model is evaluated with: the averages where there are any."""
    return self.variables if self.ema is None else self.ema

  def update_ema(self, decay: float, *, warmup: bool) -> 'TrainState':
    """Moves the averages towards the variables, if there are averages.

    Args:
      decay: part of the averages kept at a step.
      warmup: whether it is (1 + step) / (10 + step) at most, so that the start
        is soon forgotten.
    """
    if self.ema is None:
      return self
    if warmup:
      decay = jnp.minimum(decay, (1 + self.step) / (10 + self.step))
    return self.replace(
      ema=optax.incremental_update(self.variables, self.ema, 1 - decay)
    )


def create_train_state(
  key: jax.Array,
  *,
  model: nn.Module,
  tx: optax.GradientTransformation,
  image_size: tuple[int, int],
  use_ema: bool,
) -> TrainState:
  """Initialises a state; to be called under `jit` or `eval_shape`.

  Args:
    key: typed PRNG key of the run.
    model: network to apply, from `create_model`.
    tx: optimizer of the run.
    image_size: (height, width) in pixels.
    use_ema: whether averages are kept.
  """
  # Two keys: what the steps draw has nothing to do with how parameters start.
  init_key, run_key = jax.random.split(key)
  variables = create_variables(model, image_size, init_key)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=variables['params'],
    batch_stats=variables['batch_stats'],
    opt_state=tx.init(variables['params']),
    ema=variables if use_ema else None,
    key=run_key,
  )
