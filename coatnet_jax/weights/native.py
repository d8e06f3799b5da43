"""Our own weights files: safetensors under the names of our variables.

A file that this project writes, under timm's names too, says itself what it is
of: its metadata hold a `Description` as JSON.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from coatnet_jax.errors import UserError
from coatnet_jax.strict_json import to_json
from coatnet_jax.texts import printable
from coatnet_jax.weights import names
from coatnet_jax.weights.files import WeightsFile

# Is in every file under our names.
MARK = 'params/s0_conv_0/kernel'
_METADATA_KEY = 'coatnet_jax'
# What a file says of model and preprocessing takes 500 characters.
_MAX_LENGTH = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
  """What a file's weights are of, as JSON values.

  Attributes:
    model: arguments of `create_model`, by their names.
    preprocessing: fields of `PreprocessingOptions`, by their names.
    class_names: name of each class.
  """

  model: Mapping[str, Any]
  preprocessing: Mapping[str, Any]
  class_names: tuple[str, ...]


def naming(path: str) -> names.Tensor:
  """Returns a variable's own name."""
  return names.Tensor(path, names.same())


def write_tensors(
  path: pathlib.Path,
  tensors: Mapping[str, np.ndarray],
  description: Description,
) -> None:
  """Writes a safetensors file.

  Args:
    path: path of the new file.
    tensors: arrays by the names they have in the file.
    description: description of the model.
  """
  text = to_json(dataclasses.asdict(description))
  # 'format' is what other readers of safetensors want to know.
  save_file(dict(tensors), path, metadata={_METADATA_KEY: text, 'format': 'pt'})


def read_description(weights: WeightsFile) -> Description | None:
  """Returns what a file says of its weights; None if it is not of ours.

  Whether there can be such a model is not looked at.

  Args:
    weights: content of the file.

  Raises:
    UserError: it is damaged.
  """
  if _METADATA_KEY not in weights.metadata:
    return None
  try:
    found = json.loads(weights.metadata[_METADATA_KEY])
    model, preprocessing = found['model'], found['preprocessing']
    class_names = found['class_names']
    if len(to_json([model, preprocessing])) > _MAX_LENGTH:
      raise ValueError(f'it is longer than {_MAX_LENGTH:,} characters')
    if not isinstance(model['name'], str) or not isinstance(
      model['num_classes'], int
    ):
      raise TypeError('the model has no name or number of classes')
    if not isinstance(preprocessing, dict):
      raise TypeError('the preprocessing is no object')
    preprocessing = {
      name: tuple(value) if isinstance(value, list) else value
      for name, value in preprocessing.items()
    }
    if not isinstance(class_names, list) or not all(
      isinstance(name, str) for name in class_names
    ):
      raise TypeError('the names of classes are no texts')
    if len(class_names) != model['num_classes']:
      raise ValueError('there are more or fewer names than classes')
  # Any JSON, or none.
  except (LookupError, RecursionError, TypeError, ValueError) as error:
    raise UserError(
      f'{weights.path} says of its model what cannot be read'
      f' ({printable(repr(error)[:200])}); it is damaged: export it again with'
      ' tools.export_weights, in a checkout of the project.'
    ) from error
  return Description(
    model=model, preprocessing=preprocessing, class_names=tuple(class_names)
  )
