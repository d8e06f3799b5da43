"""What all kinds of blocks have in common: options, attributes, a shortcut."""

import dataclasses
from typing import Annotated

import flax.linen as nn
import jax

from coatnet_jax.models.layers import (
  Activation,
  Epsilon,
  LayerMaker,
  Norm,
  Pool,
  pool,
)
from coatnet_jax.values import OneOf, Options, Range

# Which shortcuts have a 1x1 convolution: those that change the width, or those
# of the first block of every group of equal blocks too.
SHORTCUT_PROJECTIONS = ('width_changes', 'first_block')
_ShortcutProjection = Annotated[str, OneOf(SHORTCUT_PROJECTIONS)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockOptions(Options):
  """What every kind of block decides.

  Attributes:
    norm: kind of all norms, 'batch' or 'layer'.
    norm_epsilon: number added to the variance.
    activation: name of the activation, one of `ACTIVATIONS`.
    expansion_ratio: hidden width, as a multiple of the block's width.
    shortcut_bias: whether the shortcut's 1x1 convolution has a bias.
    shortcut_pool: pooling of the shortcut where the block strides, one of
      `POOLS`.
    shortcut_projection: shortcuts that have a 1x1 convolution, one of
      `SHORTCUT_PROJECTIONS`.
  """

  norm: Norm
  norm_epsilon: Epsilon
  activation: Activation = 'gelu_tanh'
  expansion_ratio: Annotated[int, Range(at_least=1, at_most=1000)] = 4
  shortcut_bias: bool = True
  shortcut_pool: Pool = 'max'
  shortcut_projection: _ShortcutProjection = 'width_changes'


class _BlockPart(nn.Module):
  """What a block and its shortcut are told.

  Attributes:
    width: number of output channels.
    stride: stride of both axes.
    first: whether it is the first of a group of equal blocks.
    options: choices of the block.
    maker: maker of the layers.
  """

  width: int
  stride: int
  first: bool
  options: BlockOptions
  maker: LayerMaker


class ResidualBlock(_BlockPart):
  """Base of the blocks, each x + Branch(x), perhaps twice."""

  def apply_norm(self, x: jax.Array, name: str, *, train: bool) -> jax.Array:
    """Normalises [..., C]; the norm has the name in the block's variables."""
    options = self.options
    return self.maker.norm(
      options.norm, options.norm_epsilon, train=train, name=name
    )(x)

  def apply_shortcut(self, x: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, H/stride, W/stride, width], as the block."""
    return Shortcut(
      self.width,
      self.stride,
      self.first,
      self.options,
      self.maker,
      name='shortcut',
    )(x)


class Shortcut(_BlockPart):
  """The identity branch of a residual block: Proj(Pool(x)) where needed.

  Pools when the block strides, projects when it changes the width.
  """

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, H/stride, W/stride, width]."""
    options = self.options
    x = pool(x, options.shortcut_pool, self.stride)
    always = self.first and options.shortcut_projection == 'first_block'
    if x.shape[-1] == self.width and not always:
      return x
    return self.maker.dense(
      self.width, use_bias=options.shortcut_bias, name='project'
    )(x)
