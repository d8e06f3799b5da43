"""The CoAtNets of keras_cv_attention_models, named `coatnet_N_keras_cv`.

Its reconstruction of the paper; ImageNet-1k weights exist of the first.
"""

from coatnet_jax.models.architecture import (
  Blocks,
  HeadOptions,
  Stage,
  StemOptions,
  Variant,
)
from coatnet_jax.models.mbconv import MBConvOptions
from coatnet_jax.models.transformer import TransformerOptions


def _keras_cv(stem_width, num_blocks, widths, *, s3_mbconv=None, head_dim=32):
  """One of its models; `s3_mbconv` as (number, width) opens S3."""
  kinds = ('mbconv', 'mbconv', 'transformer', 'transformer')
  runs = [(Blocks(*run),) for run in zip(kinds, num_blocks, widths)]
  if s3_mbconv:
    runs[2] = (Blocks('mbconv', *s3_mbconv), *runs[2])
  return Variant(
    stem=StemOptions(
      widths=(stem_width, stem_width), norm_epsilon=1e-5, activation='gelu'
    ),
    stages=tuple(Stage(r) for r in runs),
    mbconv=MBConvOptions(
      expand_from='input',
      stride_in='depthwise',
      norm_epsilon=1e-5,
      activation='gelu',
      se_basis='input',
      se_multiple_of=8,
      se_activation='gelu',
      shrink_bias=False,
      shortcut_bias=False,
      shortcut_projection='first_block',
    ),
    transformer=TransformerOptions(
      head_dim=head_dim,
      attention_width='input',
      norm_epsilon=1e-5,
      activation='gelu',
      qkv_bias=False,
      out_bias=False,
      ffn_bias=False,
      shortcut_bias=False,
      shortcut_projection='first_block',
    ),
    head=HeadOptions(norm='none', pre_logits=False),
  )


VARIANTS = {
  'coatnet_t_keras_cv': _keras_cv(64, (3, 4, 6, 3), (64, 128, 256, 512)),
  'coatnet_0_keras_cv': _keras_cv(64, (2, 3, 5, 2), (96, 192, 384, 768)),
  'coatnet_1_keras_cv': _keras_cv(64, (2, 6, 14, 2), (96, 192, 384, 768)),
  'coatnet_2_keras_cv': _keras_cv(128, (2, 6, 14, 2), (128, 256, 512, 1024)),
  'coatnet_3_keras_cv': _keras_cv(192, (2, 6, 14, 2), (192, 384, 768, 1536)),
  'coatnet_4_keras_cv': _keras_cv(192, (2, 12, 28, 2), (192, 384, 768, 1536)),
  'coatnet_5_keras_cv': _keras_cv(
    192, (2, 12, 28, 2), (256, 512, 1280, 2048), head_dim=64
  ),
  'coatnet_6_keras_cv': _keras_cv(
    192,
    (2, 4, 42, 2),
    (192, 384, 1536, 2048),
    s3_mbconv=(8, 768),
    head_dim=128,
  ),
  'coatnet_7_keras_cv': _keras_cv(
    192,
    (2, 4, 42, 2),
    (256, 512, 2048, 3072),
    s3_mbconv=(8, 1024),
    head_dim=128,
  ),
}
