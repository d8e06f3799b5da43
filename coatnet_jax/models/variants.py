"""Architectures by name."""

import fnmatch
from collections.abc import Sequence
from typing import Annotated

from coatnet_jax.errors import UserError, explain_choice
from coatnet_jax.models import (
  keras_cv_variants,
  paper_variants,
  timm_variants,
)
from coatnet_jax.models.architecture import (
  BlockGroup,
  Stage,
  StemOptions,
  Variant,
)
from coatnet_jax.models.cnn_stem_vit import CNNStemViTVariant
from coatnet_jax.models.layers import Width
from coatnet_jax.models.transformer import TransformerOptions
from coatnet_jax.values import ImageSize, OneOf, Range, checked

VARIANTS: dict[str, Variant | CNNStemViTVariant] = {
  'cnn_stem_vit': CNNStemViTVariant(),
  **paper_variants.VARIANTS,
  **timm_variants.VARIANTS,
  **keras_cv_variants.VARIANTS,
}
# The name of an architecture made from arguments: `create_custom_variant`.
CUSTOM = 'coatnet'
_KINDS = {'C': 'mbconv', 'T': 'transformer'}
_Number = Annotated[int, Range(at_least=1, at_most=10_000)]


def list_variants(pattern: str = '*') -> list[str]:
  """Returns the names that match a shell pattern, sorted.

  >>> list_variants('coatnet_[01]')
  ['coatnet_0', 'coatnet_1']
  """
  return sorted(fnmatch.filter(VARIANTS, pattern))


def get_variant(name: str) -> Variant | CNNStemViTVariant:
  """Returns a variant by name.

  >>> get_variant('coatnet_0').image_size
  (224, 224)
  >>> get_variant('coatnet_0').num_blocks
  12

  Raises:
    UserError: no such name; with those most like it, and how to list them all.
  """
  if name not in VARIANTS:
    raise UserError(
      explain_choice(
        "The variant's name (config.model.name)",
        name,
        VARIANTS,
        listed='of coatnet_jax.list_variants() (in a checkout of the project:'
        ' `python -m tools.variants`)',
      )
    )
  return VARIANTS[name]


@checked
def create_custom_variant(
  *,
  img_size: ImageSize,
  in_channels: Width,
  num_blocks: tuple[_Number, _Number, _Number, _Number, _Number],
  channels: tuple[Width, Width, Width, Width, Width],
  num_heads: Width = 32,
  block_types: str | Sequence[str] = ('C', 'C', 'T', 'T'),
  scaled_num_blocks: tuple[_Number, _Number] | None = None,
  scaled_channels: tuple[Width, Width] | None = None,
) -> Variant:
  """Makes a variant of the paper's blocks, by lucid's `CoAtNetConfig`.

  The arguments and their meaning are lucid's; the blocks are the paper's.

  Args:
    img_size: (height, width) in pixels.
    in_channels: number of channels of the images.
    num_blocks: number of blocks of S0 (convolutions) to S4.
    channels: output channels of S0 to S4.
    num_heads: number of heads of 32 channels in every Transformer block.
    block_types: type of block, 'C' or 'T', of S1 to S4.
    scaled_num_blocks: S3 of CoAtNet-6 and -7: how many MBConv, then how many
      Transformer blocks, instead of `num_blocks[3]`.
    scaled_channels: output channels of these two, instead of `channels[3]`.

  Raises:
    UserError: a number that is not positive, or too many or too few of them.
  """
  if (scaled_num_blocks is None) != (scaled_channels is None):
    raise UserError(
      'config.model.scaled_num_blocks and config.model.scaled_channels go'
      ' together: give both or neither.'
    )
  if len(block_types) != 4 or set(block_types) - set(_KINDS):
    raise UserError(
      f'config.model.block_types is {block_types!r}; it must be 4 values, each'
      f' {OneOf(_KINDS)}.'
    )
  groups: list[tuple[BlockGroup, ...]] = [
    (BlockGroup(_KINDS[block_type], number, width),)
    for block_type, number, width in zip(
      block_types, num_blocks[1:], channels[1:]
    )
  ]
  if scaled_num_blocks is not None and scaled_channels is not None:
    groups[2] = tuple(
      BlockGroup(*group)
      for group in zip(_KINDS.values(), scaled_num_blocks, scaled_channels)
    )
  return Variant(
    stem=StemOptions(widths=(channels[0],) * num_blocks[0]),
    stages=tuple(map(Stage, groups)),
    transformer=TransformerOptions(num_heads=num_heads),
    image_size=tuple(img_size),
    in_channels=in_channels,
  )
