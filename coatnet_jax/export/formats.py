"""The formats that a model is exported to: what each takes and needs."""

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.errors import UserError, explain_choice

PRECISIONS = ('float32', 'float16', 'int8')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
  """What is known of a format without any of its packages.

  Attributes:
    runtime: name of what reads it.
    precisions: precisions it can have, some of `PRECISIONS`.
    packages: modules that writing and checking it import, beyond those of
      requirements.txt.
    is_directory: whether it is a directory of files.
  """

  runtime: str
  precisions: tuple[str, ...]
  packages: tuple[str, ...] = ()
  is_directory: bool = False


FORMATS = {
  'stablehlo': Format(runtime='jax.export', precisions=('float32',)),
  'onnx': Format(
    runtime='ONNX Runtime',
    precisions=PRECISIONS,
    packages=('onnx', 'onnxruntime'),
  ),
  'savedmodel': Format(
    runtime='TensorFlow', precisions=('float32',), is_directory=True
  ),
  'tflite': Format(
    runtime='LiteRT', precisions=PRECISIONS, packages=('ai_edge_litert',)
  ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """What is to be exported.

  Attributes:
    trained: trained model, from `load_trained_model`.
    precision: precision of the file, one of `PRECISIONS`.
    with_preprocessing: whether the file takes uint8 images and normalises them.
    find_samples: function that returns images of the training data as the file
      takes them, [N, H, W, 3]; called for int8 alone.
  """

  trained: TrainedModel
  precision: str = 'float32'
  with_preprocessing: bool = False
  find_samples: Callable[[], np.ndarray]


def check_format(name: str, precision: str) -> Format:
  """Returns a format that can be written here, in a precision.

  Raises:
    UserError: the format or precision is not known, the format does not have
      the precision, or a package is missing.
  """
  if name not in FORMATS:
    raise UserError(explain_choice('--format', name, FORMATS))
  if precision not in PRECISIONS:
    raise UserError(explain_choice('--precision', precision, PRECISIONS))
  found = FORMATS[name]
  if precision not in found.precisions:
    others = ' and '.join(
      f for f in FORMATS if precision in FORMATS[f].precisions
    )
    raise UserError(
      f'--precision is {precision}; --format={name} is written in float32'
      f' alone: leave --precision out, or take one of the formats {others}.'
    )
  for package in found.packages:
    if importlib.util.find_spec(package) is None:
      raise UserError(
        f'--format={name} needs the package {package.replace("_", "-")}, which'
        ' is not installed here: `pip install -r requirements-export.txt`, in a'
        ' checkout of the project.'
      )
  return found


def find_writer(name: str) -> Callable[[Request, Any], None]:
  """Returns the function that writes a format, given a request and a path.

  Here, because each imports a framework.
  """
  if name == 'stablehlo':
    from coatnet_jax.export.stablehlo_file import write_stablehlo as write
  elif name == 'onnx':
    from coatnet_jax.export.onnx_file import write_onnx as write
  elif name == 'savedmodel':
    from coatnet_jax.export.tensorflow_files import write_saved_model as write
  else:
    from coatnet_jax.export.tensorflow_files import write_tflite as write
  return write
