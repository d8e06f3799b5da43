"""TensorFlow's own operations; `translation.py` says which.

None of them is a call of XLA, so that what is saved runs wherever TensorFlow
does, and its converter makes LiteRT's operations of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from coatnet_jax.export.translation import Backend, Padding, Places

_UNARY = {
  'abs': tf.abs,
  'erf': tf.math.erf,
  'exp': tf.exp,
  'log': tf.math.log,
  'logistic': tf.sigmoid,
  'neg': tf.negative,
  'rsqrt': tf.math.rsqrt,
  'sign': tf.sign,
  'sqrt': tf.sqrt,
  'tanh': tf.tanh,
}
_BINARY = {
  'add': tf.add,
  'div': tf.divide,
  'max': tf.maximum,
  'min': tf.minimum,
  'mul': tf.multiply,
  'pow': tf.pow,
  'sub': tf.subtract,
}


class TensorFlowBackend(Backend):
  """Applies TensorFlow's functions, to be called in a `tf.function`."""

  def __init__(self, images: tf.Tensor, variables: dict[int, tf.Variable]):
    """Takes the images, whose first axis is the batch.

    Args:
      images: input of the graph, [B, H, W, 3].
      variables: variable of each large array, by the array's `id`.
    """
    self._images = images
    self._variables = variables

  def constant(self, array: np.ndarray) -> tf.Tensor:
    """Returns a variable's value, or a constant, [...]."""
    if (variable := self._variables.get(id(array))) is not None:
      return variable.read_value()
    return tf.constant(array)

  def unary(self, name: str, x: Any) -> tf.Tensor:
    """See `Backend`."""
    return _UNARY[name](x)

  def binary(self, name: str, x: Any, y: Any) -> tf.Tensor:
    """See `Backend`."""
    return _BINARY[name](x, y)

  def cast(self, x: Any, dtype: np.dtype) -> tf.Tensor:
    """See `Backend`."""
    return tf.cast(x, dtype)

  def reshape(self, x: Any, shape: Sequence[int]) -> tf.Tensor:
    """See `Backend`."""
    return tf.reshape(x, shape)

  def transpose(self, x: Any, axes: Sequence[int]) -> tf.Tensor:
    """See `Backend`."""
    return tf.transpose(x, axes)

  def expand(self, x: Any, shape: Sequence[int]) -> tf.Tensor:
    """See `Backend`."""
    batch = tf.shape(self._images)[0] if -1 in shape else 0
    return tf.broadcast_to(x, [batch if n == -1 else n for n in shape])

  def reduce(self, name: str, x: Any, axes: Sequence[int]) -> tf.Tensor:
    """See `Backend`."""
    reduce = {'reduce_max': tf.reduce_max, 'reduce_sum': tf.reduce_sum}[name]
    return reduce(x, list(axes))

  def matmul(self, x: Any, y: Any) -> tf.Tensor:
    """See `Backend`."""
    return tf.matmul(x, y)

  def einsum(self, formula: str, x: Any, y: Any) -> tf.Tensor:
    """See `Backend`."""
    return tf.einsum(formula, x, y)

  def concatenate(self, tensors: Sequence[Any], axis: int) -> tf.Tensor:
    """See `Backend`."""
    return tf.concat(tensors, axis)

  def slice(self, x: Any, parts: Sequence[slice]) -> tf.Tensor:
    """See `Backend`."""
    return x[tuple(parts)]

  def pad(self, x: Any, padding: Padding, value: float) -> tf.Tensor:
    """See `Backend`."""
    return tf.pad(x, list(padding), constant_values=value)

  def convolve(
    self, x: Any, kernel: np.ndarray, places: Places, groups: int
  ) -> tf.Tensor:
    """Convolves [B, H, W, C]; see `Backend`."""
    strides = (1, *places.strides, 1)
    padding = [(0, 0), *places.padding, (0, 0)]
    if groups == 1:
      return tf.nn.conv2d(x, self.constant(kernel), strides, padding)
    # [kh, kw, 1, C] of JAX is [kh, kw, C, 1] here.
    kernel = kernel.transpose(0, 1, 3, 2)
    x = tf.pad(x, padding)
    return tf.nn.depthwise_conv2d(x, self.constant(kernel), strides, 'VALID')

  def max_pool(
    self, x: Any, window: Sequence[int], places: Places
  ) -> tf.Tensor:
    """See `Backend`."""
    if np.any(places.padding):
      low = float(np.finfo(np.float32).min)
      padding = [(0, 0), *places.padding, (0, 0)]
      x = tf.pad(x, padding, constant_values=low)
    return tf.nn.max_pool2d(x, window, places.strides, 'VALID')
