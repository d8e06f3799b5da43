"""The names and layouts of timm's CoAtNets, as in its state dicts."""

import dataclasses
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from coatnet_jax.models import timm_variants
from coatnet_jax.models.architecture import Variant
from coatnet_jax.weights import names

# Endings of what a state dict holds beside variables: a counter, and in old
# files what is computed from the grid.
IGNORED = (
  '.num_batches_tracked',
  '.relative_position_index',
  '.rel_coords_log',
)
# Is in every one of its state dicts.
MARK = 'stem.conv1.weight'

_LEAVES = types.MappingProxyType(
  {
    'kernel': 'weight',
    'scale': 'weight',
    'bias': 'bias',
    'mean': 'running_mean',
    'var': 'running_var',
  }
)
_MODULES = types.MappingProxyType(
  {
    's0_conv_0': 'stem.conv1',
    's0_norm': 'stem.norm1',
    's0_conv_1': 'stem.conv2',
    'head_pre_logits': 'head.pre_logits.fc',
    'head_logits': 'head.fc',
  }
)
# Kind of block -> part of ours -> part of timm's.
_PARTS: Mapping[str, Mapping[str, str]] = types.MappingProxyType(
  {
    'mbconv': {
      'shortcut/project': 'shortcut.expand',
      'pre_norm': 'pre_norm',
      'expand': 'conv1_1x1',
      'expand_norm': 'norm1',
      'depthwise': 'conv2_kxk',
      'depthwise_norm': 'norm2',
      'shrink': 'conv3_1x1',
    },
    'transformer': {
      'shortcut/project': 'shortcut.expand',
      'attention/qkv': 'attn.qkv',
      'attention/out': 'attn.proj',
      'attention/relative_position_mlp/hidden': 'attn.rel_pos.mlp.fc1',
      'attention/relative_position_mlp/out': 'attn.rel_pos.mlp.fc2',
      'attention_layer_scale': 'ls1',
      'ffn_norm': 'norm2',
      'ffn_expand': 'mlp.fc1',
      'ffn_shrink': 'mlp.fc2',
      'ffn_layer_scale': 'ls2',
    },
    'convnext': {
      'shortcut/project': 'shortcut.expand',
      'depthwise': 'conv_dw',
      'norm': 'norm',
      'ffn_expand': 'mlp.fc1',
      'ffn_shrink': 'mlp.fc2',
      'layer_scale': 'ls',
    },
  }
)


def naming(variant: Variant) -> names.Naming:
  """Returns timm's names for the variables of a variant.

  What timm's models don't have keeps our name, which no file of its has.
  """
  kinds = {
    name: group.kind
    for number in range(1, len(variant.stages) + 1)
    for name, group, _ in variant.list_blocks(number)
  }

  def name_of(path: str) -> names.Tensor:
    _, *modules, leaf = path.split('/')
    block = modules[0]
    if block in kinds:
      prefix = block.replace('s', 'stages.', 1).replace('_block_', '.blocks.')
      # Our stages are counted from the stem on.
      stage, rest = prefix.removeprefix('stages.').split('.', 1)
      prefix = f'stages.{int(stage) - 1}.{rest}'
      module = f'{prefix}.{_part(variant, kinds[block], block, modules[1:])}'
    elif block == 'head_norm':
      module = 'norm' if variant.head.norm_before_pool else 'head.norm'
    else:
      module = _MODULES.get(block, block)
    if leaf == names.TABLE:
      name = f'{module}.rel_pos.{names.TABLE}'
    else:
      name = f'{module}.{_LEAVES.get(leaf, leaf)}'
    return names.Tensor(name, _layout(modules, leaf))

  return name_of


def _part(variant, kind, block, modules):
  """Returns timm's name of a part of a block."""
  part = '/'.join(modules)
  if part in ('se/squeeze', 'se/excite'):
    early = variant.mbconv.se_position == 'before_norm'
    layer = {'se/squeeze': 'fc1', 'se/excite': 'fc2'}[part]
    return f'{"se_early" if early else "se"}.{layer}'
  if part == 'attention_norm':
    # Where a block strides, timm's norm is in a sequence with the pooling.
    return 'norm1.norm' if block.endswith('_block_0') else 'norm1'
  if part == 'attention':
    return 'attn'
  return _PARTS[kind].get(part, part)


def _layout(modules, leaf):
  if leaf == names.TABLE:
    return names.bias_table(heads_last=True)
  if modules[-1] == 'qkv':
    return _QKV_KERNEL if leaf == 'kernel' else _QKV_BIAS
  if leaf != 'kernel':
    return names.same()
  if modules[-1] == 'depthwise' or modules[-1].startswith('s0_conv'):
    return names.transposed(3, 2, 0, 1)  # [O, I, kh, kw]
  if modules[0].startswith('head_') or 'relative_position_mlp' in modules:
    return names.transposed(1, 0)  # [O, I]
  return _POINTWISE


def _pointwise_to_ours(theirs, _):
  # A convolution [O, I, 1, 1], or a product [O, I].
  if theirs.ndim not in (2, 4) or theirs.shape[2:] not in ((), (1, 1)):
    raise ValueError
  return theirs.reshape(theirs.shape[:2]).T


def _qkv_to_ours(theirs, shape):
  *inputs, _, heads, head_dim = shape
  # Head by head: queries, keys, values.
  theirs = theirs.reshape(heads, 3, head_dim, *inputs)
  return np.moveaxis(theirs, (0, 1, 2), (-2, -3, -1))


def _qkv_kernel_to_theirs(ours):
  inputs, _, heads, head_dim = ours.shape
  rows = ours.transpose(2, 1, 3, 0)  # [heads, 3, head_dim, C]
  return rows.reshape(heads * 3 * head_dim, inputs, 1, 1)


_POINTWISE = names.Layout(
  _pointwise_to_ours, lambda ours: ours.T[:, :, None, None]
)
_QKV_KERNEL = names.Layout(_qkv_to_ours, _qkv_kernel_to_theirs)
_QKV_BIAS = names.Layout(
  _qkv_to_ours, lambda ours: ours.transpose(1, 0, 2).reshape(-1)
)


def to_state_dict(variables: Any, variant: Variant) -> dict[str, np.ndarray]:
  """Returns timm's state dict of our variables, by its names.

  Args:
    variables: {'params', 'batch_stats'} of a variant that timm has.
    variant: variant that the variables are of.
  """
  tensors = names.to_tensors(variables, naming(variant))
  # PyTorch counts the batches of each BatchNorm; nothing here depends on it.
  for name in list(tensors):
    if name.endswith('.running_var'):
      counter = name.replace('.running_var', '.num_batches_tracked')
      tensors[counter] = np.zeros((), np.int64)
  return tensors


def explain_difference(name: str, variant: Any) -> str:
  """Returns why timm has no such model, for within a sentence; '' if it has.

  At any image size: timm's models take one as an argument.

  >>> from coatnet_jax.models.variants import get_variant
  >>> explain_difference('coatnet_0', get_variant('coatnet_0'))
  'timm has no model called coatnet_0'

  Args:
    name: name of the variant.
    variant: variant itself, which may have other options than the name says.
  """
  known = timm_variants.VARIANTS.get(name)
  if known is None:
    return f'timm has no model called {name}'
  different = sorted(
    _list_differences(known, dataclasses.replace(variant, **_unseen(known)))
  )
  if not different:
    return ''
  return f"timm's {name} has another {', '.join(different)}"


def _unseen(known: Variant) -> dict[str, Any]:
  """Returns what a model of these weights may have otherwise: no results."""
  return {'image_size': known.image_size, 'kernel_init': known.kernel_init}


def _list_differences(known: Any, other: Any) -> Iterator[str]:
  """Yields the names of the options in which a model differs from timm's."""
  for field in dataclasses.fields(known):
    if field.name == 'relative_position_mlp_dropout':
      continue  # Of training alone.
    ours, theirs = (getattr(one, field.name) for one in (other, known))
    if dataclasses.is_dataclass(theirs) and type(ours) is type(theirs):
      for name in _list_differences(theirs, ours):
        yield f'{field.name}.{name}'
    elif ours != theirs:
      yield field.name
