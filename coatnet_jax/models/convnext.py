"""The convolution block of CoAtNeXt: ConvNeXt's (arXiv 2201.03545)."""

import dataclasses
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.errors import UserError
from coatnet_jax.models.layers import (
  ACTIVATIONS,
  NORMS,
  POOLS,
  SHORTCUT_PROJECTIONS,
  Epsilon,
  LayerMaker,
  LayerScale,
  LayerScaleInit,
  Shortcut,
  StochasticDepth,
  drop_branch,
  pool,
)
from coatnet_jax.ops.rematerialization import keep
from coatnet_jax.values import OneOf, Options, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNeXtOptions(Options, section='config.model.convnext'):
  """What a ConvNeXt block is made of; the defaults are timm's CoAtNeXt's.

  Attributes:
    kernel_size: kernel size of the depthwise convolution, odd.
    expansion_ratio: hidden width, as a multiple of the output width.
    stride_in: what of the branch strides: 'depthwise', or 'pool' before it.
    branch_pool: one of `POOLS`, for 'pool'.
    norm: kind of all norms, 'layer' or 'batch'.
    norm_epsilon: number added to the variance.
    activation: name of the activation, one of `ACTIVATIONS`.
    layer_scale: initial value of the branch's factors; 0 for none.
    shortcut_bias: whether the shortcut's 1x1 convolution has a bias.
    shortcut_pool: how a shortcut is made smaller, one of `POOLS`.
    shortcut_projection: when a shortcut is projected, one of
      `SHORTCUT_PROJECTIONS`.
  """

  kernel_size: Annotated[int, Range(at_least=1, at_most=63), 'odd'] = 7
  expansion_ratio: Annotated[int, Range(at_least=1, at_most=1000)] = 4
  stride_in: Annotated[str, OneOf(('depthwise', 'pool'))] = 'depthwise'
  branch_pool: Annotated[str, OneOf(POOLS)] = 'avg'
  norm: Annotated[str, OneOf(NORMS)] = 'layer'
  norm_epsilon: Epsilon = 1e-6
  activation: Annotated[str, OneOf(ACTIVATIONS)] = 'gelu'
  layer_scale: LayerScaleInit = 1e-5
  shortcut_bias: bool = True
  shortcut_pool: Annotated[str, OneOf(POOLS)] = 'avg'
  shortcut_projection: Annotated[str, OneOf(SHORTCUT_PROJECTIONS)] = (
    'width_changes'
  )

  def check(self):
    """Raises UserError for a kernel without a middle."""
    if self.kernel_size % 2 == 0:
      raise UserError(
        f'config.model.convnext.kernel_size is {self.kernel_size}; it must be'
        ' odd.'
      )


class ConvNeXtBlock(nn.Module):
  """x + FFN(Norm(DepthwiseConv(x))).

  Attributes:
    width: output channels, a multiple of the input's.
    stride: stride of both axes.
    first: whether it is the first of a run of equal blocks.
    options: what the block is made of.
    maker: maker of the layers.
  """

  width: int
  stride: int
  first: bool
  options: ConvNeXtOptions
  maker: LayerMaker

  @nn.compact
  def __call__(
    self, x: jax.Array, train: bool, drop: StochasticDepth | None = None
  ) -> jax.Array:
    """Maps [B, H, W, C] to [B, H/stride, W/stride, width].

    Raises:
      UserError: the width is no multiple of C.
    """
    maker, options = self.maker, self.options
    if self.width % x.shape[-1]:
      raise UserError(
        f'A ConvNeXt block cannot go from {x.shape[-1]} to {self.width}'
        ' channels: each channel is convolved with a whole number of kernels.'
      )
    shortcut = Shortcut(
      self.width, self.stride, self.first, options, maker, name='shortcut'
    )(x)

    if options.stride_in == 'pool':
      x = pool(x, options.branch_pool, self.stride)
    # width / C kernels for each channel.
    x = jnp.repeat(x, self.width // x.shape[-1], axis=-1)
    depthwise = maker.depthwise_conv(
      kernel_size=options.kernel_size,
      stride=self.stride if options.stride_in == 'depthwise' else 1,
      use_bias=True,
      name='depthwise',
    )
    x = keep(depthwise(x))
    x = maker.norm(
      options.norm, options.norm_epsilon, train=train, name='norm'
    )(x)
    hidden_width = options.expansion_ratio * self.width
    x = keep(maker.dense(hidden_width, name='ffn_expand')(x))
    x = ACTIVATIONS[options.activation](x)
    x = maker.dense(self.width, name='ffn_shrink')(x)
    x = LayerScale(options.layer_scale, name='layer_scale')(x)
    return shortcut + drop_branch(x, drop)
