"""The layers that the blocks are made of, as one model wants them."""

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.models.norms import BatchNorm, LayerNorm
from coatnet_jax.ops.batch_sharding import draw_for_batch
from coatnet_jax.ops.dense import multiply_channels
from coatnet_jax.ops.depthwise_conv import depthwise_conv
from coatnet_jax.ops.max_pool import max_pool
from coatnet_jax.values import OneOf, Range


def gelu(x: jax.Array) -> jax.Array:
  """Computes the exact GELU: x times the normal distribution's CDF at x.

  `nn.gelu` takes `erfc` for the CDF, which keeps its digits far below 0, where
  GELU is nearly 0. `erf` does not, and is faster.

  >>> gelu(jnp.array([0.0, 10.0])).tolist()
  [0.0, 10.0]

  Args:
    x: activations of any shape and float dtype.

  Returns:
    Activations in x's shape and dtype, computed in float32.
  """
  wide = x.astype(jnp.float32)
  cdf = 0.5 * (1 + jax.lax.erf(wide * math.sqrt(0.5)))
  return (wide * cdf).astype(x.dtype)


ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = (
  types.MappingProxyType(
    {
      'gelu': gelu,
      'gelu_tanh': functools.partial(nn.gelu, approximate=True),
      'relu': nn.relu,
      'silu': nn.silu,
    }
  )
)
# 'max', 'avg': windows as large as the stride; 'max_3x3' overlaps, padded by 1.
POOLS = ('max', 'avg', 'max_3x3')
# 'batch' normalises over all axes but the last, 'layer' over the last.
NORMS = ('batch', 'layer')

# Types of the blocks' options.
Activation = Annotated[str, OneOf(ACTIVATIONS)]
Pool = Annotated[str, OneOf(POOLS)]
Norm = Annotated[str, OneOf(NORMS)]
Width = Annotated[int, Range(at_least=1, at_most=2**20)]
Epsilon = Annotated[float, Range(above=0, at_most=1)]
LayerScaleInit = Annotated[float, Range(at_least=0, at_most=1000)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelInits:
  """How kernels start, by where they are.

  Attributes:
    convolution: kernels of the stem's, MBConv's and ConvNeXt's convolutions.
    depthwise: kernels of depthwise convolutions, [k, k, 1, C].
    transformer: kernels in Transformer blocks.
    head: kernels in the head.
  """

  convolution: nn.initializers.Initializer
  depthwise: nn.initializers.Initializer
  transformer: nn.initializers.Initializer
  head: nn.initializers.Initializer


def _use_everywhere(init: nn.initializers.Initializer) -> KernelInits:
  return KernelInits(
    convolution=init, depthwise=init, transformer=init, head=init
  )


# By name, as `Variant.kernel_init`.
KERNEL_INITS = types.MappingProxyType(
  {
    'normal_0.02': _use_everywhere(nn.initializers.normal(0.02)),
    'lecun_normal': _use_everywhere(nn.initializers.lecun_normal()),
    # What timm trained its CoAtNets from ('vit_eff').
    'timm': KernelInits(
      convolution=nn.initializers.variance_scaling(2, 'fan_out', 'normal'),
      # One output channel each: its fan-out is what is fan-in here.
      depthwise=nn.initializers.variance_scaling(2, 'fan_in', 'normal'),
      transformer=nn.initializers.xavier_uniform(),
      head=nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform'),
    ),
  }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerMaker:
  """Makes layers that share what a model decides once.

  Attributes:
    dtype: compute dtype; parameters and statistics are float32.
    attention: implementation of relative attention, one of
      `relative_attention.IMPLEMENTATIONS`.
    kernel_init: initialiser of the kernels.
    depthwise_init: initialiser of the kernels of depthwise convolutions.
    batch_norm_momentum: part of the running statistics kept at a step.
    batch_norm_group_size: examples with statistics of their own; 0 for those of
      the whole batch.
  """

  dtype: jnp.dtype
  attention: str
  kernel_init: nn.initializers.Initializer
  depthwise_init: nn.initializers.Initializer
  batch_norm_momentum: float
  batch_norm_group_size: int = 0

  def dense(
    self,
    width: int,
    *,
    name: str,
    use_bias: bool = True,
    bias_init: nn.initializers.Initializer = nn.initializers.zeros,
  ) -> nn.Dense:
    """A product over the last axis: of a map [B, H, W, C], a 1x1 conv."""
    return nn.Dense(
      width,
      use_bias=use_bias,
      dtype=self.dtype,
      kernel_init=self.kernel_init,
      bias_init=bias_init,
      dot_general=multiply_channels,
      name=name,
    )

  def conv(
    self,
    width: int,
    *,
    kernel_size: int,
    stride: int,
    use_bias: bool,
    name: str,
  ) -> nn.Conv:
    """A full convolution: patches, or padded by half a kernel on each side."""
    padding = 0 if kernel_size == stride else kernel_size // 2
    return nn.Conv(
      width,
      (kernel_size, kernel_size),
      strides=stride,
      padding=padding,
      use_bias=use_bias,
      dtype=self.dtype,
      kernel_init=self.kernel_init,
      name=name,
    )

  def depthwise_conv(
    self,
    *,
    stride: int,
    name: str,
    kernel_size: int = 3,
    use_bias: bool = False,
  ) -> nn.Module:
    """A depthwise convolution, padded by half a kernel on each side."""
    return DepthwiseConv(
      kernel_size=kernel_size,
      stride=stride,
      use_bias=use_bias,
      kernel_init=self.depthwise_init,
      name=name,
    )

  def norm(
    self, kind: str, epsilon: float, *, train: bool, name: str
  ) -> nn.Module:
    """Normalises [B, H, W, C] or [B, C]; one of `NORMS`.

    Under `jit` a BatchNorm's statistics are those of the global batch, or of
    groups of it, on any mesh.

    Args:
      kind: kind of the norm, 'batch' or 'layer'.
      epsilon: number added to the variance.
      train: whether a BatchNorm uses the statistics of the batch.
      name: name of the module.
    """
    if kind == 'layer':
      return LayerNorm(epsilon=epsilon, dtype=self.dtype, name=name)
    return BatchNorm(
      use_running_average=not train,
      momentum=self.batch_norm_momentum,
      group_size=self.batch_norm_group_size,
      epsilon=epsilon,
      dtype=self.dtype,
      name=name,
    )


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
  """Adds a bias to the last axis.

  The bias' gradient is a product with ones, summed in float32: on a TPU several
  times faster than a sum over so many rows.

  Args:
    x: activations that the biases are added to, [..., C].
    bias: biases of the channels, [C] float32.

  Returns:
    [..., C] in x's dtype.
  """
  return (x.astype(jnp.float32) + bias).astype(x.dtype)


def _add_bias_forward(x, bias):
  return add_bias(x, bias), None


def _add_bias_backward(_, grad):
  rows = grad.reshape(-1, grad.shape[-1])
  # As many ones as a register has rows: the compiler makes a sum of a product
  # with a single row.
  ones = jnp.ones((8, len(rows)), grad.dtype)
  sums = jnp.matmul(
    ones,
    rows,
    precision=jax.lax.Precision.HIGHEST,
    preferred_element_type=jnp.float32,
  )
  return grad, sums[0]


add_bias.defvjp(_add_bias_forward, _add_bias_backward)


class DepthwiseConv(nn.Module):
  """A depthwise convolution, padded by half a kernel on each side.

  Attributes:
    kernel_size: kernel size along both axes, odd.
    stride: stride of both axes.
    use_bias: whether a bias is added.
    kernel_init: initialiser of the kernel.
  """

  kernel_size: int
  stride: int
  use_bias: bool
  kernel_init: nn.initializers.Initializer

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, H/stride, W/stride, C]."""
    channels = x.shape[-1]
    shape = (self.kernel_size, self.kernel_size, 1, channels)
    kernel = self.param('kernel', self.kernel_init, shape)
    x = depthwise_conv(x, kernel, self.stride)
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (channels,))
      x += bias.astype(x.dtype)
    return x


class SqueezeExcite(nn.Module):
  """Scales each channel by a gate computed from all channels' means.

  Attributes:
    width: number of channels of the squeezed layer.
    activation: activation after the squeezed layer, one of `ACTIVATIONS`.
    maker: maker of the layers.
  """

  width: int
  activation: str
  maker: LayerMaker

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to the same."""
    gate = x.mean((1, 2), keepdims=True)  # [B, 1, 1, C]
    gate = self.maker.dense(self.width, name='squeeze')(gate)
    gate = ACTIVATIONS[self.activation](gate)
    gate = self.maker.dense(x.shape[-1], name='excite')(gate)
    return x * nn.sigmoid(gate)


class StochasticDepth(NamedTuple):
  """Which residual branches one block drops at one step (arXiv 1603.09382).

  Attributes:
    key: PRNG key of this block and step alone.
    rate: probability of dropping a branch for an example.
  """

  key: jax.Array
  rate: jax.Array | float


def drop_branch(
  x: jax.Array, drop: StochasticDepth | None, branch: int = 0
) -> jax.Array:
  """Drops a residual branch for some examples.

  What is kept is divided by the probability of keeping it.

  Args:
    x: [B, ...], what the branch adds.
    drop: choice of what is dropped; None for nothing, as in evaluation.
    branch: number of the branch in the block; each is dropped by itself.

  Returns:
    [B, ...].
  """
  if drop is None:
    return x
  keep = 1 - jnp.asarray(drop.rate, jnp.float32)
  key = jax.random.fold_in(drop.key, branch)
  kept = draw_for_batch(
    lambda batch: jax.random.bernoulli(
      key, keep, (batch,) + (1,) * (x.ndim - 1)
    ),
    x.shape[0],
  )
  # Divided by the probability, the branch has in the mean what it has in
  # evaluation, where nothing is dropped.
  return jnp.where(kept, (x / keep).astype(x.dtype), 0)


class LayerScale(nn.Module):
  """Multiplies each channel by a learned factor (arXiv 2103.17239).

  Attributes:
    initial_value: initial value of the factors; 0 for no such layer.
  """

  initial_value: float

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [..., C] to the same."""
    if not self.initial_value:
      return x
    init = nn.initializers.constant(self.initial_value)
    return x * self.param('gamma', init, x.shape[-1:]).astype(x.dtype)


def pool(x: jax.Array, kind: str, stride: int) -> jax.Array:
  """Reduces each window to its largest value or its mean.

  Args:
    x: [B, H, W, C]; the stride divides H and W.
    kind: kind of pooling, one of `POOLS`.
    stride: stride of both axes; 1 returns x.

  Returns:
    [B, H/stride, W/stride, C].
  """
  if stride == 1:
    return x
  if kind == 'max':
    return max_pool(x, stride)
  if kind == 'max_3x3':
    return nn.max_pool(x, (3, 3), (stride, stride), padding=((1, 1), (1, 1)))
  batch, height, width, channels = x.shape
  windows = x.reshape(
    batch, height // stride, stride, width // stride, stride, channels
  )
  return windows.mean((2, 4))
