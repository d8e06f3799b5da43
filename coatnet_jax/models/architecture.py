"""What a CoAtNet is made of: the data that `CoAtNet` is built from.

The named architectures are in `variants.py` and the modules beside it.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

from coatnet_jax.models.convnext import ConvNeXtOptions
from coatnet_jax.models.layers import (
  KERNEL_INITS,
  NORMS,
  Activation,
  Epsilon,
  Norm,
  Width,
)
from coatnet_jax.models.mbconv import MBConvOptions
from coatnet_jax.models.transformer import TransformerOptions
from coatnet_jax.values import (
  NOT_EMPTY,
  ImageSize,
  OneOf,
  Options,
  Range,
  check_names,
)

BLOCK_KINDS = ('mbconv', 'transformer', 'convnext')


@dataclasses.dataclass(frozen=True)
class BlockGroup(Options):
  """Equal blocks that follow each other.

  Attributes:
    kind: kind of all the blocks, one of `BLOCK_KINDS`.
    num_blocks: number of blocks.
    width: output channels of each block.
  """

  kind: Annotated[str, OneOf(BLOCK_KINDS)]
  num_blocks: Annotated[int, Range(at_least=1, at_most=10_000)]
  width: Width


@dataclasses.dataclass(frozen=True)
class Stage(Options):
  """Blocks at one resolution.

  Attributes:
    groups: groups of equal blocks, in order; CoAtNet-6 and -7 mix two kinds in
      S3.
    stride: stride of the first block.
  """

  groups: Annotated[tuple[BlockGroup, ...], NOT_EMPTY]
  stride: Annotated[int, Range(at_least=1, at_most=64)] = 2

  @property
  def width(self) -> int:
    """Output channels."""
    return self.groups[-1].width


@dataclasses.dataclass(frozen=True, kw_only=True)
class StemOptions(Options, section='config.model.stem'):
  """S0: convolutions, with a norm and an activation between them.

  Nothing follows the last: the first block of S1 begins with a norm.

  Attributes:
    widths: output channels of each convolution.
    kernel_size: kernel size of each convolution, which is padded by half of it,
      or takes patches where it is the stride.
    stride: stride of the first convolution.
    use_bias: whether the convolutions have biases.
    norm: kind of all norms, 'batch' or 'layer'.
    norm_epsilon: number added to the variance.
    activation: name of the activation, one of `ACTIVATIONS`.
  """

  widths: Annotated[tuple[Width, ...], NOT_EMPTY]
  kernel_size: Annotated[int, Range(at_least=1, at_most=64)] = 3
  stride: Annotated[int, Range(at_least=1, at_most=64)] = 2
  use_bias: bool = False
  norm: Norm = 'batch'
  norm_epsilon: Epsilon = 1e-3
  activation: Activation = 'gelu_tanh'


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadOptions(Options, section='config.model.head'):
  """From the last map to the logits.

  Attributes:
    norm: kind of the norm, 'layer', 'batch' or 'none'.
    norm_epsilon: number added to the variance.
    norm_before_pool: whether the norm is applied to the map, and not to its
      mean.
    pre_logits: whether a tanh layer comes before the logits. The paper's sizes
      say so (its text does not); narrow models learn far slower with it.
    use_bias: whether the logits have biases.
  """

  norm: Annotated[str, OneOf((*NORMS, 'none'))] = 'layer'
  norm_epsilon: Epsilon = 1e-5
  norm_before_pool: bool = False
  pre_logits: bool = True
  use_bias: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant(Options):
  """An architecture, without its number of classes.

  Attributes:
    stem: choices of the stem, S0.
    stages: stages S1 to S4.
    mbconv: choices of the MBConv blocks.
    transformer: choices of the Transformer blocks.
    convnext: choices of the ConvNeXt blocks.
    head: choices of the head, from the last map to the logits.
    kernel_init: initialiser of the kernels: 'normal_0.02' (the closest Google
      code's; the paper does not say), 'lecun_normal', with which narrow models
      learn faster, or 'timm'.
    image_size: (height, width) in pixels that it is for; others are possible.
    in_channels: number of channels of the images.
  """

  stem: StemOptions
  stages: Annotated[tuple[Stage, ...], NOT_EMPTY]
  mbconv: MBConvOptions = MBConvOptions()
  transformer: TransformerOptions = TransformerOptions()
  convnext: ConvNeXtOptions = ConvNeXtOptions()
  head: HeadOptions = HeadOptions()
  kernel_init: Annotated[str, OneOf(KERNEL_INITS)] = 'normal_0.02'
  image_size: ImageSize = (224, 224)
  in_channels: Width = 3

  def check(self):
    """Raises UserError for attention heads that don't fill the width."""
    in_width = self.stem.widths[-1]
    for stage in self.stages:
      for group in stage.groups:
        # The first block may take another width than the group's others do.
        for width in (in_width, group.width)[: group.num_blocks]:
          if group.kind == 'transformer':
            self.transformer.resolve_num_heads(width, group.width)
        in_width = group.width

  @property
  def total_stride(self) -> int:
    """How much smaller the last stage's grid is than the image."""
    return self.strides[-1]

  @property
  def strides(self) -> tuple[int, ...]:
    """How much smaller each stage's grid is than the image, S0 to the last."""
    strides = [self.stem.stride]
    for stage in self.stages:
      strides.append(strides[-1] * stage.stride)
    return tuple(strides)

  @property
  def attention_strides(self) -> tuple[int, ...]:
    """How much smaller than the image each grid is that blocks attend over."""
    return tuple(
      stride
      for stage, stride in zip(self.stages, self.strides[1:])
      if any(group.kind == 'transformer' for group in stage.groups)
    )

  @property
  def widths(self) -> tuple[int, ...]:
    """Output channels of each stage, S0 to the last."""
    return (self.stem.widths[-1], *(stage.width for stage in self.stages))

  @property
  def num_blocks(self) -> int:
    """How many blocks there are in all stages."""
    return sum(
      group.num_blocks for stage in self.stages for group in stage.groups
    )

  def list_blocks(self, number: int) -> Iterator[tuple[str, BlockGroup, bool]]:
    """Yields the blocks of a stage, counted from 1.

    Yields:
      The block's name, its group, and whether it is the group's first.
    """
    position = 0
    for group in self.stages[number - 1].groups:
      for index in range(group.num_blocks):
        yield f's{number}_block_{position}', group, index == 0
        position += 1


@dataclasses.dataclass(frozen=True)
class FeatureMap:
  """What a stage's output is like.

  Attributes:
    name: name of the stage, 's0' to 's4'.
    stride: factor that the map is smaller by than the image.
    width: number of channels of the map.
  """

  name: str
  stride: int
  width: int


def list_feature_maps(variant: Any) -> tuple[FeatureMap, ...]:
  """Returns what the stages of a variant put out, from the stem on."""
  return tuple(
    FeatureMap(f's{number}', stride, width)
    for number, (stride, width) in enumerate(
      zip(variant.strides, variant.widths, strict=True)
    )
  )


def replace(
  variant: Any,
  changes: Mapping[str, Any],
  others: Collection[str] = (),
  section: str = 'config.model',
) -> Any:
  """Returns a frozen dataclass with other values.

  Args:
    variant: dataclass to be changed.
    changes: new values by name of the field. A dataclass may be given
      whole, or as a mapping of what changes in it:
      `{'transformer': {'head_dim': 64}}`.
    others: names that a message lists beside the fields.
    section: name of the dataclass in a message.

  Raises:
    UserError: no such field, or a value that is not possible.
  """
  names = [field.name for field in dataclasses.fields(variant)]
  check_names(section, changes, [*names, *others])
  values = {
    name: replace(getattr(variant, name), value, section=f'{section}.{name}')
    if isinstance(value, Mapping)
    and dataclasses.is_dataclass(getattr(variant, name))
    else value
    for name, value in changes.items()
  }
  return dataclasses.replace(variant, **values)
