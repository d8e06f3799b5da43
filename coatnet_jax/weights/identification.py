"""Which variant a file of weights is of, by its names and shapes.

A file says its variant itself only where this project wrote it. Of others the
variants that could have such a stem and such blocks are made, without numbers,
and the one that every tensor of the file fits is it.
"""

import pathlib
from collections.abc import Mapping

import numpy as np

from coatnet_jax.errors import UserError
from coatnet_jax.models.architecture import BlockGroup, Variant
from coatnet_jax.models.factory import create_model
from coatnet_jax.models.keras_cv_variants import VARIANTS as KERAS_CV_VARIANTS
from coatnet_jax.models.timm_variants import VARIANTS as TIMM_VARIANTS
from coatnet_jax.models.variants import VARIANTS
from coatnet_jax.weights import keras_cv, loading, native, timm
from coatnet_jax.weights.files import WeightsFile
from coatnet_jax.weights.published import PUBLISHED_WEIGHTS

# Mark of what named the tensors -> names of the variants that it may be.
_CANDIDATES = {
  timm.MARK: tuple(TIMM_VARIANTS),
  keras_cv.MARK: tuple(KERAS_CV_VARIANTS),
}
# Where a user names the variant.
_CHOICE = (
  'config.model.name (for tools.import_timm, in a checkout of the project:'
  ' --variant)'
)
# A layer of every block of a kind, whose last axis is the block's width.
_LAST_LAYERS = {
  'mbconv': 'shrink',
  'transformer': 'ffn_shrink',
  'convnext': 'ffn_shrink',
}


def find_variant(weights: WeightsFile) -> str:
  """Returns the name of the variant that weights are of.

  Args:
    weights: content of the file, without a description of its own.

  Raises:
    UserError: the file holds no CoAtNet, one that is no variant, or one that
      several variants could be, which are listed.
  """
  source = str(weights.path)
  mark, tensors = loading.find_tensors(weights, [*_CANDIDATES, native.MARK])
  alike = [
    name
    for name in _CANDIDATES.get(mark, tuple(VARIANTS))
    if _has_blocks(tensors, VARIANTS[name], mark)
  ]
  # A file of more blocks has those of a variant of fewer too.
  most = max(map(_count_blocks, alike), default=0)
  alike = [name for name in alike if _count_blocks(name) == most]
  fitting = [name for name in alike if _fits(name, weights)]
  if len(fitting) > 1:
    fitting = _choose_by_file_name(weights.path, fitting)
  if len(fitting) == 1:
    return fitting[0]
  if fitting:
    raise UserError(
      f'{source} fits several variants, {", ".join(fitting)}: say which one'
      f' it is of by {_CHOICE}.'
    )
  nearest = f'; those most like it are {", ".join(alike)}' * bool(alike)
  raise UserError(
    f'{source} is of a CoAtNet that is none of the {len(VARIANTS)} variants'
    f' there are{nearest}: say by {_CHOICE} which one it was made from, and'
    ' what differs is listed.'
  )


def check_variant(name: str, found: str, path: pathlib.Path) -> None:
  """Raises UserError if a file says that it is of another variant.

  Those of another that has the same shapes would give wrong results.

  Args:
    name: name of the variant that it is to be of.
    found: name of the variant that the file says it is of.
    path: path of the file.
  """
  if found != name:
    raise UserError(
      f'{path} says that it is of {found}; give {found} by {_CHOICE}, or a'
      f' file of {name}.'
    )


def _has_blocks(
  tensors: Mapping[str, np.ndarray], variant: object, mark: str
) -> bool:
  """Returns whether a file has the stem and the blocks of a variant.

  Quick, and true of the variant that it is of; there may be others.
  """
  if not isinstance(variant, Variant):
    return mark == native.MARK
  naming = loading.find_naming(mark, variant)

  def find_width(path: str) -> int | None:
    tensor = naming(f'params/{path}/kernel')
    if tensor.name not in tensors:
      return None
    try:
      return tensor.layout.to_ours(tensors[tensor.name], ()).shape[-1]
    except ValueError:
      return None

  def has_block(name: str, group: BlockGroup) -> bool:
    return find_width(f'{name}/{_LAST_LAYERS[group.kind]}') == group.width

  return all(
    find_width(f's0_conv_{index}') == width
    for index, width in enumerate(variant.stem.widths)
  ) and all(
    has_block(name, group)
    for number in range(1, len(variant.stages) + 1)
    for name, group, _ in variant.list_blocks(number)
  )


def _count_blocks(name: str) -> int:
  """Returns how many blocks a variant has; 0 of what is no CoAtNet."""
  variant = VARIANTS[name]
  return variant.num_blocks if isinstance(variant, Variant) else 0


def _fits(name: str, weights: WeightsFile) -> bool:
  """Returns whether every tensor of a file is one of a variant's."""
  # Changes no shape, and is traced the soonest.
  is_coatnet = isinstance(VARIANTS[name], Variant)
  model = create_model(name, **{'attention': 'reference'} if is_coatnet else {})
  try:
    loading.read_variables(model, weights, report=lambda change: None)
  except UserError:
    return False
  return True


def _choose_by_file_name(path: pathlib.Path, fitting: list[str]) -> list[str]:
  """Returns of several variants those that a file is called by."""
  named = [
    weights.variant for weights in PUBLISHED_WEIGHTS if weights.tag in str(path)
  ]
  named += [name for name in fitting if name in path.name.split('.')]
  return [name for name in fitting if name in named] or fitting
