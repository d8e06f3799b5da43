"""Weights files into the variables that `model.apply` takes."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from coatnet_jax.errors import UserError
from coatnet_jax.weights import adaptation, names, native, timm
from coatnet_jax.weights.files import read_weights

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
  path = pathlib.Path(path)
  own_size = image_size or model.variant.image_size
  target = abstract_variables(model, own_size)
  variables = read_variables(model, path)
  # What a model without a head, or of the first stages, does not have.
  variables = _select(variables, target)
  if image_size is None:
    _check_grids(variables, target, path, own_size)
  head = None
  if new_head is not None:
    head = adaptation.initialize_head(model, own_size, new_head)
  variables, changes = adaptation.adapt_variables(
    variables, target, new_head=head, source=str(path)
  )
  for change in changes:
    report(f'{path.name}: {change}.')
  return variables


def read_variables(model: nn.Module, path: str | pathlib.Path) -> Any:
  """Reads the variables of a whole model, in the sizes that the file has.

  Args:
    model: of the variant that the file is of, with any number of classes.
    path: see `load_weights`.

  Returns:
    {'params', 'batch_stats'} of arrays: those of the model with a head, which
    has the file's number of classes; relative position tables have its grids.

  Raises:
    UserError: as `load_weights`.
  """
  weights = read_weights(path)
  whole = model.clone(num_classes=model.num_classes or 1, feature_maps=())
  target = abstract_variables(whole, model.variant.image_size)
  naming, ignored = _find_naming(weights.tensors, model, path)
  return names.to_variables(
    weights.tensors, target, naming, source=str(path), ignored=ignored
  )


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
  return dict(variables)


def _find_naming(
  tensors: Mapping[str, np.ndarray], model: nn.Module, path: pathlib.Path
) -> tuple[names.Naming, tuple[str, ...]]:
  """Returns how a file names its tensors, and endings that are no variables."""
  if native.MARK in tensors:
    return native.naming, ()
  if timm.MARK in tensors:
    return timm.naming(model.variant), timm.IGNORED
  first = ', '.join(list(tensors)[:_FIRST_NAMES]) or 'none'
  raise UserError(
    f'{path} holds no CoAtNet of timm, keras_cv or this project: none of its'
    f' {len(tensors):,} tensors ({first}, ...) is the first convolution.'
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
  variables: Any, target: Any, path: pathlib.Path, image_size: tuple[int, int]
) -> None:
  """Raises UserError if tables are for another size than nobody chose."""
  expected = names.flatten(target)
  for name, leaf in names.flatten(variables).items():
    if name.endswith(names.TABLE) and leaf.shape != expected[name].shape:
      raise UserError(
        f'{path} is for another image size than {image_size[0]}x{image_size[1]}'
        ' px, which its variant is for: say which one with image_size, and its'
        ' relative position tables are resized.'
      )
