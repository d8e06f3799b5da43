"""Our own weights files: safetensors under the names of our variables.

The file says itself what model it is of: its metadata hold the arguments of
`create_model` as JSON.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from coatnet_jax.weights import names

# In the metadata: the arguments of `create_model`.
MODEL_KEY = 'coatnet_jax_model'
# Is in every file.
MARK = 'params/s0_conv_0/kernel'


def naming(path: str) -> names.Tensor:
  """Returns a variable's own name."""
  return names.Tensor(path, names.same())


def write_tensors(
  path: str | pathlib.Path,
  tensors: Mapping[str, np.ndarray],
  model: Mapping[str, Any],
) -> None:
  """Writes a safetensors file.

  Args:
    path: of the file.
    tensors: by the names they have in the file.
    model: arguments of `create_model`.
  """
  metadata = {MODEL_KEY: json.dumps(dict(model)), 'format': 'pt'}
  save_file(dict(tensors), path, metadata=metadata)
