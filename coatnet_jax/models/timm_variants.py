"""The CoAtNets and CoAtNeXts of timm, by timm's names.

Those with `rw` in their name were trained before the closest Google code was
seen, and differ from it and from each other; `coatnet_0_224` to `_5_224` follow
the paper, and no weights of them exist. `test_coatnet` is for tests.
"""

from coatnet_jax.models.architecture import (
  HeadOptions,
  StemOptions,
  Variant,
  replace,
)
from coatnet_jax.models.mbconv import MBConvOptions
from coatnet_jax.models.paper_variants import SIZES, create_stages
from coatnet_jax.models.transformer import TransformerOptions

_NANO = (64, 128, 256, 512)
_BASE = (96, 192, 384, 768)
_WIDE = (128, 256, 512, 1024)
_WIDEST = (192, 384, 768, 1536)

# What those that follow the paper share.
_PAPER_MBCONV = MBConvOptions(
  stride_in='depthwise',
  norm_epsilon=1e-5,
  activation='gelu',
  shortcut_pool='avg',
)
_PAPER_TRANSFORMER = TransformerOptions(
  norm_epsilon=1e-6,
  activation='gelu',
  shortcut_pool='avg',
  branch_pool='avg',
)
# What the others share.
_RW_MBCONV = replace(
  _PAPER_MBCONV,
  {'expand_from': 'input', 'activation': 'silu', 'se_basis': 'expanded'},
)
_RW_TRANSFORMER = replace(_PAPER_TRANSFORMER, {'attention_width': 'input'})
_RW_HEAD = HeadOptions(
  norm_epsilon=1e-6, norm_before_pool=True, pre_logits=False
)


def _paper(stem_width, num_blocks, widths):
  return Variant(
    stem=StemOptions(
      widths=(stem_width, stem_width), norm_epsilon=1e-5, activation='gelu'
    ),
    stages=create_stages(num_blocks, widths),
    mbconv=_PAPER_MBCONV,
    transformer=_PAPER_TRANSFORMER,
    head=HeadOptions(norm_epsilon=1e-6),
    kernel_init='timm',
  )


def _rw(
  num_blocks, widths, *, mbconv, transformer, image_size=224, openers=None
):
  """One of the others; `mbconv` and `transformer` are what is its own."""
  return Variant(
    stem=StemOptions(
      widths=(32, 64) if widths == _BASE else (widths[0] // 2, widths[0]),
      norm_epsilon=1e-5,
      activation='silu',
    ),
    stages=create_stages(num_blocks, widths, openers=openers),
    mbconv=replace(_RW_MBCONV, mbconv),
    transformer=replace(_RW_TRANSFORMER, transformer),
    head=_RW_HEAD,
    kernel_init='timm',
    image_size=(image_size, image_size),
  )


# What `rw` models have in common, by generation.
_EARLY_SE = {
  'pre_norm_activation': True,
  'se_position': 'before_norm',
  'se_activation': 'relu',
  'shrink_bias': False,
  'shortcut_bias': False,
}
_RELU_SE = {**_EARLY_SE, 'se_position': 'after_activation'}
_SILU_SE = {**_RELU_SE, 'se_activation': 'silu'}
_POOLED = {'stride_in': 'pool'}
_NO_SHORTCUT_BIAS = {'shortcut_bias': False}
_MLP = {'relative_position': 'mlp'}
_MLP_384 = {**_MLP, 'relative_position_mlp_width': 384}
_SCALED = {'layer_scale': 1e-6}

_RMLP_2 = {
  'num_blocks': (2, 6, 14, 2),
  'widths': _WIDE,
  'mbconv': _SILU_SE,
  'transformer': {**_MLP, **_SCALED},
}

VARIANTS = {
  'coatnet_pico_rw_224': _rw((2, 3, 5, 2), _NANO, mbconv={}, transformer={}),
  'coatnet_nano_rw_224': _rw(
    (3, 4, 6, 3), _NANO, mbconv=_POOLED, transformer={}
  ),
  'coatnet_0_rw_224': _rw(
    (2, 3, 7, 2),
    _BASE,
    mbconv={**_EARLY_SE, **_POOLED},
    transformer=_NO_SHORTCUT_BIAS,
  ),
  'coatnet_1_rw_224': _rw(
    (2, 6, 14, 2), _BASE, mbconv=_EARLY_SE, transformer=_NO_SHORTCUT_BIAS
  ),
  'coatnet_2_rw_224': _rw(
    (2, 6, 14, 2), _WIDE, mbconv=_SILU_SE, transformer={}
  ),
  'coatnet_3_rw_224': _rw(
    (2, 6, 14, 2), _WIDEST, mbconv=_SILU_SE, transformer=_SCALED
  ),
  'coatnet_bn_0_rw_224': replace(
    _rw(
      (2, 3, 7, 2),
      _BASE,
      mbconv=_EARLY_SE,
      transformer={**_NO_SHORTCUT_BIAS, 'norm': 'batch'},
    ),
    {'head': {'norm': 'batch'}},
  ),
  'coatnet_rmlp_nano_rw_224': _rw(
    (3, 4, 6, 3), _NANO, mbconv={}, transformer=_MLP_384
  ),
  'coatnet_rmlp_0_rw_224': _rw(
    (2, 3, 7, 2), _BASE, mbconv=_RELU_SE, transformer=_MLP
  ),
  'coatnet_rmlp_1_rw_224': _rw(
    (2, 6, 14, 2),
    _BASE,
    mbconv={**_EARLY_SE, **_POOLED, 'shortcut_pool': 'max_3x3'},
    transformer={
      **_NO_SHORTCUT_BIAS,
      **_MLP_384,
      'shortcut_pool': 'max_3x3',
      'branch_pool': 'max_3x3',
    },
  ),
  'coatnet_rmlp_1_rw2_224': _rw(
    (2, 6, 14, 2), _BASE, mbconv=_RELU_SE, transformer=_MLP
  ),
  'coatnet_rmlp_2_rw_224': _rw(**_RMLP_2),
  'coatnet_rmlp_2_rw_384': _rw(**_RMLP_2, image_size=384),
  'coatnet_rmlp_3_rw_224': _rw(
    (2, 6, 14, 2), _WIDEST, mbconv=_SILU_SE, transformer={**_MLP, **_SCALED}
  ),
  'coatnet_nano_cc_224': _rw(
    (3, 4, 5, 2),
    _NANO,
    mbconv={**_RELU_SE, **_POOLED},
    transformer={},
    openers={3: (1, 256), 4: (1, 512)},
  ),
  'coatnext_nano_rw_224': Variant(
    stem=StemOptions(
      widths=(32, 64), norm='layer', norm_epsilon=1e-6, activation='gelu'
    ),
    stages=create_stages(
      (3, 4, 6, 3),
      _NANO,
      kinds=('convnext', 'convnext', 'transformer', 'transformer'),
    ),
    transformer=_RW_TRANSFORMER,
    head=_RW_HEAD,
  ),
  # Heads of 32 in the last, too, where the paper has 64.
  **{
    f'coatnet_{number}_224': _paper(*SIZES[f'coatnet_{number}'][:3])
    for number in range(6)
  },
  'test_coatnet': _rw(
    (1, 1, 2, 1),
    (32, 64, 96, 128),
    mbconv=_POOLED,
    transformer={},
    image_size=160,
  ),
}
