"""BatchNorm of groups of examples, and LayerNorm: both survive a large mean."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.errors import UserError


class BatchNorm(nn.Module):
  """Normalises each channel by statistics of the batch, or by running ones.

  Variables and results are those of `nn.BatchNorm`, but for rounding
  (`compute_moments`).

  In training examples that follow each other in the global batch may be a group
  with statistics of its own. It lies on one device where the device's share of
  the batch is a multiple of it; then no statistics are exchanged, and on any
  mesh the result is the same. The running statistics are of the whole batch.

  Attributes:
    use_running_average: whether to normalise by the running statistics, which
      then stay as they are.
    momentum: part of the running statistics kept at a step.
    epsilon: number added to the variance.
    dtype: dtype of the result; statistics are float32.
    group_size: number of examples in a group; 0 for the whole batch.
  """

  use_running_average: bool
  momentum: float
  epsilon: float
  dtype: jnp.dtype
  group_size: int = 0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises [B, ..., C] over all axes but the last.

    Raises:
      UserError: B is no multiple of the group size.
    """
    channels = x.shape[-1]
    means = self.variable('batch_stats', 'mean', jnp.zeros, channels)
    variances = self.variable('batch_stats', 'var', jnp.ones, channels)
    scale = self.param('scale', nn.initializers.ones, (channels,))
    bias = self.param('bias', nn.initializers.zeros, (channels,))
    if self.use_running_average:
      groups = x[None]
      mean, var = means.value[None], variances.value[None]
    else:
      groups = self._divide(x)  # [groups, size, ..., C]
      mean, var = compute_moments(groups)  # [groups, C]
      if not self.is_initializing():
        kept = self.momentum
        means.value = kept * means.value + (1 - kept) * mean.mean(0)
        whole = var.mean(0) + mean.var(0)
        variances.value = kept * variances.value + (1 - kept) * whole
    factor = jax.lax.rsqrt(var + self.epsilon) * scale  # [groups, C]
    shape = (len(groups), *(1,) * (x.ndim - 1), channels)
    centered = groups.astype(jnp.float32) - mean.reshape(shape)
    normalised = centered * factor.reshape(shape) + bias
    return normalised.astype(self.dtype).reshape(x.shape)

  def _divide(self, x: jax.Array) -> jax.Array:
    # One example that parameters are initialised with is no batch.
    whole = self.is_initializing() or not self.group_size
    size = x.shape[0] if whole else self.group_size
    if x.shape[0] % size:
      raise UserError(
        f'model.batch_norm_group_size is {size}, which does not divide a batch'
        f' of {x.shape[0]} images.'
      )
    return x.reshape(-1, size, *x.shape[1:])


def create_layer_norm(
  epsilon: float, dtype: jnp.dtype, name: str
) -> nn.LayerNorm:
  """Creates a LayerNorm over the last axis.

  Args:
    epsilon: number added to the variance.
    dtype: dtype of input and result; statistics are float32.
    name: name of the module.
  """
  return nn.LayerNorm(
    epsilon=epsilon,
    dtype=dtype,
    use_fast_variance=_may_square_first(dtype),
    name=name,
  )


def compute_moments(groups: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Computes mean and variance of each channel of each group.

  One pass over the array: an example's values are taken relative to the one in
  its middle, which is near their mean and known wherever the example lies. What
  remains of it are few numbers, which are gone through twice. bfloat16 is taken
  as it is (`_may_square_first`).

  Args:
    groups: groups of examples, [groups, size, ..., C].

  Returns:
    mean and variance, [groups, C] float32; the variance is that of the values
    at hand, not an unbiased estimate.
  """
  inner = tuple(range(2, groups.ndim - 1))
  middle = (slice(n // 2, n // 2 + 1) for n in groups.shape[2:-1])
  center = groups[:, :, *middle]  # [groups, size, 1, ..., C]
  if _may_square_first(groups.dtype):
    center = jnp.zeros_like(center)
  # What is taken off changes neither result, so no gradient goes through it.
  center = jax.lax.stop_gradient(center).astype(jnp.float32)
  distance = groups.astype(jnp.float32) - center
  offset = distance.mean(inner)  # [groups, size, C]
  squares = jnp.square(distance).mean(inner)
  within = jnp.maximum(squares - jnp.square(offset), 0)
  means = center.reshape(offset.shape) + offset
  return means.mean(1), within.mean(1) + means.var(1)


def _may_square_first(dtype: jnp.dtype) -> bool:
  """Returns whether a mean of squares less a squared mean is a good variance.

  In float32 it is off by about mean² * 2**-24: where a mean is large beside the
  deviation, no correct digit is left. Rounding the values to bfloat16 has
  changed their variance by more than that before, by mean² * 2**-20 to 2**-17,
  so nothing is gained by another way, which on a TPU takes a sixth longer.
  """
  return dtype == jnp.bfloat16
