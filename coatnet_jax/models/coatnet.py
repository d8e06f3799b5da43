"""CoAtNet: a convolutional stem, stages of blocks, a classification head."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.models import block_sequence
from coatnet_jax.models.architecture import BlockGroup
from coatnet_jax.models.compute_options import ComputeOptions
from coatnet_jax.models.convnext import ConvNeXtBlock
from coatnet_jax.models.image_model import ImageModel
from coatnet_jax.models.layers import (
  ACTIVATIONS,
  KERNEL_INITS,
  LayerMaker,
  StochasticDepth,
)
from coatnet_jax.models.mbconv import MBConvBlock
from coatnet_jax.models.transformer import TransformerBlock
from coatnet_jax.ops.batch_sharding import shard_batch


class CoAtNet(ImageModel):
  """A network of one variant; `create_model` makes it by name.

  The outputs of the stages, `s0` to `s4`, and the head's `pre_logits` are
  sown as 'intermediates': `apply(..., mutable=['intermediates'])` returns
  them.

  `ImageModel` has further attributes.

  Attributes:
    compute: choices of computation, without effect on the variables.
  """

  compute: ComputeOptions = ComputeOptions()

  @property
  def images_per_group(self) -> int:
    """How many images have statistics of their own; 0 for the batch."""
    return self.compute.batch_norm_group_size

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool
  ) -> jax.Array | dict[str, jax.Array]:
    """Classifies images.

    Args:
      images: [B, H, W, in_channels], normalised, any float dtype. The product
        of the strides divides H and W.
      train: whether to use batch statistics (mutable 'batch_stats') and
        stochastic depth (the 'dropout' stream of keys); otherwise running
        statistics, and nothing is dropped.

    Returns:
      Logits [B, num_classes] float32; if num_classes is 0, the mean over the
      last stage's positions, [B, width] float32; if there are `feature_maps`,
      a map [B, H/stride, W/stride, width] in the compute dtype for each of
      their names.

    Raises:
      UserError: an image size that the strides don't divide, or that the
        parameters were not made for.
    """
    self.check_image_size(images.shape)
    maps = {'s0': self.apply_stem(images.astype(self.dtype), train)}
    self.sow_array('s0', maps['s0'])
    drops = self.create_drops(train)
    for number in range(1, len(self.variant.stages) + 1):
      if self.feature_maps and not set(self.feature_maps) - set(maps):
        break
      x = self.apply_stage(number, maps[f's{number - 1}'], train, drops)
      maps[f's{number}'] = x
      self.sow_array(f's{number}', x)

    if self.feature_maps:
      return {name: maps[name] for name in self.feature_maps}
    return self.apply_head(x, train)

  def compute_drop_rate(self, index: int) -> float:
    """Returns the stochastic-depth rate of a block, counted from 0."""
    return self.stochastic_depth_rate * index / self.variant.num_blocks

  def create_drops(self, train: bool) -> Iterator[StochasticDepth | None]:
    """Returns what each block drops, from the first block on."""
    needs_key = self.stochastic_depth_rate or self.has_rng('dropout')
    if not train or not needs_key:
      return itertools.repeat(None)
    key = self.make_rng('dropout')
    # A block's key follows from its place in the network, so that scanned and
    # rematerialised blocks draw what plain ones do.
    return (
      StochasticDepth(
        key=jax.random.fold_in(key, index), rate=self.compute_drop_rate(index)
      )
      for index in range(self.variant.num_blocks)
    )

  def apply_stage(
    self,
    number: int,
    x: jax.Array,
    train: bool,
    drops: Iterator[StochasticDepth | None],
  ) -> jax.Array:
    """Applies the blocks of one stage, counted from 1, to [B, H, W, C]."""
    compute = self.compute
    plainly = not compute.scan_blocks and (compute.remat == 'none' or not train)
    # Only the blocks themselves know which variables they have: what creates
    # variables takes the plain way.
    if plainly or self.is_initializing():
      for name, options in self.list_block_arguments(number):
        drop, trains = next(drops), self.is_training(name, train)
        x = self.create_block(**options, name=name)(
          shard_batch(x), trains, drop if trains else None
        )
      return shard_batch(x)

    blocks = [
      block_sequence.Block(
        name=name,
        module=self.create_block(**options, parent=None),
        drop=drop if self.is_training(name, train) else None,
        expands=options['group'].kind == 'mbconv',
        frozen=name in self.frozen,
      )
      for (name, options), drop in zip(self.list_block_arguments(number), drops)
    ]
    variables = {
      block.name: {
        collection: tree[block.name]
        for collection, tree in self.variables.items()
        if block.name in tree
      }
      for block in blocks
    }
    x, batch_stats = block_sequence.apply_blocks(
      blocks,
      variables,
      x,
      train=train,
      remat=self.compute.remat,
      scan=self.compute.scan_blocks,
    )
    if self.is_mutable_collection('batch_stats'):
      for name, stats in batch_stats.items():
        self.put_variable('batch_stats', name, stats)
    return x

  def list_block_arguments(
    self, number: int
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each block's name, and the arguments of `create_block` for it."""
    stride = self.variant.stages[number - 1].stride
    for name, group, first in self.variant.list_blocks(number):
      yield name, {'group': group, 'stride': stride, 'first': first}
      stride = 1

  def create_maker(self, kind: str) -> LayerMaker:
    """Returns what makes the layers of 'stem', 'head' or a kind of block."""
    inits = KERNEL_INITS[self.variant.kernel_init]
    by_kind = {'transformer': inits.transformer, 'head': inits.head}
    return LayerMaker(
      dtype=self.dtype,
      attention=self.compute.attention,
      kernel_init=by_kind.get(kind, inits.convolution),
      depthwise_init=inits.depthwise,
      batch_norm_momentum=self.batch_norm_momentum,
      batch_norm_group_size=self.compute.batch_norm_group_size,
    )

  def apply_stem(self, x: jax.Array, train: bool) -> jax.Array:
    """S0: [B, H, W, C] to [B, H/stride, W/stride, width]."""
    maker, options = self.create_maker('stem'), self.variant.stem
    last = len(options.widths) - 1
    for index, width in enumerate(options.widths):
      x = maker.conv(
        width,
        kernel_size=options.kernel_size,
        stride=1 if index else options.stride,
        use_bias=options.use_bias,
        name=f's0_conv_{index}',
      )(x)
      if index < last:
        # Most stems have one norm; it has no number.
        name = f's0_norm_{index}' if index else 's0_norm'
        x = maker.norm(
          options.norm,
          options.norm_epsilon,
          train=self.is_training(name, train),
          name=name,
        )(x)
        x = ACTIVATIONS[options.activation](x)
    return x

  def create_block(
    self, group: BlockGroup, stride: int, first: bool, **module: Any
  ) -> nn.Module:
    """Returns the module of one block, with a name or without a parent."""
    block, options = {
      'mbconv': (MBConvBlock, self.variant.mbconv),
      'transformer': (TransformerBlock, self.variant.transformer),
      'convnext': (ConvNeXtBlock, self.variant.convnext),
    }[group.kind]
    return block(
      width=group.width,
      stride=stride,
      first=first,
      options=options,
      maker=self.create_maker(group.kind),
      **module,
    )

  def apply_head(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps the last map to logits [B, num_classes] float32.

    Or, without classes, to its mean [B, width] float32.
    """
    options, maker = self.variant.head, self.create_maker('head')

    def norm(x):
      if options.norm == 'none':
        return x
      return maker.norm(
        options.norm,
        options.norm_epsilon,
        train=self.is_training('head_norm', train),
        name='head_norm',
      )(x)

    if not self.num_classes:
      return x.mean((1, 2), dtype=jnp.float32)
    if options.norm_before_pool:
      x = norm(x).mean((1, 2), dtype=jnp.float32)  # [B, width]
    else:
      x = norm(x.mean((1, 2), dtype=jnp.float32))
    if options.pre_logits:
      x = jnp.tanh(maker.dense(x.shape[-1], name='head_pre_logits')(x))
    self.sow_array('pre_logits', x)
    # The logits are float32 whatever the compute dtype: in bfloat16 close ones
    # would tie, and the loss would lose its small differences.
    float32 = dataclasses.replace(maker, dtype=jnp.float32)
    return float32.dense(
      self.num_classes,
      use_bias=options.use_bias,
      bias_init=nn.initializers.constant(self.head_bias_init),
      name='head_logits',
    )(x)
