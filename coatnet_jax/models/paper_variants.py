"""The paper's models, its ablations, and small models of ours.

`coatnet_0` to `coatnet_7` are Tables 3, 11 and 12 of the paper. CoAtNet-6's
printed S4 width of 2048 contradicts its reported 1.47B parameters, which a
width of 3072 gives: `coatnet_6` is as printed, `coatnet_6_d3072` as reported.
"""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Any

from coatnet_jax.models.architecture import (
  BlockGroup,
  HeadOptions,
  Stage,
  StemOptions,
  Variant,
  replace,
)
from coatnet_jax.models.transformer import TransformerOptions

_KINDS = {'c': 'mbconv', 't': 'transformer'}
_PAPER_KINDS = ('mbconv', 'mbconv', 'transformer', 'transformer')


# S0's width; how many blocks S1 to S4 have and how wide they are; what else.
SIZES: Mapping[
  str, tuple[int, Sequence[int], Sequence[int], Mapping[str, Any]]
] = types.MappingProxyType(
  {
    'coatnet_0': (64, (2, 3, 5, 2), (96, 192, 384, 768), {}),
    'coatnet_1': (64, (2, 6, 14, 2), (96, 192, 384, 768), {}),
    'coatnet_2': (128, (2, 6, 14, 2), (128, 256, 512, 1024), {}),
    'coatnet_3': (192, (2, 6, 14, 2), (192, 384, 768, 1536), {}),
    'coatnet_4': (192, (2, 12, 28, 2), (192, 384, 768, 1536), {}),
    'coatnet_5': (
      192,
      (2, 12, 28, 2),
      (256, 512, 1280, 2048),
      {'head_dim': 64},
    ),
    'coatnet_6': (
      192,
      (2, 4, 42, 2),
      (192, 384, 1536, 2048),
      {'openers': {3: (8, 768)}, 'head_dim': 128},
    ),
    'coatnet_7': (
      192,
      (2, 4, 42, 2),
      (256, 512, 2048, 3072),
      {'openers': {3: (8, 1024)}, 'head_dim': 128},
    ),
  }
)


def create_stages(
  num_blocks, widths, *, kinds=_PAPER_KINDS, strides=(2, 2, 2, 2), openers=None
):
  """Returns S1 to S4.

  Args:
    num_blocks: number of blocks of each stage.
    widths: number of channels of each stage.
    kinds: kind of the blocks of each stage; the paper's if not given.
    strides: stride of each stage.
    openers: (number, width) of the MBConv blocks that open a stage, by the
      stage's number, 1 to 4; None for no stage.
  """
  groups = [(BlockGroup(*group),) for group in zip(kinds, num_blocks, widths)]
  for number, blocks in (openers or {}).items():
    opener = BlockGroup('mbconv', *blocks)
    groups[number - 1] = (opener, *groups[number - 1])
  return tuple(map(Stage, groups, strides))


def _paper(stem_width, num_blocks, widths, *, openers=None, head_dim=32):
  """A column of the paper's Tables 3, 11 or 12."""
  return Variant(
    stem=StemOptions(widths=(stem_width, stem_width)),
    stages=create_stages(num_blocks, widths, openers=openers),
    transformer=TransformerOptions(head_dim=head_dim),
  )


def _small(image_size, stem_width, strides, num_blocks, widths):
  """A variant of ours for small pictures: S1 to S4 with their own strides."""
  return Variant(
    stem=StemOptions(widths=(stem_width, stem_width)),
    stages=create_stages(num_blocks, widths, strides=strides),
    head=HeadOptions(pre_logits=False),
    kernel_init='lecun_normal',
    image_size=(image_size, image_size),
  )


def replace_layout(variant: Variant, layout: str) -> Variant:
  """Returns a variant with other kinds of blocks, as in the paper's 2.2.

  Args:
    variant: each of its stages has one kind of block.
    layout: 'c' (MBConv) or 't' (Transformer) for each stage, as in 'ccct'.
  """
  return dataclasses.replace(
    variant,
    stages=tuple(
      dataclasses.replace(
        stage,
        groups=(dataclasses.replace(stage.groups[0], kind=_KINDS[letter]),),
      )
      for stage, letter in zip(variant.stages, layout, strict=True)
    ),
  )


def _replace_depths(variant, num_blocks):
  """Returns a variant with other numbers of blocks in its stages."""
  return dataclasses.replace(
    variant,
    stages=tuple(
      dataclasses.replace(
        stage, groups=(dataclasses.replace(stage.groups[0], num_blocks=number),)
      )
      for stage, number in zip(variant.stages, num_blocks, strict=True)
    ),
  )


_FAMILY = {
  name: _paper(stem_width, num_blocks, widths, **others)
  for name, (stem_width, num_blocks, widths, others) in SIZES.items()
}
_FAMILY['coatnet_6_d3072'] = dataclasses.replace(
  _FAMILY['coatnet_6'],
  stages=(
    *_FAMILY['coatnet_6'].stages[:3],
    Stage((BlockGroup('transformer', 2, 3072),)),
  ),
)

# Those with one kind of block in each stage.
_UNMIXED = [f'coatnet_{number}' for number in range(6)]

# Section 2.2: S1 to S4 convolutions or attention, S0 always convolutions.
_LAYOUTS = {
  f'{name}_{layout}': replace_layout(_FAMILY[name], layout)
  for name in _UNMIXED
  for layout in ('cccc', 'ccct', 'cctt', 'cttt')
}

# The control of section 2.2: patches of 16x16 pixels, then relative Transformer
# blocks. The paper does not give its size; this one is near CoAtNet-0's.
_VIT_REL = {
  'vit_rel': Variant(
    stem=StemOptions(widths=(384,), kernel_size=16, stride=16, use_bias=True),
    stages=(Stage((BlockGroup('transformer', 14, 384),), stride=1),),
  )
}

_ABLATIONS: dict[str, Mapping[str, Any]] = {
  # Table 6.
  'no_relative_attention': {'transformer': {'relative_position': 'none'}},
  # Table 8.
  'head64': {'transformer': {'head_dim': 64}},
  'mbconv_layer_norm': {'mbconv': {'norm': 'layer', 'norm_epsilon': 1e-5}},
  # Table 9, and Table 5's CoAtNet-3.
  'strided_depthwise': {'mbconv': {'stride_in': 'depthwise'}},
}
# Table 7: blocks moved between S2 and S3.
_SPLITS = {
  f'{name}_s2_{s2}_s3_{s3}': _replace_depths(_FAMILY[name], (2, s2, s3, 2))
  for name, s2, s3 in (
    ('coatnet_2', 2, 18),
    ('coatnet_2', 8, 12),
    ('coatnet_3', 2, 18),
  )
}

# Section 2.2 in small, for 28 px: 14x14 in S1, 7x7 from S2 on, and about as
# many parameters whatever the blocks are.
_MICRO = _small(28, 12, (1, 2, 1, 1), (1, 2, 2, 2), (16, 64, 64, 64))

_SMALL = {
  # At 28 px: 14x14 in S1, 7x7 from S2 on; at 32 px 16x16 and 8x8.
  'coatnet_mini': _small(28, 12, (1, 2, 1, 1), (1, 3, 1, 1), (16, 48, 64, 64)),
  # At 64 px: 32x32 in S1, 16x16 in S2 and S3, 8x8 in S4.
  'coatnet_small': _small(
    64, 24, (1, 2, 1, 2), (2, 3, 3, 1), (32, 64, 128, 256)
  ),
  **{
    f'coatnet_micro_{layout}': replace_layout(_MICRO, layout)
    for layout in ('cccc', 'ccct', 'cctt', 'cttt')
  },
  'coatnet_micro_no_relative_attention': replace(
    _MICRO, _ABLATIONS['no_relative_attention']
  ),
  # Patches of 4x4 pixels.
  'vit_rel_micro': dataclasses.replace(
    _MICRO,
    stem=StemOptions(widths=(64,), kernel_size=4, stride=4, use_bias=True),
    stages=(Stage((BlockGroup('transformer', 5, 64),), stride=1),),
  ),
}

VARIANTS = {
  **_FAMILY,
  **_LAYOUTS,
  **_VIT_REL,
  **{
    f'{name}_{ablation}': replace(_FAMILY[name], changes)
    for name in _UNMIXED[:5]  # CoAtNet-5 has heads of 64 anyway.
    for ablation, changes in _ABLATIONS.items()
  },
  **_SPLITS,
  **_SMALL,
}
