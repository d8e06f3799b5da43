"""The names and layouts of keras_cv_attention_models' CoAtNets.

As '<layer>/<weight>', which is how `files.read_weights` names the weights of a
Keras file. Two trained files exist, both of `coatnet_0_keras_cv`; see
`published.py`. Those from before 24 April 2022 are of another architecture,
whose values are as wide as a block's output; they don't fit.

Its models end in a softmax; ours give the logits before it.
"""

import math
import types
from collections.abc import Mapping

from coatnet_jax.models.architecture import Variant
from coatnet_jax.weights import names

# Is in every one of its files.
MARK = 'stem_1_conv/kernel'

_MODULES = types.MappingProxyType(
  {
    's0_conv_0': 'stem_1_conv',
    's0_norm': 'stem_1_bn',
    's0_conv_1': 'stem_2_conv',
    'head_logits': 'predictions',
  }
)
# Kind of block -> part of ours -> end of its layer's name.
_PARTS: Mapping[str, Mapping[str, str]] = types.MappingProxyType(
  {
    'mbconv': {
      'shortcut/project': 'shortcut_conv',
      'pre_norm': 'preact_bn',
      'expand': 'expand_conv',
      'expand_norm': 'expand_bn',
      'depthwise': 'MB_dw_conv',
      'depthwise_norm': 'MB_dw_bn',
      'se/squeeze': 'se_1_conv',
      'se/excite': 'se_2_conv',
      'shrink': 'MB_pw_conv',
    },
    'transformer': {
      'shortcut/project': 'shortcut_conv',
      'attention_norm': 'preact_ln',
      'attention/qkv': 'mhsa_qkv_conv',
      'attention': 'mhsa_pos_emb',
      'attention/out': 'mhsa_output',
      'ffn_norm': 'ffn_preact_ln',
      'ffn_expand': 'ffn_1_conv',
      'ffn_shrink': 'ffn_2_conv',
    },
  }
)
_LEAVES = types.MappingProxyType(
  {
    'scale': 'gamma',
    'mean': 'moving_mean',
    'var': 'moving_variance',
    'relative_position_bias_table': 'positional_embedding',
  }
)


def naming(variant: Variant) -> names.Naming:
  """Returns its names for the variables of a variant.

  What its models don't have keeps our name, which no file of its has.

  Args:
    variant: variant `coatnet_*_keras_cv`, of any sizes.
  """
  blocks = _number_blocks(variant)

  def name_of(path: str) -> names.Tensor:
    _, *modules, leaf = path.split('/')
    if modules[0] in blocks:
      kind, prefix = blocks[modules[0]]
      part = '/'.join(modules[1:])
      layer = f'{prefix}_{_PARTS.get(kind, {}).get(part, part)}'
    else:
      layer = _MODULES.get(modules[0], modules[0])
    return names.Tensor(
      f'{layer}/{_name_weight(modules[-1], leaf)}', _layout(modules, leaf)
    )

  return name_of


def _number_blocks(variant: Variant) -> dict[str, tuple[str, str]]:
  """Returns the kind and the name there of each block of ours."""
  blocks = {}
  stack = position = 0
  for number in range(1, len(variant.stages) + 1):
    for name, group, first in variant.list_blocks(number):
      # A stack is of one kind: S3 of CoAtNet-6 and -7 is two.
      stack, position = (stack + 1, 1) if first else (stack, position + 1)
      blocks[name] = group.kind, f'stack_{stack}_block_{position}'
  return blocks


def _name_weight(module: str, leaf: str) -> str:
  if module == 'depthwise' and leaf == 'kernel':
    return 'depthwise_kernel'
  if module.endswith('norm') and leaf == 'bias':
    return 'beta'
  return _LEAVES.get(leaf, leaf)


def _layout(modules: list[str], leaf: str) -> names.Layout:
  if leaf == 'relative_position_bias_table':
    return _SQUARE_TABLE
  if leaf != 'kernel' or modules[0].startswith(('s0_conv', 'head_')):
    return names.same()
  if modules[-1] == 'depthwise':
    return names.transposed(0, 1, 3, 2)  # [3, 3, C, 1]
  if modules[-1] == 'qkv':
    return _QKV_KERNEL
  # The attention's output is a product there, all else a convolution.
  return names.same() if modules[-1] == 'out' else _POINTWISE


def _pointwise_to_ours(theirs, _):
  if theirs.ndim != 4 or theirs.shape[:2] != (1, 1):
    raise ValueError
  return theirs[0, 0]


def _qkv_kernel_to_ours(theirs, shape):
  # Queries, keys, values; each head by head.
  if theirs.shape != (1, 1, shape[0], math.prod(shape[1:])):
    raise ValueError
  return theirs.reshape(shape)


def _qkv_kernel_to_theirs(ours):
  return ours.reshape(1, 1, ours.shape[0], -1)


def _square_table_to_ours(theirs, shape):
  # On other grids it numbers queries and keys by columns, what they are
  # computed from by rows. So a file is of a square grid, whatever ours is.
  if theirs.ndim != 2:
    raise ValueError
  side = math.isqrt(theirs.shape[1])
  return _TABLE.to_ours(theirs, (shape[0], side, side))


_POINTWISE = names.Layout(_pointwise_to_ours, lambda ours: ours[None, None])
_QKV_KERNEL = names.Layout(_qkv_kernel_to_ours, _qkv_kernel_to_theirs)
_TABLE = names.bias_table(heads_last=False)
_SQUARE_TABLE = names.Layout(_square_table_to_ours, _TABLE.to_theirs)
