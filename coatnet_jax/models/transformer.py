"""The attention block of stages S3 and S4 (paper 2.1, A.1, Eq. 3 and 4)."""

import dataclasses
import functools
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from coatnet_jax.errors import UserError
from coatnet_jax.models.layers import (
  ACTIVATIONS,
  Epsilon,
  LayerMaker,
  LayerScale,
  LayerScaleInit,
  Norm,
  Pool,
  StochasticDepth,
  Width,
  add_bias,
  drop_branch,
  pool,
)
from coatnet_jax.models.residual_block import BlockOptions, ResidualBlock
from coatnet_jax.ops.relative_attention import relative_attention
from coatnet_jax.ops.rematerialization import keep
from coatnet_jax.values import OneOf, Range

RELATIVE_POSITIONS = ('table', 'table_key_minus_query', 'mlp', 'none')


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerOptions(BlockOptions, section='config.model.transformer'):
  """What a Transformer block is made of; the defaults are the reconstruction.

  Attributes:
    head_dim: channels of one attention head.
    num_heads: number of heads; 0 for as many as fill the attention's width.
    attention_width: width of queries, keys and values in a block that changes
      the width: its 'output' or 'input' width. The paper's sizes fit 'output'.
    relative_position: source of the bias of a pair of tokens: a 'table' by
      query - key (the paper); one by key - query (Google's MaxViT,
      'table_key_minus_query'); an 'mlp' of the logarithm of the offset (Swin
      V2's, as in timm's rmlp models), which fits every image size; or 'none'
      (the paper's Table 6).
    relative_position_mlp_width: hidden width of the MLP that makes the bias.
    relative_position_mlp_dropout: dropout rate of that MLP's hidden layer.
    layer_scale: initial value of both branches' factors; 0 for none.
    qkv_bias: whether queries, keys and values have biases.
    out_bias: whether the attention's last product has biases.
    ffn_bias: whether the feed-forward part's products have biases.
    branch_pool: pooling in the branch, after the norm (Eq. 4), one of `POOLS`.
  """

  head_dim: Width = 32
  num_heads: Annotated[int, Range(at_least=0, at_most=2**20)] = 0
  attention_width: Annotated[str, OneOf(('output', 'input'))] = 'output'
  relative_position: Annotated[str, OneOf(RELATIVE_POSITIONS)] = 'table'
  relative_position_mlp_width: Width = 512
  relative_position_mlp_dropout: Annotated[
    float, Range(at_least=0, below=1)
  ] = 0.125
  norm: Norm = 'layer'
  norm_epsilon: Epsilon = 1e-5
  layer_scale: LayerScaleInit = 0.0
  qkv_bias: bool = True
  out_bias: bool = True
  ffn_bias: bool = True
  branch_pool: Pool = 'max'

  def resolve_num_heads(self, in_width: int, width: int) -> int:
    """Returns the number of heads of a block.

    Args:
      in_width: input channels of the block.
      width: number of output channels.

    Raises:
      UserError: heads do not fill the attention's width.
    """
    if self.num_heads:
      return self.num_heads
    attention_width = {'output': width, 'input': in_width}[self.attention_width]
    if attention_width % self.head_dim:
      raise UserError(
        f'config.model.transformer.head_dim is {self.head_dim}; it must divide'
        f' the width of every Transformer block, {attention_width} here.'
      )
    return attention_width // self.head_dim


class RelativeAttention(nn.Module):
  """Multi-head self-attention with one relative bias table per head.

  Attributes:
    width: number of output channels.
    num_heads: number of attention heads.
    options: choices of the block.
    maker: maker of the layers; the softmax is float32.
  """

  width: int
  num_heads: int
  options: TransformerOptions
  maker: LayerMaker

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    grid: tuple[int, int],
    train: bool,
    key: jax.Array | None = None,
  ) -> jax.Array:
    """Maps [B, N, C] to [B, N, width].

    Args:
      x: tokens of a grid, row by row.
      grid: (H, W), with N = H*W.
      train: whether dropout is on, which the MLP of the bias has.
      key: PRNG key for dropout; from the 'dropout' stream if None.

    Raises:
      UserError: the table was initialised for another grid.
    """
    options, maker = self.options, self.maker
    q, k, v = QKVProjection(
      self.num_heads, options.head_dim, options.qkv_bias, maker, name='qkv'
    )(x)
    bias_table = self.compute_bias_table(grid, train, key)
    x = self.attend(q, k, v, bias_table, grid)
    x = x.reshape(*x.shape[:2], -1)  # [B, N, heads * head_dim]
    return keep(
      maker.dense(self.width, use_bias=options.out_bias, name='out')(x)
    )

  def attend(
    self,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias_table: jax.Array | None,
    grid: tuple[int, int],
  ) -> jax.Array:
    """Returns attention's output, [B, N, heads, head_dim].

    A method, so that `explanation/interception.py` can see what goes through.

    Args:
      q: queries, [B, N, heads, head_dim].
      k: keys, [B, N, heads, head_dim].
      v: values, [B, N, heads, head_dim].
      bias_table: biases by query - key, [heads, 2H-1, 2W-1], or None.
      grid: (H, W), with N = H*W.
    """
    return relative_attention(
      q, k, v, bias_table, grid=grid, implementation=self.maker.attention
    )

  def compute_bias_table(
    self, grid: tuple[int, int], train: bool, key: jax.Array | None
  ) -> jax.Array | None:
    """Returns the bias by query - key, [heads, 2H-1, 2W-1], or None."""
    kind = self.options.relative_position
    if kind == 'none':
      return None
    if kind == 'mlp':
      return RelativePositionMLP(
        num_heads=self.num_heads,
        hidden_width=self.options.relative_position_mlp_width,
        dropout_rate=self.options.relative_position_mlp_dropout,
        kernel_init=self.maker.kernel_init,
        name='relative_position_mlp',
      )(grid, train, key)
    table = self.get_table_parameter(grid)
    # Read from its other end: the offset changes its sign.
    return table[:, ::-1, ::-1] if kind == 'table_key_minus_query' else table

  def get_table_parameter(self, grid: tuple[int, int]) -> jax.Array:
    """Returns the learned table [heads, 2H-1, 2W-1] of a grid (H, W)."""
    name = 'relative_position_bias_table'
    shape = (self.num_heads, 2 * grid[0] - 1, 2 * grid[1] - 1)
    # Flax would name two shapes of a table, of which no user has heard.
    if self.has_variable('params', name):
      found: tuple[int, ...] = self.get_variable('params', name).shape
      if found != shape:
        made_for = ((found[1] + 1) // 2, (found[2] + 1) // 2)
        raise UserError(
          f'The parameters are for an attention grid of'
          f' {made_for[0]}x{made_for[1]}, the images give {grid[0]}x{grid[1]}:'
          f' use images of the size that the parameters were made for.'
        )
    return self.param(name, nn.initializers.normal(0.02), shape)


class QKVProjection(nn.Module):
  """Makes queries, keys and values of tokens.

  One product each, of all heads side by side in the last axis: what the TPU
  kernel reads, so that nothing is copied or transposed between them.

  Attributes:
    num_heads: number of attention heads.
    head_dim: channels of a head.
    use_bias: whether there are biases.
    maker: maker of the layers, for the kernels' initialiser and the dtype.
  """

  num_heads: int
  head_dim: int
  use_bias: bool
  maker: LayerMaker

  @nn.compact
  def __call__(self, x: jax.Array) -> list[jax.Array]:
    """Maps [B, N, C] to three arrays [B, N, heads, head_dim]."""
    x = x.astype(self.maker.dtype)
    in_width, width = x.shape[-1], self.num_heads * self.head_dim
    heads = (3, self.num_heads, self.head_dim)

    def init_kernel(key, shape):
      # An initialiser reads the number of inputs off the last two axes, which
      # are heads and channels in the parameter.
      return self.maker.kernel_init(key, (in_width, 3 * width)).reshape(shape)

    kernels = self.param('kernel', init_kernel, (in_width, *heads))
    kernels = kernels.reshape(in_width, 3, width).astype(x.dtype)
    products = [x @ kernels[:, i] for i in range(3)]  # [B, N, width]
    if self.use_bias:
      biases = self.param('bias', nn.initializers.zeros, heads)
      products = list(map(add_bias, products, biases.reshape(3, width)))
    return [
      keep(product).reshape(*x.shape[:2], *heads[1:]) for product in products
    ]


class RelativePositionMLP(nn.Module):
  """A bias per head and relative offset, from the offset's logarithm.

  Fits every grid with the same parameters. Computed in float32.

  Attributes:
    num_heads: number of attention heads.
    hidden_width: number of channels between its two layers.
    dropout_rate: dropout rate of the hidden layer.
    kernel_init: initialiser of the kernels.
  """

  num_heads: int
  hidden_width: int
  dropout_rate: float
  kernel_init: nn.initializers.Initializer

  @nn.compact
  def __call__(
    self, grid: tuple[int, int], train: bool, key: jax.Array | None
  ) -> jax.Array:
    """Returns the bias by query - key, [heads, 2H-1, 2W-1] float32."""
    rows, columns = (np.arange(1 - length, length) for length in grid)
    offsets = np.stack(np.meshgrid(rows, columns, indexing='ij'), axis=-1)
    x = jnp.asarray(
      np.sign(offsets) * np.log1p(np.abs(offsets)), jnp.float32
    )  # [2H-1, 2W-1, 2]
    x = nn.Dense(
      self.hidden_width, kernel_init=self.kernel_init, name='hidden'
    )(x)
    dropout = nn.Dropout(self.dropout_rate, deterministic=not train)
    x = dropout(nn.relu(x), rng=key)
    x = nn.Dense(self.num_heads, kernel_init=self.kernel_init, name='out')(x)
    return x.transpose(2, 0, 1)  # [heads, 2H-1, 2W-1]


class TransformerBlock(ResidualBlock):
  """x + Attention(Norm(x)), then x + FFN(Norm(x)).

  A block that strides pools the input of both branches (Eq. 4).

  Attributes:
    options: choices of the block.
  """

  options: TransformerOptions

  @nn.compact
  def __call__(
    self, x: jax.Array, train: bool, drop: StochasticDepth | None = None
  ) -> jax.Array:
    """Maps [B, H, W, C] to [B, H/stride, W/stride, width]."""
    maker, options = self.maker, self.options
    batch = x.shape[0]
    grid = x.shape[1] // self.stride, x.shape[2] // self.stride

    norm = functools.partial(self.apply_norm, train=train)

    def scale(x, name):
      return LayerScale(options.layer_scale, name=name)(x)

    def to_tokens(x):
      return x.reshape(batch, grid[0] * grid[1], -1)  # [B, N, C]

    # Tokens wherever they will do, also between one block and the next: on a
    # TPU a map [B, H, W, C] has another layout in memory.
    if self.stride == 1:
      x = to_tokens(x)
    shortcut = self.apply_shortcut(x)
    num_heads = options.resolve_num_heads(x.shape[-1], self.width)
    x = pool(norm(x, 'attention_norm'), options.branch_pool, self.stride)
    x = RelativeAttention(
      self.width, num_heads, options, maker, name='attention'
    )(to_tokens(x), grid, train, None if drop is None else drop.key)
    x = to_tokens(shortcut) + drop_branch(
      scale(x, 'attention_layer_scale'), drop, 0
    )

    shortcut = x
    hidden_width = options.expansion_ratio * self.width
    x = norm(x, 'ffn_norm')
    x = keep(
      maker.dense(hidden_width, use_bias=options.ffn_bias, name='ffn_expand')(x)
    )
    x = ACTIVATIONS[options.activation](x)
    x = maker.dense(self.width, use_bias=options.ffn_bias, name='ffn_shrink')(x)
    x = shortcut + drop_branch(scale(x, 'ffn_layer_scale'), drop, 1)
    return x.reshape(batch, *grid, -1)  # [B, H/stride, W/stride, width]
