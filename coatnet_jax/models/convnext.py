"""The convolution block of CoAtNeXt: ConvNeXt's (arXiv 2201.03545)."""

import dataclasses
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.errors import UserError
from coatnet_jax.models.layers import (
  ACTIVATIONS,
  Activation,
  Epsilon,
  LayerScale,
  LayerScaleInit,
  Norm,
  Pool,
  StochasticDepth,
  drop_branch,
)
from coatnet_jax.models.residual_block import BlockOptions, ResidualBlock
from coatnet_jax.ops.rematerialization import keep
from coatnet_jax.values import Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNeXtOptions(BlockOptions, section='config.model.convnext'):
  """What a ConvNeXt block is made of; the defaults are timm's CoAtNeXt's.

  Attributes:
    kernel_size: kernel size of the depthwise convolution, odd.
    layer_scale: initial value of the branch's factors; 0 for none.
  """

  kernel_size: Annotated[int, Range(at_least=1, at_most=63), 'odd'] = 7
  norm: Norm = 'layer'
  norm_epsilon: Epsilon = 1e-6
  activation: Activation = 'gelu'
  layer_scale: LayerScaleInit = 1e-5
  shortcut_pool: Pool = 'avg'

  def check(self):
    """Raises UserError for a kernel without a middle."""
    if self.kernel_size % 2 == 0:
      raise UserError(
        f'config.model.convnext.kernel_size is {self.kernel_size}; it must be'
        ' odd.'
      )


class ConvNeXtBlock(ResidualBlock):
  """x + FFN(Norm(DepthwiseConv(x))), to a multiple of the input's width.

  Attributes:
    options: choices of the block.
  """

  options: ConvNeXtOptions

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
    shortcut = self.apply_shortcut(x)

    # Each channel is convolved with width / C kernels.
    x = jnp.repeat(x, self.width // x.shape[-1], axis=-1)
    depthwise = maker.depthwise_conv(
      kernel_size=options.kernel_size,
      stride=self.stride,
      use_bias=True,
      name='depthwise',
    )
    x = keep(depthwise(x))
    x = self.apply_norm(x, 'norm', train=train)
    hidden_width = options.expansion_ratio * self.width
    x = keep(maker.dense(hidden_width, name='ffn_expand')(x))
    x = ACTIVATIONS[options.activation](x)
    x = maker.dense(self.width, name='ffn_shrink')(x)
    x = LayerScale(options.layer_scale, name='layer_scale')(x)
    return shortcut + drop_branch(x, drop)
