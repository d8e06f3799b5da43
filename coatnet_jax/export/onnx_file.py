"""ONNX files, in float32, float16 and int8."""

import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization import shape_inference
from onnxruntime.transformers import float16
from onnxruntime.transformers.onnx_model import OnnxModel

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.errors import UserError
from coatnet_jax.export import program
from coatnet_jax.export.description import describe
from coatnet_jax.export.formats import Request
from coatnet_jax.export.onnx_graph import OnnxBackend
from coatnet_jax.export.translation import translate
from coatnet_jax.strict_json import to_json

# What a protocol buffer can have.
_MAX_BYTES = 2**31 - 1
# Products and convolutions; what is between them stays float32.
_QUANTIZED = ('Conv', 'Gemm', 'MatMul')


def write_onnx(request: Request, path: pathlib.Path) -> None:
  """Writes an ONNX file; input `images`, output `logits`.

  Args:
    request: model, and how it is exported.
    path: path of the new file.

  Raises:
    UserError: the model is larger than a file of ONNX can be.
  """
  model = convert_to_onnx(
    request.trained, with_preprocessing=request.with_preprocessing
  )
  if request.precision == 'float16':
    model = _convert_to_float16(model)
  elif request.precision == 'int8':
    model = _quantize(model, request.find_samples())
  description = describe(
    request.trained,
    with_preprocessing=request.with_preprocessing,
    precision=request.precision,
  )
  onnx.helper.set_model_props(
    model,
    {
      name: value if isinstance(value, str) else to_json(value)
      for name, value in description.items()
    },
  )
  model.producer_name = 'coatnet_jax'
  onnx.checker.check_model(model)
  onnx.save(model, path)


def convert_to_onnx(
  trained: TrainedModel, *, with_preprocessing: bool
) -> onnx.ModelProto:
  """Returns the model in float32, with a batch of any size.

  Args:
    trained: trained model, from `load_trained_model`.
    with_preprocessing: whether it takes uint8 images and normalises them.

  Raises:
    UserError: the model is larger than a file of ONNX can be.
  """
  function = program.create_function(
    trained, with_preprocessing=with_preprocessing
  )
  images = program.describe_images(
    trained, with_preprocessing=with_preprocessing
  )
  closed = program.trace_plainly(function, images)
  backend = OnnxBackend('images')
  result = translate(closed, backend, 'images')
  size = sum(np.asarray(array).nbytes for array in closed.consts)
  if size > _MAX_BYTES:
    raise UserError(
      f'The model has {size / 2**30:.1f} GiB of parameters; a file of ONNX has'
      ' at most 2 GiB: give --format=stablehlo.'
    )
  return backend.make_model(result, images=images, logits=closed.out_avals[0])


def _convert_to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
  """Returns the model with float16 inside, images and logits as they were."""
  converted = float16.convert_float_to_float16(model, keep_io_types=True)
  # It puts what converts behind all others, in no order that a checker takes.
  sorted_model = OnnxModel(converted)
  sorted_model.topological_sort()
  return sorted_model.model


class _Samples(quantization.CalibrationDataReader):
  """Gives images to what looks at the ranges of numbers."""

  def __init__(self, images: np.ndarray):
    """Takes images as the model takes them, [N, H, W, 3]."""
    self._batches: Iterator[np.ndarray] = iter(images[:, None])

  def get_next(self) -> dict[str, np.ndarray] | None:
    """Returns the next input, or None after the last."""
    batch = next(self._batches, None)
    return None if batch is None else {'images': batch}


def _quantize(model: onnx.ModelProto, samples: np.ndarray) -> onnx.ModelProto:
  """Returns the model with int8 weights and activations.

  Args:
    model: model in float32.
    samples: images, whose activations' ranges are used.
  """
  with tempfile.TemporaryDirectory() as directory:
    first = pathlib.Path(directory, 'float32.onnx')
    prepared = pathlib.Path(directory, 'prepared.onnx')
    quantized = pathlib.Path(directory, 'int8.onnx')
    onnx.save(model, first)
    # Symbolic shapes need another package, and are not needed.
    shape_inference.quant_pre_process(first, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
      prepared,
      quantized,
      _Samples(samples),
      op_types_to_quantize=list(_QUANTIZED),
      per_channel=True,
      weight_type=quantization.QuantType.QInt8,
      activation_type=quantization.QuantType.QUInt8,
    )
    return onnx.load(quantized)
