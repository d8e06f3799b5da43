"""Weights files into the variables that `model.apply` takes."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.errors import UserError
from coatnet_jax.models.architecture import Variant
from coatnet_jax.weights import adaptation, keras_cv, names, native, timm
from coatnet_jax.weights.files import WeightsFile, read_weights

_FIRST_NAMES = 3


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

  Every tensor of the file is accounted for. Of a model without a head, or with
  `feature_maps`, what it does not have is left out.

  Args:
    model: from `create_model`, of the variant that the file is of.
    path: a safetensors file, a PyTorch file or a Keras HDF5 file, which is
      found out from its content. No file can run code.
    image_size: (height, width) of the images; the variant's own if None.
      Relative position tables of another are resized.
    new_head: a `jax.random.key`: where the file's number of classes is not the
      model's, the logits' layer starts anew from it. None refuses such a file.
    report: called with a sentence for each change.

  Returns:
    {'params', 'batch_stats'} of float32 arrays.

  Raises:
    UserError: the file cannot be used, or is of another model (all differences
      are listed).
  """
  return fit_variables(
    read_variables(model, read_weights(path)),
    model,
    image_size=image_size,
    new_head=new_head,
    report=report,
    source=str(path),
  )


def read_variables(model: nn.Module, weights: WeightsFile) -> Any:
  """Takes the variables of a whole model from a file, in the file's sizes.

  Args:
    model: of the variant that the file is of, with any number of classes.
    weights: from `read_weights`.

  Returns:
    {'params', 'batch_stats'} of arrays: those of the model with a head, which
    has the file's number of classes; relative position tables have its grids.

  Raises:
    UserError: the file is of another model; all differences are listed.
  """
  whole = model.clone(num_classes=model.num_classes or 1, feature_maps=())
  naming, ignored = _find_naming(weights, model)
  return names.to_variables(
    weights.tensors,
    abstract_variables(whole, model.variant.image_size),
    naming,
    source=str(weights.path),
    ignored=ignored,
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
    variables: from `read_variables`.
    model: that they are for.
    image_size: see `load_weights`.
    new_head: see `load_weights`.
    report: see `load_weights`.
    source: what the file is called in an error.
  """
  own_size = model.variant.image_size
  target = abstract_variables(model, image_size or own_size)
  # What a model without a head, or of the first stages only, does not have.
  variables = _select(variables, target)
  if image_size is None:
    _check_grids(variables, target, own_size, source)
  head = None
  if new_head is not None:
    head = adaptation.initialize_head(model, image_size or own_size, new_head)
  variables, changes = adaptation.adapt_variables(
    variables, target, new_head=head, source=source
  )
  for change in changes:
    report(f'{source}: {change}.')
  return variables


def abstract_variables(model: nn.Module, image_size: tuple[int, int]) -> Any:
  """Returns {'params', 'batch_stats'} of `jax.ShapeDtypeStruct`.

  Raises:
    UserError: the image size does not fit the model.
  """
  shape = (1, *image_size, model.variant.in_channels)
  variables = jax.eval_shape(
    functools.partial(model.init, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct(shape, jnp.float32),
  )
  # A model without BatchNorm has no statistics.
  return {'batch_stats': {}, **variables}


def _find_naming(
  weights: WeightsFile, model: nn.Module
) -> tuple[names.Naming, tuple[str, ...]]:
  """Returns how a file names its tensors, and endings that are no variables."""
  if native.MARK in weights.tensors:
    return native.naming, ()
  if isinstance(model.variant, Variant):
    if timm.MARK in weights.tensors:
      return timm.naming(model.variant), timm.IGNORED
    if keras_cv.MARK in weights.tensors:
      return keras_cv.naming(model.variant), ()
  first = ', '.join(list(weights.tensors)[:_FIRST_NAMES])
  raise UserError(
    f'{weights.path} holds no weights for this model, of timm, keras_cv or this'
    f' project: none of its {len(weights.tensors):,} tensors'
    + f' ({first}, ...)' * bool(first)
    + " is the model's first convolution."
  )


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
  expected = names.flatten(target)
  for name, leaf in names.flatten(variables).items():
    if name.endswith(names.TABLE) and leaf.shape != expected[name].shape:
      raise UserError(
        f'{source} is not for images of {image_size[0]}x{image_size[1]} px, the'
        ' size that its variant is for: say with image_size which one you want,'
        ' and its relative position tables are resized to it.'
      )
