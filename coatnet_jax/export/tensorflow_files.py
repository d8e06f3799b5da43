"""SavedModels, and the TFLite files that LiteRT reads."""

import pathlib
import zipfile
from typing import Any

import tensorflow as tf

from coatnet_jax.errors import UserError, cite_line
from coatnet_jax.export import program
from coatnet_jax.export.description import describe, list_files
from coatnet_jax.export.formats import Request
from coatnet_jax.export.tensorflow_graph import TensorFlowBackend
from coatnet_jax.export.translation import translate

# Where TensorFlow leaves room for other programs' files.
EXTRA_DIRECTORY = 'assets.extra'
# Elements from which on an array is a variable, not in the graph itself.
_LARGE = 1024


def write_saved_model(request: Request, path: pathlib.Path) -> None:
  """Writes a SavedModel; its signature takes `images` and returns `logits`.

  Args:
    request: model, and how it is exported.
    path: path of the new directory.
  """
  module, function = _create_module(request)
  tf.saved_model.save(module, str(path), signatures=function)
  extra = path / EXTRA_DIRECTORY
  extra.mkdir()
  for name, text in _list_files(request).items():
    (extra / name).write_text(text, encoding='utf-8')


def write_tflite(request: Request, path: pathlib.Path) -> None:
  """Writes a TFLite file, and its description as an archive at its end.

  Args:
    request: model, and how it is exported.
    path: path of the new file.

  Raises:
    UserError: the converter does not take the model.
  """
  module, function = _create_module(request)
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [function], module
  )
  if request.precision == 'float16':
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
  elif request.precision == 'int8':
    samples = request.find_samples()
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
      [image[None]] for image in samples
    )
  try:
    content = converter.convert()
  except Exception as error:  # Of many kinds, with the whole program as text.
    raise UserError(
      "TensorFlow's converter does not take this model as TFLite"
      f' ({cite_line(str(error))}): give --format=onnx.'
    ) from error
  path.write_bytes(content)
  # As TensorFlow's own metadata: what reads the model stops before it.
  with zipfile.ZipFile(path, 'a') as archive:
    for name, text in _list_files(request).items():
      archive.writestr(name, text)


def _list_files(request: Request) -> dict[str, str]:
  description = describe(
    request.trained,
    with_preprocessing=request.with_preprocessing,
    precision=request.precision,
  )
  return list_files(description)


def _create_module(request: Request) -> tuple[tf.Module, Any]:
  """Returns a module that holds the variables, and its function of images."""
  images = program.describe_images(
    request.trained, with_preprocessing=request.with_preprocessing
  )
  closed = program.trace_plainly(
    program.create_function(
      request.trained, with_preprocessing=request.with_preprocessing
    ),
    images,
  )
  module = tf.Module()
  variables = {
    id(array): tf.Variable(array, trainable=False)
    for array in closed.consts
    if array.size > _LARGE
  }
  module.parameters = list(variables.values())

  @tf.function(
    autograph=False,
    input_signature=[
      tf.TensorSpec((None, *images.shape[1:]), images.dtype.name, name='images')
    ],
  )
  def compute_logits(images):
    backend = TensorFlowBackend(images, variables)
    return {'logits': translate(closed, backend, images)}

  return module, compute_logits.get_concrete_function()
