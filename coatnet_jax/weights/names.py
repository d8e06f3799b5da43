"""From the names and layouts of a file to our variables, and back.

What each leaf of ours is called elsewhere, and how its numbers lie there, is a
function from our name to a `Tensor`: `timm.py`, `keras_cv.py`, `native.py`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from coatnet_jax.errors import UserError
from coatnet_jax.tree_names import flatten, map_names

Shape = tuple[int, ...]
# What depends on the grid of tokens, the last part of our name; and the layer
# that depends on the classes.
TABLE = 'relative_position_bias_table'
POSITIONS = 'position_embedding'
LOGITS = 'head_logits'


@dataclasses.dataclass(frozen=True)
class Layout:
  """How the numbers of an array of ours lie in a file.

  Attributes:
    to_ours: function that makes our array of the file's, given the shape that
      ours is expected to have; raises ValueError for a shape that can't be.
    to_theirs: function that makes the file's array of ours.
  """

  to_ours: Callable[[np.ndarray, Shape], np.ndarray]
  to_theirs: Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One of a file's tensors.

  Attributes:
    name: name in the file.
    layout: layout of its numbers.
  """

  name: str
  layout: Layout


# From our name, such as 'params/s1_block_0/expand/kernel', to the file's.
Naming = Callable[[str], Tensor]


def same() -> Layout:
  """The same on both sides."""
  return Layout(lambda theirs, _: theirs, lambda ours: ours)


def transposed(*axes: int) -> Layout:
  """Other axes: `axes` of ours are the file's, in order.

  >>> kernel = np.zeros((3, 5))
  >>> transposed(1, 0).to_theirs(kernel).shape
  (5, 3)
  """
  inverse = tuple(np.argsort(axes))

  def to_ours(theirs, _):
    return theirs.transpose(inverse)

  return Layout(to_ours, lambda ours: ours.transpose(axes))


def bias_table(*, heads_last: bool) -> Layout:
  """[(2H-1)(2W-1), heads] or [heads, (2H-1)(2W-1)], ours unfolded.

  A table of another grid than expected must be a square one's.
  """

  def to_ours(theirs, shape):
    if theirs.ndim != 2:
      raise ValueError
    theirs = theirs.T if heads_last else theirs
    sides = shape[1:]
    if math.prod(sides) != theirs.shape[1]:
      sides = (math.isqrt(theirs.shape[1]),) * 2
    if math.prod(sides) != theirs.shape[1] or not sides[0] % 2:
      raise ValueError
    return theirs.reshape(-1, *sides)

  def to_theirs(ours):
    flat = ours.reshape(ours.shape[0], -1)
    return flat.T if heads_last else flat

  return Layout(to_ours, to_theirs)


def to_variables(
  tensors: Mapping[str, np.ndarray],
  target: Any,
  naming: Naming,
  *,
  source: str,
  ignored: tuple[str, ...] = (),
) -> Any:
  """Makes our variables of a file's tensors.

  Args:
    tensors: arrays of the file by name.
    target: {'params', 'batch_stats'} of `jax.ShapeDtypeStruct`.
    naming: names and layouts of the file.
    source: name of the file in an error.
    ignored: endings of the file's names that are no variables.

  Returns:
    A tree like the target's, of the file's arrays. Relative position tables and
    the logits' layer have the file's own sizes.

  Raises:
    UserError: names that are missing or too many, or shapes that don't fit;
      all are listed.
  """
  variables, problems = {}, []
  unused = {name for name in tensors if not name.endswith(ignored)}
  for path, leaf in flatten(target).items():
    tensor = naming(path)
    unused.discard(tensor.name)
    if tensor.name not in tensors:
      problems.append(f'  {tensor.name}: missing in the file')
      continue
    theirs = tensors[tensor.name]
    try:
      variables[path] = tensor.layout.to_ours(theirs, leaf.shape)
      fits = _fits(path, variables[path].shape, leaf.shape)
    except ValueError:
      fits = False
    if not fits:
      problems.append(
        f'  {tensor.name}: {theirs.shape} in the file,'
        f' {compute_their_shape(tensor, leaf.shape)} in the model'
      )
  problems += [f'  {name}: not in the model' for name in sorted(unused)]
  if problems:
    raise UserError(
      f'{source} does not fit the model. {len(problems):,} of its tensors are'
      ' missing, too many or of another shape:\n' + '\n'.join(problems)
    )
  return map_names(lambda name, _: variables[name], target)


def to_tensors(variables: Any, naming: Naming) -> dict[str, np.ndarray]:
  """Makes a file's tensors of our variables; the way back of `to_variables`."""
  tensors = {}
  for path, leaf in flatten(variables).items():
    tensor = naming(path)
    theirs = tensor.layout.to_theirs(np.asarray(leaf))
    tensors[tensor.name] = np.ascontiguousarray(theirs)
  return tensors


def compute_their_shape(tensor: Tensor, shape: Shape) -> Shape:
  """Returns the shape in the file of an array of ours of a shape."""
  nothing = np.broadcast_to(np.float32(0), shape)
  return tensor.layout.to_theirs(nothing).shape


def _fits(path: str, found: Shape, expected: Shape) -> bool:
  if found == expected:
    return True
  if len(found) != len(expected):
    return False
  # Classes and image size are a choice of the user's.
  if f'/{LOGITS}/' in path:
    return found[:-1] == expected[:-1]
  is_table = path.endswith(f'/{TABLE}')
  return is_table and found[0] == expected[0]
