"""The CoAtNets of keras_cv_attention_models, named `coatnet_N_keras_cv`.

Its reconstruction of the paper; ImageNet-1k weights exist of the first.
"""

from coatnet_jax.models.architecture import HeadOptions, StemOptions, Variant
from coatnet_jax.models.mbconv import MBConvOptions
from coatnet_jax.models.paper_variants import SIZES, create_stages
from coatnet_jax.models.transformer import TransformerOptions


def _keras_cv(stem_width, num_blocks, widths, *, openers=None, head_dim=32):
  """One of its models; see `paper_variants.create_stages`."""
  return Variant(
    stem=StemOptions(
      widths=(stem_width, stem_width), norm_epsilon=1e-5, activation='gelu'
    ),
    stages=create_stages(num_blocks, widths, openers=openers),
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


# Its sizes are the paper's, as printed.
VARIANTS = {
  'coatnet_t_keras_cv': _keras_cv(64, (3, 4, 6, 3), (64, 128, 256, 512)),
} | {
  f'{name}_keras_cv': _keras_cv(stem_width, num_blocks, widths, **others)
  for name, (stem_width, num_blocks, widths, others) in SIZES.items()
}
