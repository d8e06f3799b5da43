"""Weights files into the variables that `model.apply` takes."""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from coatnet_jax.errors import UserError
from coatnet_jax.models.architecture import Variant
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.tree_names import flatten
from coatnet_jax.weights import (
  adaptation,
  keras_cv,
  names,
  native,
  prefixes,
  timm,
)
from coatnet_jax.weights.files import WeightsFile, read_weights
from coatnet_jax.weights.hub import locate_weights
from coatnet_jax.weights.names import LOGITS

_FIRST_NAMES = 3
# At stride 16: those of 2,048 px.
_MAX_TOKENS = 2**14


def load_weights(
  model: nn.Module,
  path: str | pathlib.Path,
  *,
  image_size: tuple[int, int] | None = None,
  new_head: jax.Array | None = None,
  report: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Reads trained weights for a model: ours, timm's or keras_cv's.

      model = create_model('coatnet_0_rw_224', num_classes=1000)
      variables = load_weights(model, 'coatnet_0_rw_224.sw_in1k.safetensors')
      logits = model.apply(variables, images, train=False)

  Every tensor of the file is accounted for. Where the model has no head, or has
  `feature_maps`, tensors of what it does not have are left out. A prefix that
  the file's names have ('module.', 'model.backbone.') is found, and said.

  Args:
    model: model from `create_model`, of the variant that the file is of.
    path: path of a safetensors, PyTorch or Keras HDF5 file; which, its content
      tells. No file can run code. Or a name on the Hugging Face Hub, such as
      'timm/coatnet_0_rw_224.sw_in1k'; see `locate_weights`.
    image_size: (height, width) of images in pixels; the variant's own if None.
      Relative position tables of another size are resized.
    new_head: a `jax.random.key`: where the file's number of classes is not the
      model's, the logits' layer starts anew from it, and where the file has no
      logits' layer, what it lacks of the head does. None refuses such a file.
    report: function that is called with a sentence for each change.

  Returns:
    {'params', 'batch_stats'} of float32 arrays.

  Raises:
    UserError: the file cannot be used, or is of another model (all differences
      are listed).
  """
  return fit_variables(
    read_variables(model, read_weights(locate_weights(path)), report=report),
    model,
    image_size=image_size,
    new_head=new_head,
    report=report,
    source=str(path),
  )


def read_variables(
  model: nn.Module, weights: WeightsFile, *, report: Callable[[str], None]
) -> Any:
  """Takes the variables of a whole model from a file, in the file's sizes.

  Args:
    model: model of the file's variant, with any number of classes.
    weights: content of the file, from `read_weights`.
    report: function that is called with a sentence on each prefix found.

  Returns:
    {'params', 'batch_stats'} of arrays: those of the model with a head, which
    has the file's number of classes; relative position tables have its grids.
    Where the file has no 'head_logits', what it has of the head.

  Raises:
    UserError: the file is of another model; all differences are listed.
  """
  whole = model.clone(num_classes=model.num_classes or 1, feature_maps=())
  target = abstract_variables(whole, model.variant.image_size)
  source = str(weights.path)
  marks = [native.MARK]
  if isinstance(model.variant, Variant):
    marks += [timm.MARK, keras_cv.MARK]
  tensors, changes = prefixes.remove_wrappers(weights.tensors)
  mark, prefix = _find_model(tensors, marks, source)
  naming = find_naming(mark, model.variant)
  ignored = timm.IGNORED if mark == timm.MARK else ()
  head = {path: naming(path).name for path in flatten(target) if _is_head(path)}
  tensors, more = prefixes.strip_prefix(tensors, prefix, head.values())
  for change in [*changes, *more]:
    report(f'{source}: {change}.')
  if not any(
    name in tensors for path, name in head.items() if f'/{LOGITS}/' in path
  ):
    target = _without(target, [p for p in head if head[p] not in tensors])
  return names.to_variables(
    tensors, target, naming, source=source, ignored=ignored
  )


def check_size(model: nn.Module, weights: WeightsFile) -> None:
  """Checks a model that a file says it is of, before it is looked at.

  What a file says may be anything; a model of a million layers, or of a million
  tokens, takes hours and all memory before its shapes are known.

  Args:
    model: model as the file describes it.
    weights: content of the file.

  Raises:
    UserError: it has more layers than the file has tensors, or more tokens
      than a picture of 2,048 px gives.
  """
  variant = model.variant
  if isinstance(variant, Variant):
    layers = len(variant.stem.widths) + variant.num_blocks
    strides = variant.attention_strides
  else:
    layers = len(variant.stem_widths) + variant.depth
    strides = (variant.total_stride,)
  tokens = math.prod(variant.image_size) // min(strides, default=2**20) ** 2
  if layers > len(weights.tensors) or tokens > _MAX_TOKENS:
    height, width = variant.image_size
    raise UserError(
      f'{weights.path} says that it is of a model with {layers:,} layers, of'
      f' {tokens:,} tokens at {height}x{width} px; a file of'
      f' {len(weights.tensors):,} tensors has no more layers, and models have'
      f' at most {_MAX_TOKENS:,} tokens. It is damaged: export it again.'
    )


def fit_variables(
  variables: Any,
  model: nn.Module,
  *,
  image_size: tuple[int, int] | None,
  new_head: jax.Array | None,
  report: Callable[[str], None],
  source: str,
) -> dict[str, Any]:
  """Makes the variables of a file those of a model; see `load_weights`.

  Args:
    variables: variables of the file, from `read_variables`.
    model: model that they are for.
    image_size: (height, width) in pixels to use the model at, or None.
    new_head: key of a newly initialised head, or None to keep the head.
    report: function called with a sentence for each change.
    source: name of the file in an error.
  """
  own_size = model.variant.image_size
  target = abstract_variables(model, image_size or own_size)
  head = None
  if new_head is not None:
    head = adaptation.initialize_head(model, image_size or own_size, new_head)
  if LOGITS in target['params'] and count_classes(variables) is None:
    if new_head is None:
      raise UserError(
        f'{source} has no head: no {LOGITS} for the'
        f' {model.num_classes:,} classes of the model. Ask for a new head, to'
        ' be trained (new_head=jax.random.key(0)), or for none'
        ' (num_classes=0), which gives pooled features.'
      )
    variables = adaptation.complete_head(variables, head)
    report(
      f'{source}: has no head; the head for {model.num_classes:,} classes is'
      ' newly initialised.'
    )
  # What a model without a head, or of the first stages only, does not have.
  variables = _select(variables, target)
  if image_size is None:
    _check_grids(variables, target, own_size, source)
  variables, changes = adaptation.adapt_variables(
    variables,
    target,
    new_head=head and head['params'].get(LOGITS),
    source=source,
  )
  for change in changes:
    report(f'{source}: {change}.')
  return variables


def count_classes(variables: Any) -> int | None:
  """Returns how many classes variables are for; None if they have no head."""
  if LOGITS not in variables['params']:
    return None
  return variables['params'][LOGITS]['kernel'].shape[-1]


def find_tensors(
  weights: WeightsFile, marks: Sequence[str]
) -> tuple[str, dict[str, np.ndarray]]:
  """Finds the tensors of the model in a file, whatever variant it is of.

  Args:
    weights: content of the file, from `read_weights`.
    marks: names of which every file of a model has one, without a prefix.

  Returns:
    The mark that was found, and the model's tensors without a prefix.

  Raises:
    UserError: the file has none of the marks, or several models.
  """
  tensors, _ = prefixes.remove_wrappers(weights.tensors)
  mark, prefix = _find_model(tensors, marks, str(weights.path))
  return mark, prefixes.strip_prefix(tensors, prefix, ())[0]


def find_naming(mark: str, variant: Any) -> names.Naming:
  """Returns how the tensors of a variant are named where a mark is.

  Args:
    mark: mark of what named the tensors: `timm.MARK`, say.
    variant: variant, or one that the file is perhaps of.
  """
  if mark == timm.MARK:
    return timm.naming(variant)
  if mark == keras_cv.MARK:
    return keras_cv.naming(variant)
  return native.naming


def _find_model(
  tensors: Mapping[str, Any], marks: Sequence[str], source: str
) -> tuple[str, str]:
  """Returns the mark of what named a file's tensors, and its prefix."""
  found = prefixes.find_prefix(tensors, marks, source=source)
  if found is not None:
    return found
  first = ', '.join(list(tensors)[:_FIRST_NAMES])
  raise UserError(
    f'{source} holds no weights for this model, of timm, keras_cv or this'
    f' project: none of its {len(tensors):,} tensors'
    + f' ({first}, ...)' * bool(first)
    + " is the model's first convolution."
  )


def _is_head(path: str) -> bool:
  return path.split('/')[1].startswith('head_')


def _without(target: Any, paths: list[str]) -> Any:
  """Returns a tree of variables without some of the head's modules."""
  modules = {path.split('/')[1] for path in paths}
  return {
    name: {
      module: leaf for module, leaf in tree.items() if module not in modules
    }
    for name, tree in target.items()
  }


def _select(variables: Any, target: Any) -> Any:
  """Returns of a tree the branches that another one has."""
  if not isinstance(target, Mapping):
    return variables
  return {
    name: _select(variables[name], target[name])
    for name in variables
    if name in target
  }


def _check_grids(
  variables: Any, target: Any, image_size: tuple[int, int], source: str
) -> None:
  """Raises UserError for tables of another image size, which nobody chose."""
  expected = flatten(target)
  for name, leaf in flatten(variables).items():
    if name.endswith(names.TABLE) and leaf.shape != expected[name].shape:
      raise UserError(
        f'{source} is not for images of {image_size[0]}x{image_size[1]} px, the'
        ' size that its variant is for: say with image_size which one you want,'
        ' and its relative position tables are resized to it.'
      )
