"""CoAtNet: a convolutional stem, stages of blocks, a classification head."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.errors import UserError
from coatnet_jax.models import block_sequence
from coatnet_jax.models.architecture import (
  Blocks,
  FeatureMap,
  Variant,
  list_feature_maps,
)
from coatnet_jax.models.compute_options import ComputeOptions
from coatnet_jax.models.convnext import ConvNeXtBlock
from coatnet_jax.models.layers import (
  ACTIVATIONS,
  KERNEL_INITS,
  Layers,
  StochasticDepth,
)
from coatnet_jax.models.mbconv import MBConvBlock
from coatnet_jax.models.transformer import EXPANDED_BIAS, TransformerBlock
from coatnet_jax.ops.batch_division import divide_batch


class CoAtNet(nn.Module):
  """A network of one variant; `create_model` makes it by name.

  The outputs of the stages, `s0` to `s4`, and the head's `pre_logits` are
  sown as 'intermediates': `apply(..., mutable=['intermediates'])` returns
  them.

  Attributes:
    variant: architecture without its number of classes.
    num_classes: width of the logits; 0 for pooled features instead.
    stochastic_depth_rate: probability of dropping the last residual branch.
    batch_norm_momentum: part of the running statistics kept at a step.
    dtype: compute dtype; the pooled features and the logits are float32.
    feature_maps: names of stages whose outputs are the result; () for logits.
    compute: how the model is computed, without effect on its variables.
    head_bias_init: number that the logits' biases start at.
    frozen: names of parts ('s0_conv_0', 's1_block_0', ...) that are computed as
      in evaluation, also in training.
  """

  variant: Variant
  num_classes: int
  stochastic_depth_rate: float
  batch_norm_momentum: float
  dtype: jnp.dtype
  feature_maps: tuple[str, ...] = ()
  compute: ComputeOptions = ComputeOptions()
  head_bias_init: float = 0.0
  frozen: tuple[str, ...] = ()

  @property
  def feature_info(self) -> tuple[FeatureMap, ...]:
    """Describes the stages in `feature_maps`, or all if there are none."""
    return tuple(
      stage
      for stage in list_feature_maps(self.variant)
      if stage.name in self.feature_maps or not self.feature_maps
    )

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool
  ) -> jax.Array | dict[str, jax.Array]:
    """Classifies images.

    Args:
      images: [B, H, W, in_channels], normalised, any float dtype. The product
        of the strides divides H and W.
      train: with batch statistics (mutable 'batch_stats') and stochastic depth
        (the 'dropout' stream of keys), or with running statistics and without.

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
    maps = {'s0': self.stem(images.astype(self.dtype), train)}
    self.sow_array('s0', maps['s0'])
    drops = self.create_drops(train)
    for number in range(1, len(self.variant.stages) + 1):
      if self.feature_maps and not set(self.feature_maps) - set(maps):
        break
      x = self.stage(number, maps[f's{number - 1}'], train, drops)
      maps[f's{number}'] = x
      self.sow_array(f's{number}', x)

    if self.feature_maps:
      return {name: maps[name] for name in self.feature_maps}
    return self.head(x, train)

  def check_image_size(self, shape: tuple[int, ...]) -> None:
    """Raises UserError for a shape of images that the model cannot take."""
    total, channels = self.variant.total_stride, self.variant.in_channels
    if (
      len(shape) != 4
      or any(s % total or not s for s in shape[1:3])
      or shape[3] != channels
    ):
      raise UserError(
        f'Images of shape {shape} do not fit: the model takes [B, H, W,'
        f' {channels}] with height and width divisible by {total}, the product'
        ' of its strides.'
      )

  def trains(self, name: str, train: bool) -> bool:
    """Returns whether a part of the model is computed as in training."""
    return train and name not in self.frozen

  def drop_rate(self, index: int) -> float:
    """Returns the stochastic-depth rate of a block, counted from 0."""
    return self.stochastic_depth_rate * index / self.variant.num_blocks

  def create_drops(self, train: bool) -> Iterator[StochasticDepth | None]:
    """Returns what each block drops, from the first block on."""
    needs_key = self.stochastic_depth_rate or self.has_rng('dropout')
    if not train or not needs_key:
      return itertools.repeat(None)
    key = self.make_rng('dropout')
    return (
      StochasticDepth(jax.random.fold_in(key, index), self.drop_rate(index))
      for index in range(self.variant.num_blocks)
    )

  def stage(
    self,
    number: int,
    x: jax.Array,
    train: bool,
    drops: Iterator[StochasticDepth | None],
  ) -> jax.Array:
    """Applies the blocks of one stage, counted from 1, to [B, H, W, C]."""
    compute = self.compute
    plainly = not compute.scan_blocks and (compute.remat == 'none' or not train)
    # Which variables there are only the blocks themselves know.
    creates = self.is_initializing() or self.is_mutable_collection(
      EXPANDED_BIAS
    )
    if plainly or creates:
      for name, options in self.stage_blocks(number):
        drop, trains = next(drops), self.trains(name, train)
        x = self.block(**options, name=name)(
          divide_batch(x), trains, drop if trains else None
        )
      return divide_batch(x)

    blocks = [
      block_sequence.Block(
        name=name,
        module=self.block(**options, parent=None),
        drop=drop if self.trains(name, train) else None,
        expands=options['run'].kind == 'mbconv',
        frozen=name in self.frozen,
      )
      for (name, options), drop in zip(self.stage_blocks(number), drops)
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

  def stage_blocks(self, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields name and arguments of `block` of a stage's blocks."""
    stride = self.variant.stages[number - 1].stride
    for name, run, first in self.variant.stage_blocks(number):
      yield name, {'run': run, 'stride': stride, 'first': first}
      stride = 1

  def layers(self, kind: str) -> Layers:
    """Makes the layers of the stem ('stem'), a kind of block or the 'head'."""
    inits = KERNEL_INITS[self.variant.kernel_init]
    by_kind = {'transformer': inits.transformer, 'head': inits.head}
    return Layers(
      dtype=self.dtype,
      attention=self.compute.attention,
      kernel_init=by_kind.get(kind, inits.convolution),
      depthwise_init=inits.depthwise,
      batch_norm_momentum=self.batch_norm_momentum,
      batch_norm_group_size=self.compute.batch_norm_group_size,
    )

  def stem(self, x: jax.Array, train: bool) -> jax.Array:
    """S0: [B, H, W, C] to [B, H/stride, W/stride, width]."""
    layers, options = self.layers('stem'), self.variant.stem
    last = len(options.widths) - 1
    for index, width in enumerate(options.widths):
      x = layers.conv(
        width,
        kernel_size=options.kernel_size,
        stride=1 if index else options.stride,
        use_bias=options.use_bias,
        name=f's0_conv_{index}',
      )(x)
      if index < last:
        # Most stems have one norm; it has no number.
        name = f's0_norm_{index}' if index else 's0_norm'
        x = layers.norm(
          options.norm,
          options.norm_epsilon,
          train=self.trains(name, train),
          name=name,
        )(x)
        x = ACTIVATIONS[options.activation](x)
    return x

  def block(
    self, run: Blocks, stride: int, first: bool, **module: Any
  ) -> nn.Module:
    """Returns the module of one block, with a name or without a parent."""
    block, options = {
      'mbconv': (MBConvBlock, self.variant.mbconv),
      'transformer': (TransformerBlock, self.variant.transformer),
      'convnext': (ConvNeXtBlock, self.variant.convnext),
    }[run.kind]
    return block(
      width=run.width,
      stride=stride,
      first=first,
      options=options,
      layers=self.layers(run.kind),
      **module,
    )

  def head(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps the last map to logits [B, num_classes] float32.

    Or, without classes, to its mean [B, width] float32.
    """
    options, layers = self.variant.head, self.layers('head')

    def norm(x):
      if options.norm == 'none':
        return x
      return layers.norm(
        options.norm,
        options.norm_epsilon,
        train=self.trains('head_norm', train),
        name='head_norm',
      )(x)

    if not self.num_classes:
      return x.mean((1, 2), dtype=jnp.float32)
    if options.norm_before_pool:
      x = norm(x).mean((1, 2), dtype=jnp.float32)  # [B, width]
    else:
      x = norm(x.mean((1, 2), dtype=jnp.float32))
    if options.pre_logits:
      x = jnp.tanh(layers.dense(x.shape[-1], name='head_pre_logits')(x))
    self.sow_array('pre_logits', x)
    # In float32 whatever the compute dtype: close logits would tie.
    float32 = dataclasses.replace(layers, dtype=jnp.float32)
    return float32.dense(
      self.num_classes,
      use_bias=options.use_bias,
      bias_init=nn.initializers.constant(self.head_bias_init),
      name='head_logits',
    )(x)

  def sow_array(self, name: str, x: jax.Array) -> None:
    """Stores an intermediate as an array, not as a tuple of one."""
    self.sow(
      'intermediates', name, x, reduce_fn=lambda _, new: new, init_fn=tuple
    )
