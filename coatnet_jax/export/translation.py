"""Operations of JAX in those that ONNX and TensorFlow both have.

    translate(trace_plainly(function, images), backend, input)

A `Backend` makes one framework's nodes. Here is what the two would otherwise do
alike: shapes with a batch of unknown size, products over any axes, and
broadcasting, which is left to the elementwise operations as far as they do it.
"""

import abc
import dataclasses
import string
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend import core

from coatnet_jax.errors import UserError

# Elementwise operations, by the names of JAX's primitives.
UNARY = (
  *('abs', 'erf', 'exp', 'log', 'logistic', 'neg', 'rsqrt', 'sign', 'sqrt'),
  'tanh',
)
BINARY = ('add', 'div', 'max', 'min', 'mul', 'pow', 'sub')
REDUCTIONS = ('reduce_max', 'reduce_sum')


# How much is added before and after each axis.
Padding = Sequence[tuple[int, int]]


class Places(NamedTuple):
  """Where in [B, H, W, C] the windows of a convolution or a pooling lie.

  Attributes:
    strides: steps from a window to the next, along height and width.
    padding: rows added before and after, and columns.
  """

  strides: Sequence[int]
  padding: Padding


class Backend(abc.ABC):
  """Makes the nodes of one framework; tensors are whatever it calls them."""

  @abc.abstractmethod
  def constant(self, array: np.ndarray) -> Any:
    """Returns the tensor of an array, [...] of any dtype."""

  @abc.abstractmethod
  def unary(self, name: str, x: Any) -> Any:
    """Applies an elementwise operation, one of `UNARY`."""

  @abc.abstractmethod
  def binary(self, name: str, x: Any, y: Any) -> Any:
    """Applies an elementwise operation, one of `BINARY`, with broadcasting."""

  @abc.abstractmethod
  def cast(self, x: Any, dtype: np.dtype) -> Any:
    """Converts the elements' type."""

  @abc.abstractmethod
  def reshape(self, x: Any, shape: Sequence[int]) -> Any:
    """Changes the shape; -1 stands for the one size that is not known."""

  @abc.abstractmethod
  def transpose(self, x: Any, axes: Sequence[int]) -> Any:
    """Permutes the axes."""

  @abc.abstractmethod
  def expand(self, x: Any, shape: Sequence[int]) -> Any:
    """Repeats axes of size 1; -1 stands for the size of the batch."""

  @abc.abstractmethod
  def reduce(self, name: str, x: Any, axes: Sequence[int]) -> Any:
    """Reduces axes, which are then gone; one of `REDUCTIONS`."""

  @abc.abstractmethod
  def matmul(self, x: Any, y: Any) -> Any:
    """Multiplies the last two axes, the others as NumPy does."""

  @abc.abstractmethod
  def einsum(self, formula: str, x: Any, y: Any) -> Any:
    """Multiplies as a formula says: 'abc,cd->abd'."""

  @abc.abstractmethod
  def concatenate(self, tensors: Sequence[Any], axis: int) -> Any:
    """Joins tensors along an axis."""

  @abc.abstractmethod
  def slice(self, x: Any, parts: Sequence[slice]) -> Any:
    """Takes a part of each axis; a stop of None is the axis' end."""

  @abc.abstractmethod
  def pad(self, x: Any, padding: Padding, value: float) -> Any:
    """Adds a value before and after each axis, as often as is said."""

  @abc.abstractmethod
  def convolve(
    self, x: Any, kernel: np.ndarray, places: Places, groups: int
  ) -> Any:
    """Convolves [B, H, W, C] with a kernel [kh, kw, C / groups, D]."""

  @abc.abstractmethod
  def max_pool(self, x: Any, window: Sequence[int], places: Places) -> Any:
    """Takes the largest of each window of [B, H, W, C]."""


@dataclasses.dataclass(frozen=True)
class _Value:
  """A tensor, and the shape it has so far: 1 where it is to be broadcast."""

  tensor: Any
  shape: tuple[Any, ...]


def translate(closed: core.ClosedJaxpr, backend: Backend, images: Any) -> Any:
  """Makes the nodes of a function of images.

  Args:
    closed: operations, from `trace_plainly`.
    backend: backend that makes the nodes.
    images: tensor of the images.

  Returns:
    The tensor of the result.

  Raises:
    UserError: the model has an operation that is not translated.
  """
  jaxpr = closed.jaxpr
  values: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts))
  (parameter,) = jaxpr.invars
  values[parameter] = _Value(images, parameter.aval.shape)
  translation = _Translation(backend)
  for equation in jaxpr.eqns:
    operands = [
      atom.val if isinstance(atom, core.Literal) else values[atom]
      for atom in equation.invars
    ]
    values[equation.outvars[0]] = translation.apply(equation, operands)
  (result,) = jaxpr.outvars
  return translation.whole(values[result], result.aval.shape)


class _Translation:
  """Translates one operation after the other."""

  def __init__(self, backend: Backend):
    """Takes the backend that makes the nodes."""
    self.backend = backend

  def apply(self, equation: Any, operands: Sequence[Any]) -> _Value:
    """Returns the result of an operation."""
    name, out = equation.primitive.name, equation.outvars[0].aval
    if name in UNARY or name in BINARY:
      return self.elementwise(name, operands)
    method = getattr(self, f'apply_{name}', None)
    if method is None:
      raise UserError(
        f'The model has the operation {name!r}, which only the format stablehlo'
        ' takes: give --format=stablehlo.'
      )
    if name not in _OF_ANY_SHAPE:
      operands = [
        _Value(self.whole(operand, atom.aval.shape), atom.aval.shape)
        if isinstance(operand, _Value)
        else operand
        for operand, atom in zip(operands, equation.invars)
      ]
    return method(operands, out, **equation.params)

  def value(self, operand: Any) -> _Value:
    """Returns a value or an array as a value."""
    if isinstance(operand, _Value):
      return operand
    array = np.asarray(operand)
    return _Value(self.backend.constant(array), array.shape)

  def whole(self, operand: Any, shape: Sequence[Any]) -> Any:
    """Returns the tensor, in its whole shape."""
    value = self.value(operand)
    if value.shape == tuple(shape):
      return value.tensor
    return self.backend.expand(value.tensor, _sizes(shape))

  def elementwise(self, name: str, operands: Sequence[Any]) -> _Value:
    """Applies one of `UNARY` or `BINARY`."""
    values = [self.value(_trim(operand)) for operand in operands]
    make = self.backend.unary if name in UNARY else self.backend.binary
    rank = max(len(value.shape) for value in values)
    shapes = [(1,) * (rank - len(v.shape)) + v.shape for v in values]
    shape = tuple(
      next((size for size in sizes if size != 1), 1) for sizes in zip(*shapes)
    )
    return _Value(make(name, *(value.tensor for value in values)), shape)

  def apply_square(self, operands, out, **_) -> _Value:
    return self.elementwise('mul', [operands[0], operands[0]])

  def apply_integer_pow(self, operands, out, y, **unused) -> _Value:
    if y < 1:
      exponent = np.asarray(y, out.dtype)
      return self.elementwise('pow', [operands[0], exponent])
    result = operands[0]
    for _ in range(y - 1):
      result = self.elementwise('mul', [result, operands[0]])
    return self.value(result)

  def apply_erfc(self, operands, out, **_) -> _Value:
    erf = self.elementwise('erf', operands)
    return self.elementwise('sub', [np.asarray(1, out.dtype), erf])

  def apply_convert_element_type(self, operands, out, **_) -> _Value:
    value = self.value(operands[0])
    return _Value(self.backend.cast(value.tensor, out.dtype), value.shape)

  def apply_broadcast_in_dim(
    self, operands, out, broadcast_dimensions, **_
  ) -> _Value:
    value = self.value(operands[0])
    shape = [1] * len(out.shape)
    for axis, size in zip(broadcast_dimensions, value.shape):
      shape[axis] = size
    return _Value(
      self.backend.reshape(value.tensor, _sizes(shape)), tuple(shape)
    )

  def apply_reshape(self, operands, out, **_) -> _Value:
    (value,) = operands
    tensor = self.value(value).tensor
    return _Value(self.backend.reshape(tensor, _sizes(out.shape)), out.shape)

  # Only axes of size 1 are taken away, or added.
  apply_squeeze = apply_expand_dims = apply_reshape

  def apply_transpose(self, operands, out, permutation) -> _Value:
    tensor = self.value(operands[0]).tensor
    return _Value(self.backend.transpose(tensor, permutation), out.shape)

  def apply_concatenate(self, operands, out, dimension) -> _Value:
    tensors = [self.value(operand).tensor for operand in operands]
    return _Value(self.backend.concatenate(tensors, dimension), out.shape)

  def apply_slice(
    self, operands, out, start_indices, limit_indices, strides
  ) -> _Value:
    tensor = self.value(operands[0]).tensor
    steps = strides or (1,) * len(start_indices)
    # One that is not known is the batch's: it is taken to its end.
    stops = [n if isinstance(n, int) else None for n in limit_indices]
    parts = [slice(*of) for of in zip(start_indices, stops, steps)]
    return _Value(self.backend.slice(tensor, parts), out.shape)

  def apply_pad(self, operands, out, padding_config) -> _Value:
    if any(inner for _, _, inner in padding_config):
      raise UserError(
        'The model pads between pixels, which only the format stablehlo takes:'
        ' give --format=stablehlo.'
      )
    padding = [(low, high) for low, high, _ in padding_config]
    tensor = self.value(operands[0]).tensor
    return _Value(
      self.backend.pad(tensor, padding, float(operands[1])), out.shape
    )

  def apply_reduce_sum(self, operands, out, axes, **_) -> _Value:
    tensor = self.value(operands[0]).tensor
    return _Value(self.backend.reduce('reduce_sum', tensor, axes), out.shape)

  def apply_reduce_max(self, operands, out, axes, **_) -> _Value:
    tensor = self.value(operands[0]).tensor
    return _Value(self.backend.reduce('reduce_max', tensor, axes), out.shape)

  def apply_dot_general(self, operands, out, dimension_numbers, **_) -> _Value:
    left, right = (self.value(operand) for operand in operands)
    (left_sums, right_sums), (left_batch, right_batch) = dimension_numbers
    rank, leading = len(left.shape), len(left_batch)
    in_order = tuple(left_batch) == tuple(right_batch) == (*range(leading),)
    if len(left_sums) == 1 and in_order:
      left_axis, right_axis = left_sums[0], right_sums[0]
      if not leading and len(right.shape) == 2 and left_axis == rank - 1:
        tensor = right.tensor
        if right_axis == 1:
          tensor = self.backend.transpose(tensor, (1, 0))
        return _Value(self.backend.matmul(left.tensor, tensor), out.shape)
      if rank == len(right.shape) == leading + 2:
        x, y = left.tensor, right.tensor
        swapped = (*range(leading), leading + 1, leading)
        if left_axis == leading:
          x = self.backend.transpose(x, swapped)
        if right_axis == leading + 1:
          y = self.backend.transpose(y, swapped)
        return _Value(self.backend.matmul(x, y), out.shape)
    formula = _write_formula(rank, len(right.shape), dimension_numbers)
    tensor = self.backend.einsum(formula, left.tensor, right.tensor)
    return _Value(tensor, out.shape)

  def apply_conv_general_dilated(
    self, operands, out, window_strides, padding, feature_group_count, **other
  ) -> _Value:
    kernel = np.asarray(operands[1])
    tensor = self.backend.convolve(
      self.value(operands[0]).tensor,
      kernel,
      Places(window_strides, padding),
      feature_group_count,
    )
    return _Value(tensor, out.shape)

  def apply_reduce_window_max(
    self, operands, out, window_dimensions, window_strides, padding, **_
  ) -> _Value:
    tensor = self.backend.max_pool(
      self.value(operands[0]).tensor,
      window_dimensions[1:3],
      Places(window_strides[1:3], padding[1:3]),
    )
    return _Value(tensor, out.shape)


# What takes its operands before they are broadcast.
_OF_ANY_SHAPE = (
  *('broadcast_in_dim', 'convert_element_type', 'erfc', 'integer_pow'),
  'square',
)


def _trim(operand: Any) -> Any:
  """Returns an array without first axes of size 1, a value as it is.

  Broadcasting adds them; a bias of one axis is what compilers look for.
  """
  if isinstance(operand, _Value):
    return operand
  array = np.asarray(operand)
  while array.shape[:1] == (1,):
    array = array[0]
  return array


def _sizes(shape: Sequence[Any]) -> list[int]:
  """Returns sizes; -1 for one that is not known."""
  return [size if isinstance(size, int) else -1 for size in shape]


def _write_formula(left_rank: int, right_rank: int, numbers: Any) -> str:
  """Returns a product over any axes as an einsum's formula."""
  (left_sums, right_sums), (left_batch, right_batch) = numbers
  letters = iter(string.ascii_lowercase)
  left = [next(letters) for _ in range(left_rank)]
  right = [next(letters) for _ in range(right_rank)]
  pairs = [*zip(left_batch, right_batch), *zip(left_sums, right_sums)]
  for left_axis, right_axis in pairs:
    right[right_axis] = left[left_axis]
  batch = [left[axis] for axis in left_batch]
  taken = {*batch, *(left[axis] for axis in left_sums)}
  free = [letter for letter in [*left, *right] if letter not in taken]
  return f'{"".join(left)},{"".join(right)}->{"".join([*batch, *free])}'
