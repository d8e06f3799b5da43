"""BatchNorm of groups of examples, and LayerNorm: both survive a large mean."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.errors import UserError
from coatnet_jax.ops.batch_sharding import average_over_devices, has_own_images


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
      values, mean, var = x, means.value, variances.value
    else:
      values = self._divide(x)  # [B, ..., C] or [groups, size, ..., C]
      mean, var = compute_moments(values, values.ndim - x.ndim)
      if not self.group_size and has_own_images():
        mean, var = _share_moments(mean, var)
      if not self.is_initializing():
        kept = self.momentum
        means_of, vars_of = (m.reshape(-1, channels) for m in (mean, var))
        # The variance of the whole batch: within the groups, and between them.
        whole = vars_of.mean(0) + means_of.var(0)
        means.value = kept * means.value + (1 - kept) * means_of.mean(0)
        variances.value = kept * variances.value + (1 - kept) * whole
    factor = jax.lax.rsqrt(var + self.epsilon) * scale
    normalised = (values.astype(jnp.float32) - mean) * factor + bias
    return normalised.astype(self.dtype).reshape(x.shape)

  def _divide(self, x: jax.Array) -> jax.Array:
    # One example that parameters are initialised with is no batch.
    size = self.group_size
    if self.is_initializing() or not size or size == len(x):
      return x
    if x.shape[0] % size:
      raise UserError(
        f'config.model.batch_norm_group_size is {size}; it must divide a'
        f' batch of {x.shape[0]} images.'
      )
    return x.reshape(-1, size, *x.shape[1:])


class LayerNorm(nn.Module):
  """Normalises each row by its own statistics, as `nn.LayerNorm` does.

  Attributes:
    epsilon: number added to the variance.
    dtype: dtype of the result; statistics are float32.
  """

  epsilon: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises [..., C] over the last axis."""
    norm = nn.LayerNorm(
      epsilon=self.epsilon,
      dtype=self.dtype,
      use_fast_variance=_may_square_first(x.dtype),
    )
    nn.share_scope(self, norm)  # Its parameters are this module's.
    return norm(x)


def compute_moments(
  values: jax.Array, axis: int = 0
) -> tuple[jax.Array, jax.Array]:
  """Computes mean and variance of each channel.

  One pass over the array: an example's values are taken relative to the one in
  its middle, which is near their mean and known wherever the example lies. What
  remains of it are few numbers, which are gone through twice. bfloat16 is taken
  as it is (`_may_square_first`).

  Args:
    values: values of examples, [groups..., B, ..., C].
    axis: number of axes of groups, which is also the axis of the examples.

  Returns:
    mean and variance, [groups..., 1, ..., 1, C] float32; the variance is that
    of the values at hand, not an unbiased estimate.
  """
  inner = tuple(range(axis + 1, values.ndim - 1))
  middle = (slice(n // 2, n // 2 + 1) for n in values.shape[axis + 1 : -1])
  center: float | jax.Array = 0.0
  if not _may_square_first(values.dtype):
    # What is taken off changes neither result, so no gradient goes through it.
    center = jax.lax.stop_gradient(values[(..., *middle, slice(None))])
  distance = values.astype(jnp.float32) - center
  # Moments of each example, [groups..., B, 1, ..., 1, C].
  offset = distance.mean(inner, keepdims=True)
  squares = jnp.square(distance).mean(inner, keepdims=True)
  # Rounding may leave less than 0 of a variance that is nearly 0.
  within = jnp.maximum(squares - jnp.square(offset), 0)
  means = center + offset
  mean = means.mean(axis, keepdims=True)
  return mean, within.mean(axis, keepdims=True) + means.var(axis, keepdims=True)


def _share_moments(
  mean: jax.Array, var: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns moments over the images of all devices, of those of each one's."""
  whole = average_over_devices(mean)
  # The variance within a device, and between them.
  return whole, average_over_devices(var + jnp.square(mean - whole))


def _may_square_first(dtype: jnp.dtype) -> bool:
  """Returns whether a mean of squares less a squared mean is a good variance.

  Computed in float32 it is off by about mean² * 2**-24: where the mean is large
  beside the deviation, no correct digit is left. In bfloat16 the rounding of
  the values alone has changed their variance by more, mean² * 2**-20 to 2**-17.
  Another way would gain nothing, and a train step on a TPU would take a sixth
  longer.

  Args:
    dtype: dtype that the values have had, before they become float32.
  """
  return dtype == jnp.bfloat16
