"""BatchNorm with statistics of groups of examples."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.errors import UserError


class GroupedBatchNorm(nn.Module):
  """Normalises each group of examples by its own statistics, in training.

  Examples that follow each other in the global batch are a group, so that a
  group lies on one device where the device's share of the batch is a multiple
  of it. Then no statistics are exchanged, and on any mesh the result is the
  same. Variables are those of `nn.BatchNorm`; the running statistics are of the
  whole batch.

  Attributes:
    group_size: in examples.
    momentum: part of the running statistics kept at a step.
    epsilon: added to the variance.
    dtype: of the result; statistics are float32.
  """

  group_size: int
  momentum: float
  epsilon: float
  dtype: jnp.dtype

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
    # One example that parameters are initialised with is no batch.
    size = x.shape[0] if self.is_initializing() else self.group_size
    if x.shape[0] % size:
      raise UserError(
        f'model.batch_norm_group_size is {size}, which does not divide a batch'
        f' of {x.shape[0]} images.'
      )
    groups = x.reshape(-1, size, *x.shape[1:])  # [groups, size, ..., C]
    axes = tuple(range(1, x.ndim))
    mean = groups.mean(axes, dtype=jnp.float32)  # [groups, C]
    # As nn.BatchNorm computes it: one pass over the array.
    squares = jnp.square(groups.astype(jnp.float32)).mean(axes)
    var = jnp.maximum(squares - jnp.square(mean), 0)
    if not self.is_initializing():
      kept = self.momentum
      means.value = kept * means.value + (1 - kept) * mean.mean(0)
      whole = var.mean(0) + mean.var(0)
      variances.value = kept * variances.value + (1 - kept) * whole
    factor = jax.lax.rsqrt(var + self.epsilon) * scale  # [groups, C]
    shape = (len(groups), *(1,) * x.ndim)[: x.ndim] + (channels,)
    normalised = (groups - mean.reshape(shape)) * factor.reshape(shape) + bias
    return normalised.astype(self.dtype).reshape(x.shape)
