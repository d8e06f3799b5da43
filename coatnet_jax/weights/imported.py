"""Weights from elsewhere with what belongs to them: model, classes, pictures.

    imported = open_weights('coatnet_0_rw_224.sw_in1k.safetensors')
    imported.model_arguments, imported.preprocessing['mean']

What a run starts from (`config.init_from`) and `tools.import_timm` share.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn

from coatnet_jax.errors import UserError
from coatnet_jax.imagenet_classes import list_class_names
from coatnet_jax.models.factory import create_model
from coatnet_jax.texts import printable
from coatnet_jax.tree_names import flatten
from coatnet_jax.weights import names
from coatnet_jax.weights.files import read_weights
from coatnet_jax.weights.hub import locate_weights
from coatnet_jax.weights.identification import check_variant, find_variant
from coatnet_jax.weights.loading import (
  check_size,
  count_classes,
  read_variables,
)
from coatnet_jax.weights.native import Description, read_description
from coatnet_jax.weights.published import (
  PublishedWeights,
  list_published_weights,
)

# For timm's variants without published weights.
_TIMM_PREPROCESSING = {
  'mean': (0.5, 0.5, 0.5),
  'std': (0.5, 0.5, 0.5),
  'eval_crop_fraction': 0.95,
  'eval_resize': 'timm',
  'interpolation': 'bicubic',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportedWeights:
  """The weights of a file, and what is known of them.

  Attributes:
    path: path of the file.
    model: module with a head for `num_classes`.
    model_arguments: arguments of `create_model` but the number of classes.
    variables: {'params', 'batch_stats'} of arrays in the file's sizes; where
      the file has no logits' layer, what it has of the head.
    num_classes: number of classes of the head; None where there is none.
    class_names: name of each class: those that the file says, ImageNet's for
      their numbers of classes, or else numbers; () where there is no head.
    preprocessing: fields of `PreprocessingOptions`, as the file says or as the
      weights that are published as such; `image_size` is that of its position
      tables.
    origin: words for where `preprocessing` is from.
    is_described: whether the file says itself what it is of.
  """

  path: pathlib.Path
  model: nn.Module
  model_arguments: dict[str, Any]
  variables: Any
  num_classes: int | None
  class_names: tuple[str, ...]
  preprocessing: dict[str, Any]
  origin: str
  is_described: bool

  @property
  def name(self) -> str:
    """The name of the variant."""
    return self.model_arguments['name']


def open_weights(
  path: str | os.PathLike[str],
  name: str | None = None,
  *,
  report: Callable[[str], None],
) -> ImportedWeights:
  """Reads a file of weights of ours, timm's or keras_cv's.

  Args:
    path: path of a file, as `read_weights` takes it, or a name on the Hugging
      Face Hub, as `locate_weights` does.
    name: name of the variant; None to find it by the file's names and shapes.
    report: function that is called with a sentence on each prefix found.

  Raises:
    UserError: the file cannot be used, is of another variant than that of the
      name, or it cannot be told which one it is of.
  """
  weights = read_weights(locate_weights(path))
  description = read_description(weights)
  if description is not None:
    check_variant(
      name or description.model['name'],
      description.model['name'],
      weights.path,
    )
    arguments = dict(description.model)
    del arguments['num_classes']
  else:
    arguments = {'name': name or find_variant(weights)}
  with named_as_source(weights.path, description is not None):
    whole = create_model(**arguments)
  if description is not None:
    check_size(whole, weights)
  variables = read_variables(whole, weights, report=report)
  num_classes = count_classes(variables)
  preprocessing, origin = _find_preprocessing(
    whole, arguments['name'], variables, path, description
  )
  return ImportedWeights(
    path=weights.path,
    model=whole.clone(num_classes=num_classes or 0),
    model_arguments=arguments,
    variables=variables,
    num_classes=num_classes,
    class_names=_find_class_names(num_classes, description),
    preprocessing=preprocessing,
    origin=origin,
    is_described=description is not None,
  )


@contextlib.contextmanager
def named_as_source(path: pathlib.Path, is_described: bool) -> Iterator[None]:
  """Names a file in the error of what it says of its model.

  Args:
    path: path of the file.
    is_described: whether it says anything; errors stay as they are if not.
  """
  try:
    yield
  except (TypeError, ValueError, LookupError, ArithmeticError) as error:
    if not is_described:
      raise
    raise UserError(
      f'{path} says of its model what cannot be: {printable(str(error))} It is'
      ' damaged, or of another version: export it again.'
    ) from error


def find_file_size(model: nn.Module, variables: Any) -> tuple[int, int]:
  """Returns the image size in pixels that position tables are for.

  Args:
    model: model of the variables.
    variables: {'params', 'batch_stats'} with tables of the file's grids.

  Returns:
    (height, width); the variant's own where nothing tells, as where positions
    are computed by an MLP.
  """
  for path, leaf in flatten(variables).items():
    if path.endswith(f'/{names.TABLE}'):
      # A table of 2n - 1 offsets is of n positions; blocks are 's3_block_0'.
      stride = model.variant.strides[int(path.split('/')[1][1])]
      return tuple((side + 1) // 2 * stride for side in leaf.shape[1:])
  return model.variant.image_size


def _find_preprocessing(
  model: nn.Module,
  name: str,
  variables: Any,
  path: str | os.PathLike[str],
  description: Description | None,
) -> tuple[dict[str, Any], str]:
  """Returns what pictures go through, and where that is from, in words."""
  size = find_file_size(model, variables)
  if description is not None:
    return {'image_size': size, **description.preprocessing}, 'as the file says'
  published = find_published(name, size, count_classes(variables), path)
  if published is not None:
    known = published.preprocessing
    origin = f'as of the published {published.tag}: the file does not say'
  else:
    known = _TIMM_PREPROCESSING
    origin = "assumed, as timm's usual: the file does not say"
  return {**known, 'image_size': size}, origin


def find_published(
  name: str,
  image_size: tuple[int, int],
  num_classes: int | None,
  path: str | os.PathLike[str] = '',
) -> PublishedWeights | None:
  """Returns the published weights that a file is most like, if any are.

  Args:
    name: name of the variant.
    image_size: (height, width) in pixels that the file is for.
    num_classes: number of the file's classes, or None.
    path: path of the file, which may have their tag in it.
  """
  return max(
    list_published_weights(name),
    key=lambda weights: (
      weights.tag in os.fspath(path),
      weights.image_size == image_size,
      weights.num_classes == num_classes,
    ),
    default=None,
  )


def _find_class_names(
  num_classes: int | None, description: Description | None
) -> tuple[str, ...]:
  """Returns a name for each class that the head has."""
  if num_classes is None:
    return ()
  if description is None:
    return list_class_names(num_classes)
  if len(description.class_names) != num_classes:
    raise UserError(
      f'The weights have {num_classes:,} classes, and the file has names for'
      f' {len(description.class_names):,}; it is damaged: export it again.'
    )
  return tuple(description.class_names)
