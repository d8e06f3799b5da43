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

from coatnet_jax.strict_json import to_json
from coatnet_jax.weights import names
from coatnet_jax.weights.files import WeightsFile

# Is in every file under our names.
MARK = 'params/s0_conv_0/kernel'
_METADATA_KEY = 'coatnet_jax'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
  """What a file's weights are of, as JSON values.

  Attributes:
    model: arguments of `create_model`.
    preprocessing: fields of `PreprocessingOptions`.
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
  """Returns what a file says of its weights; None if it is not of ours."""
  if _METADATA_KEY not in weights.metadata:
    return None
  found = json.loads(weights.metadata[_METADATA_KEY])
  return Description(
    model=found['model'],
    preprocessing={
      name: tuple(value) if isinstance(value, list) else value
      for name, value in found['preprocessing'].items()
    },
    class_names=tuple(found['class_names']),
  )
