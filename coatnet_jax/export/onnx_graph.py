"""The nodes of an ONNX graph; `translation.py` says which."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from coatnet_jax.export.translation import Backend, Padding, Places

# What every operation below has had its form since; IR that all runtimes read.
_OPSET = 18
_IR_VERSION = 9

_UNARY = {
  'abs': 'Abs',
  'erf': 'Erf',
  'exp': 'Exp',
  'log': 'Log',
  'logistic': 'Sigmoid',
  'neg': 'Neg',
  'sign': 'Sign',
  'sqrt': 'Sqrt',
  'tanh': 'Tanh',
}
_BINARY = {
  'add': 'Add',
  'div': 'Div',
  'max': 'Max',
  'min': 'Min',
  'mul': 'Mul',
  'pow': 'Pow',
  'sub': 'Sub',
}


class OnnxBackend(Backend):
  """Collects nodes and arrays; tensors are their names."""

  def __init__(self, images: str):
    """Starts an empty graph.

    Args:
      images: name of the images, whose first axis is the batch.
    """
    self._images = images
    self._nodes: list[onnx.NodeProto] = []
    self._arrays: list[onnx.TensorProto] = []
    self._names: dict[Any, str] = {}

  def make_model(self, result: str, **shapes: Any) -> onnx.ModelProto:
    """Returns the model of all nodes so far.

    Args:
      result: name of the tensor that is the result.
      **shapes: shapes and dtypes: 'images', and 'logits', which the result is
        called.
    """
    self._nodes.append(helper.make_node('Identity', [result], ['logits']))
    images, logits = (
      helper.make_tensor_value_info(
        name,
        helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype)),
        [size if isinstance(size, int) else 'batch' for size in value.shape],
      )
      for name, value in shapes.items()
    )
    graph = helper.make_graph(
      self._nodes, 'coatnet', [images], [logits], self._arrays
    )
    return helper.make_model(
      graph,
      opset_imports=[helper.make_opsetid('', _OPSET)],
      ir_version=_IR_VERSION,
    )

  def _add(self, kind: str, *inputs: str, **attributes: Any) -> str:
    name = f'{kind.lower()}_{len(self._nodes)}'
    self._nodes.append(
      helper.make_node(kind, list(inputs), [name], name=name, **attributes)
    )
    return name

  def constant(self, array: np.ndarray) -> str:
    """Returns the name of an array [...], which the graph has once."""
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    digest = hashlib.sha256(array.tobytes()).digest()
    key = (array.dtype.str, array.shape, digest)
    if key not in self._names:
      self._names[key] = f'array_{len(self._arrays)}'
      self._arrays.append(numpy_helper.from_array(array, self._names[key]))
    return self._names[key]

  def _integers(self, values: Sequence[int]) -> str:
    return self.constant(np.asarray(values, np.int64))

  def unary(self, name: str, x: str) -> str:
    """See `Backend`."""
    if name == 'rsqrt':
      return self._add('Reciprocal', self._add('Sqrt', x))
    return self._add(_UNARY[name], x)

  def binary(self, name: str, x: str, y: str) -> str:
    """See `Backend`."""
    return self._add(_BINARY[name], x, y)

  def cast(self, x: str, dtype: np.dtype) -> str:
    """See `Backend`."""
    return self._add('Cast', x, to=helper.np_dtype_to_tensor_dtype(dtype))

  def reshape(self, x: str, shape: Sequence[int]) -> str:
    """See `Backend`."""
    return self._add('Reshape', x, self._integers(shape))

  def transpose(self, x: str, axes: Sequence[int]) -> str:
    """See `Backend`."""
    return self._add('Transpose', x, perm=list(axes))

  def expand(self, x: str, shape: Sequence[int]) -> str:
    """See `Backend`."""
    if -1 not in shape:
      return self._add('Expand', x, self._integers(shape))
    batch = self._add('Shape', self._images, start=0, end=1)
    parts = [batch if size == -1 else self._integers([size]) for size in shape]
    return self._add('Expand', x, self._add('Concat', *parts, axis=0))

  def reduce(self, name: str, x: str, axes: Sequence[int]) -> str:
    """See `Backend`."""
    kind = {'reduce_max': 'ReduceMax', 'reduce_sum': 'ReduceSum'}[name]
    return self._add(kind, x, self._integers(axes), keepdims=0)

  def matmul(self, x: str, y: str) -> str:
    """See `Backend`."""
    return self._add('MatMul', x, y)

  def einsum(self, formula: str, x: str, y: str) -> str:
    """See `Backend`."""
    return self._add('Einsum', x, y, equation=formula)

  def concatenate(self, tensors: Sequence[str], axis: int) -> str:
    """See `Backend`."""
    return self._add('Concat', *tensors, axis=axis)

  def slice(self, x: str, parts: Sequence[slice]) -> str:
    """See `Backend`."""
    end = np.iinfo(np.int64).max
    numbers = [
      (part.start, end if part.stop is None else part.stop, axis, part.step)
      for axis, part in enumerate(parts)
    ]
    return self._add('Slice', x, *map(self._integers, zip(*numbers)))

  def pad(self, x: str, padding: Padding, value: float) -> str:
    """See `Backend`."""
    amounts = _join(padding)
    fill = self.constant(np.asarray(value, np.float32))
    return self._add('Pad', x, self._integers(amounts), fill)

  def convolve(
    self, x: str, kernel: np.ndarray, places: Places, groups: int
  ) -> str:
    """Convolves [B, H, W, C]; see `Backend`."""
    kernel = kernel.transpose(3, 2, 0, 1)  # [D, C / groups, kh, kw]
    x = self._add(
      'Conv',
      self.transpose(x, (0, 3, 1, 2)),
      self.constant(kernel),
      strides=list(places.strides),
      pads=_join(places.padding),
      group=groups,
    )
    return self.transpose(x, (0, 2, 3, 1))

  def max_pool(self, x: str, window: Sequence[int], places: Places) -> str:
    """See `Backend`."""
    x = self._add(
      'MaxPool',
      self.transpose(x, (0, 3, 1, 2)),
      kernel_shape=list(window),
      strides=list(places.strides),
      pads=_join(places.padding),
    )
    return self.transpose(x, (0, 2, 3, 1))


def _join(padding: Padding) -> list[int]:
  """Returns padding as ONNX has it: all befores, then all afters."""
  return [low for low, _ in padding] + [high for _, high in padding]
