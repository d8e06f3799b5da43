"""A ViT on the map of a small CNN, instead of on patches: a baseline.

Three 3x3 convolutions of stride 2 make the tokens; a class token, learned
absolute positions and pre-norm encoder blocks follow (arXiv 2010.11929; a
convolutional stem: arXiv 2106.14881). Made for CIFAR-100 enlarged to 56 px.
Not here: relative attention, which is CoAtNet's.
"""

import dataclasses
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.errors import UserError
from coatnet_jax.models.image_model import ImageModel
from coatnet_jax.models.layers import (
  StochasticDepth,
  Width,
  drop_branch,
  gelu,
)
from coatnet_jax.models.norms import BatchNorm, LayerNorm
from coatnet_jax.ops.batch_sharding import shard_batch
from coatnet_jax.values import ImageSize, Options, Range

# The epsilon of BatchNorm and LayerNorm.
_NORM_EPSILON = 1e-5
# The encoder's kernels start as ViT's; the stem's and the logits' as Flax's do.
_ENCODER_INIT = nn.initializers.xavier_uniform()


@dataclasses.dataclass(frozen=True, kw_only=True)
class CNNStemViTVariant(Options):
  """An architecture, without its number of classes.

  Attributes:
    stem_widths: output channels of the stem's convolutions before the last,
      whose are `width`.
    width: channels of a token.
    depth: number of encoder blocks.
    num_heads: number of attention heads.
    mlp_ratio: hidden width of the MLP, as a multiple of `width`.
    dropout_rate: rate for tokens with their positions, the attention's output
      and the MLP's two layers.
    image_size: (height, width) in pixels that it is for; others are possible.
    in_channels: number of channels of the images.
  """

  stem_widths: tuple[Width, ...] = (64, 128)
  width: Width = 512
  depth: Annotated[int, Range(at_least=1, at_most=10_000)] = 6
  num_heads: Annotated[int, Range(at_least=1, at_most=2**20)] = 8
  mlp_ratio: Annotated[int, Range(at_least=1, at_most=1000)] = 4
  dropout_rate: Annotated[float, Range(at_least=0, below=1)] = 0.1
  image_size: ImageSize = (56, 56)
  in_channels: Width = 3

  def check(self):
    """Raises UserError for heads that don't fill the width."""
    if self.width % self.num_heads:
      raise UserError(
        f'config.model.num_heads is {self.num_heads}; it must divide'
        f' config.model.width, {self.width}.'
      )

  @property
  def total_stride(self) -> int:
    """How much smaller the grid of tokens is than the image."""
    return 2 ** (len(self.stem_widths) + 1)

  @property
  def strides(self) -> tuple[int]:
    """How much smaller each stage's grid is than the image: the stem's."""
    return (self.total_stride,)

  @property
  def widths(self) -> tuple[int]:
    """Output channels of each stage: the stem's."""
    return (self.width,)


class CNNStemViT(ImageModel):
  """A network of one variant; has the interface of `CoAtNet`.

  The stem's map `s0` and the head's `pre_logits` are sown as 'intermediates'.
  Stochastic depth drops either residual branch of a block.
  """

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool
  ) -> jax.Array | dict[str, jax.Array]:
    """Classifies images.

    Args:
      images: [B, H, W, in_channels], normalised, any float dtype. The stem's
        stride divides H and W.
      train: whether to use batch statistics (mutable 'batch_stats'), dropout
        and stochastic depth (the 'dropout' stream of keys); otherwise running
        statistics, and nothing is dropped.

    Returns:
      Logits [B, num_classes] float32, or, if num_classes is 0, the normalised
      class token, [B, width] float32; with `feature_maps` {'s0': the stem's
      map [B, H/stride, W/stride, width]} in the compute dtype.

    Raises:
      UserError: an image size that the stride doesn't divide, or that the
        parameters were not made for.
    """
    self.check_image_size(images.shape)
    variant = self.variant
    x = self.apply_stem(images.astype(self.dtype), train)
    self.sow_array('s0', x)
    if self.feature_maps:
      return {'s0': x}

    x = self.add_positions(x)  # [B, 1+N, width]
    x = nn.Dropout(variant.dropout_rate)(
      x, deterministic=not self.is_training('position_embedding', train)
    )
    for index in range(variant.depth):
      name = f'block_{index}'
      trains = self.is_training(name, train)
      x = EncoderBlock(
        num_heads=variant.num_heads,
        mlp_ratio=variant.mlp_ratio,
        dropout_rate=variant.dropout_rate,
        dtype=self.dtype,
        name=name,
      )(shard_batch(x), trains, self.create_drop(index, trains))

    # No indexing: with a batch of unknown size JAX would make a gather of it.
    x = jax.lax.index_in_dim(x, 0, 1, keepdims=False)  # [B, width]
    x = _create_layer_norm(jnp.float32, 'head_norm')(x)
    self.sow_array('pre_logits', x)
    if not self.num_classes:
      return x
    return nn.Dense(
      self.num_classes,
      bias_init=nn.initializers.constant(self.head_bias_init),
      name='head_logits',
    )(x)

  def compute_drop_rate(self, index: int) -> float:
    """Returns the stochastic-depth rate of a block, counted from 0."""
    return self.stochastic_depth_rate * index / self.variant.depth

  def create_drop(self, index: int, train: bool) -> StochasticDepth | None:
    """Returns what a block drops; None in evaluation, or where nothing is."""
    if not train or not self.stochastic_depth_rate:
      return None
    return StochasticDepth(
      self.make_rng('dropout'), self.compute_drop_rate(index)
    )

  def apply_stem(self, x: jax.Array, train: bool) -> jax.Array:
    """S0: [B, H, W, C] to [B, H/stride, W/stride, width]."""
    widths = (*self.variant.stem_widths, self.variant.width)
    for index, width in enumerate(widths):
      x = nn.Conv(
        width,
        (3, 3),
        strides=2,
        padding=1,
        use_bias=False,
        dtype=self.dtype,
        name=f's0_conv_{index}',
      )(x)
      name = f's0_norm_{index}'
      x = BatchNorm(
        use_running_average=not self.is_training(name, train),
        momentum=self.batch_norm_momentum,
        epsilon=_NORM_EPSILON,
        dtype=self.dtype,
        name=name,
      )(x)
      x = gelu(x)
    return x

  def add_positions(self, x: jax.Array) -> jax.Array:
    """Makes tokens of a map, behind a class token, and adds their positions.

    Args:
      x: map of the stem, [B, H, W, width].

    Returns:
      [B, 1 + H * W, width]; rows of the map one after the other.

    Raises:
      UserError: the positions were initialised for another grid.
    """
    batch, height, width, channels = x.shape
    normal = nn.initializers.normal(0.02)
    class_token = self.param('class_token', nn.initializers.zeros, (channels,))
    # ViT's token has a position too. It is apart, so that those of the map keep
    # their grid.
    class_token += self.param('class_position_embedding', normal, (channels,))
    class_tokens = jnp.broadcast_to(
      class_token.astype(x.dtype), (batch, 1, channels)
    )

    name, shape = 'position_embedding', (height, width, channels)
    if self.has_variable('params', name):
      found: tuple[int, ...] = self.get_variable('params', name).shape
      if found != shape:
        raise UserError(
          f'The learned positions are for a grid of {found[0]}x{found[1]}, the'
          f' images give {height}x{width}: use images of the size that the'
          ' parameters were made for.'
        )
    x += self.param(name, normal, shape).astype(x.dtype)
    x = x.reshape(batch, height * width, channels)  # [B, N, width]
    return jnp.concatenate([class_tokens, x], axis=1)


class EncoderBlock(nn.Module):
  """x + Attention(LN(x)), then x + MLP(LN(x)).

  Attributes:
    num_heads: number of attention heads.
    mlp_ratio: hidden width of the MLP, as a multiple of the width.
    dropout_rate: rate for the attention's output and the MLP's two layers.
    dtype: compute dtype; the softmax is float32.
  """

  num_heads: int
  mlp_ratio: int
  dropout_rate: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self, x: jax.Array, train: bool, drop: StochasticDepth | None
  ) -> jax.Array:
    """Maps [B, N, C] to the same."""
    dropout = nn.Dropout(self.dropout_rate, deterministic=not train)
    width = x.shape[-1]

    shortcut = x
    x = _create_layer_norm(self.dtype, 'attention_norm')(x)
    x = nn.MultiHeadDotProductAttention(
      self.num_heads,
      dtype=self.dtype,
      kernel_init=_ENCODER_INIT,
      force_fp32_for_softmax=True,
      name='attention',
    )(x)
    x = shortcut + drop_branch(dropout(x), drop, 0)

    shortcut = x
    x = _create_layer_norm(self.dtype, 'ffn_norm')(x)
    x = self.create_dense(self.mlp_ratio * width, 'ffn_expand')(x)
    x = dropout(gelu(x))
    x = self.create_dense(width, 'ffn_shrink')(x)
    return shortcut + drop_branch(dropout(x), drop, 1)

  def create_dense(self, width: int, name: str) -> nn.Dense:
    """Returns a product over the channels."""
    return nn.Dense(
      width, dtype=self.dtype, kernel_init=_ENCODER_INIT, name=name
    )


def _create_layer_norm(dtype: jnp.dtype, name: str) -> LayerNorm:
  return LayerNorm(epsilon=_NORM_EPSILON, dtype=dtype, name=name)
