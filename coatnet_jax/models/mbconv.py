"""The convolution block of stages S1 and S2 (paper 2.1, A.1, Eq. 5)."""

import dataclasses
import functools
from typing import Annotated

import flax.linen as nn
import jax

from coatnet_jax.models.layers import (
  ACTIVATIONS,
  Activation,
  Epsilon,
  Norm,
  Pool,
  SqueezeExcite,
  StochasticDepth,
  drop_branch,
  pool,
)
from coatnet_jax.models.residual_block import BlockOptions, ResidualBlock
from coatnet_jax.ops.rematerialization import keep
from coatnet_jax.values import OneOf, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class MBConvOptions(BlockOptions, section='config.model.mbconv'):
  """What an MBConv block is made of; the defaults are the reconstruction.

  Attributes:
    expand_from: width that `expansion_ratio` multiplies, 'output' or 'input'.
      The paper's reported costs fit the output width.
    stride_in: layer of the branch that has the block's stride: 'expand', the
      first 1x1 convolution (Eq. 5); 'depthwise' (the paper's Table 9); or
      'pool', a pooling before both.
    branch_pool: kind of that pooling, one of `POOLS`.
    norm: kind of all norms, 'batch', or 'layer' (the paper's Table 8).
    pre_norm_activation: whether the activation follows the first norm too.
    se_ratio: squeezed width, as a part of the width that `se_basis` names; 0
      for no squeeze-and-excitation.
    se_basis: width that `se_ratio` multiplies, 'output', 'input' or 'expanded'.
    se_multiple_of: number that the squeezed width is rounded to a multiple of.
    se_position: place of squeeze-and-excitation behind the depthwise
      convolution, 'after_activation' or 'before_norm'.
    se_activation: activation of squeeze-and-excitation, one of `ACTIVATIONS`.
    shrink_bias: whether the last 1x1 convolution has a bias.
  """

  expand_from: Annotated[str, OneOf(('output', 'input'))] = 'output'
  stride_in: Annotated[str, OneOf(('expand', 'depthwise', 'pool'))] = 'expand'
  branch_pool: Pool = 'avg'
  norm: Norm = 'batch'
  norm_epsilon: Epsilon = 1e-3
  pre_norm_activation: bool = False
  se_ratio: Annotated[float, Range(at_least=0, at_most=100)] = 0.25
  se_basis: Annotated[str, OneOf(('output', 'input', 'expanded'))] = 'output'
  se_multiple_of: Annotated[int, Range(at_least=1, at_most=2**16)] = 1
  se_position: Annotated[str, OneOf(('after_activation', 'before_norm'))] = (
    'after_activation'
  )
  se_activation: Activation = 'silu'
  shrink_bias: bool = True

  def compute_hidden_width(self, in_width: int, width: int) -> int:
    """Returns the channels between the 1x1 convolutions."""
    basis = {'output': width, 'input': in_width}
    return self.expansion_ratio * basis[self.expand_from]

  def compute_squeezed_width(self, in_width: int, width: int) -> int:
    """Returns the channels of the squeezed layer."""
    basis = {
      'output': width,
      'input': in_width,
      'expanded': self.compute_hidden_width(in_width, width),
    }
    exact = self.se_ratio * basis[self.se_basis]
    if self.se_multiple_of == 1:
      return max(1, int(exact))
    multiple = self.se_multiple_of
    rounded = max(multiple, int(exact + multiple / 2) // multiple * multiple)
    # Rounding down by over a tenth loses too much (MobileNet's rule).
    return rounded + multiple if rounded < 0.9 * exact else rounded


class MBConvBlock(ResidualBlock):
  """x + MBConv(Norm(x)), pre-activation, with squeeze-and-excitation.

  Attributes:
    options: choices of the block.
  """

  options: MBConvOptions

  @nn.compact
  def __call__(
    self, x: jax.Array, train: bool, drop: StochasticDepth | None = None
  ) -> jax.Array:
    """Maps [B, H, W, C] to [B, H/stride, W/stride, width]."""
    maker, options = self.maker, self.options
    hidden_width = options.compute_hidden_width(x.shape[-1], self.width)
    squeezed_width = options.compute_squeezed_width(x.shape[-1], self.width)
    activation = ACTIVATIONS[options.activation]

    norm = functools.partial(self.apply_norm, train=train)

    def stride_in(part):
      return self.stride if options.stride_in == part else 1

    def squeeze_excite(x, position):
      if not options.se_ratio or options.se_position != position:
        return x
      return SqueezeExcite(
        squeezed_width, options.se_activation, maker, name='se'
      )(x)

    shortcut = self.apply_shortcut(x)

    x = norm(x, 'pre_norm')
    x = activation(x) if options.pre_norm_activation else x
    x = pool(x, options.branch_pool, stride_in('pool'))
    # A strided 1x1 convolution reads one position of each window.
    strides = (1, stride_in('expand'), stride_in('expand'), 1)
    # No indexing: with a batch of unknown size JAX would make a gather of it.
    x = jax.lax.slice(x, (0, 0, 0, 0), x.shape, strides)
    x = keep(maker.dense(hidden_width, use_bias=False, name='expand')(x))
    x = activation(norm(x, 'expand_norm'))
    depthwise = maker.depthwise_conv(
      stride=stride_in('depthwise'), name='depthwise'
    )
    x = keep(depthwise(x))
    x = squeeze_excite(x, 'before_norm')
    x = activation(norm(x, 'depthwise_norm'))
    x = squeeze_excite(x, 'after_activation')
    x = maker.dense(self.width, use_bias=options.shrink_bias, name='shrink')(x)
    return shortcut + drop_branch(x, drop)
