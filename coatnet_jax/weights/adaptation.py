"""Fitting trained variables to another image size or number of classes.

What evaluation, prediction, finetuning and loading in code share. What depends
on the grid of tokens is resized; a head for other classes starts anew, where
the caller asks for it; anything else that differs is an error. Reading files
is not done here.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.errors import UserError, shorten
from coatnet_jax.models.variables import create_variables
from coatnet_jax.tree_names import flatten, map_names
from coatnet_jax.weights.names import LOGITS, POSITIONS, TABLE

# What is resized -> what a sentence calls it.
_NOUNS = {TABLE: 'relative position table', POSITIONS: 'position embedding'}


def adapt_variables(
  variables: Any,
  target: Any,
  *,
  new_head: Mapping[str, jax.Array] | None = None,
  source: str = 'the weights',
) -> tuple[Any, list[str]]:
  """Fits trained variables to the model they are to be used with.

  Can be called under `jit`.

  Args:
    variables: {'params', 'batch_stats'} of arrays.
    target: {'params', 'batch_stats'} of `jax.ShapeDtypeStruct`, or of arrays:
      what the model's `init` gives at the image size to be used.
    new_head: 'head_logits' of `initialize_head`, for one of another number of
      classes; None to have such a head refused.
    source: name of the variables in an error.

  Returns:
    A tree like the target's, with its dtypes; and what was changed, a sentence
    each.

  Raises:
    UserError: anything else differs; the first differences are listed.
  """
  changes = check_variables(
    variables, target, new_head=new_head is not None, source=source
  )
  found = flatten(variables)

  def adapt(name, leaf):
    value = found[name]
    if value.shape != leaf.shape:
      kind = _kind(name)
      if kind == LOGITS:
        value = new_head[name.rsplit('/', 1)[-1]]
      else:
        resize = {
          TABLE: resize_relative_position_bias_table,
          POSITIONS: resize_position_embedding,
        }[kind]
        value = resize(value, _grid(kind, leaf.shape))
    return value if value.dtype == leaf.dtype else value.astype(leaf.dtype)

  return map_names(adapt, target), changes


def complete_head(variables: Any, initialised: Any) -> Any:
  """Adds to variables what they lack of the head, newly initialised.

  Args:
    variables: {'params', 'batch_stats'} of anything with a shape, perhaps
      without modules of the head.
    initialised: trees like that of a whole model, or of its head alone.

  Returns:
    The variables, with the modules 'head_*' that only the others have.
  """
  return {
    kind: {
      **{
        name: leaf
        for name, leaf in initialised.get(kind, {}).items()
        if name.startswith('head_')
      },
      **tree,
    }
    for kind, tree in variables.items()
  }


def check_variables(
  variables: Any,
  target: Any,
  *,
  new_head: bool = False,
  source: str = 'the weights',
) -> list[str]:
  """Checks by shapes alone that `adapt_variables` will do.

  >>> shapes = {
  ...   size: {'params': {'relative_position_bias_table': jnp.zeros((1, n, n))}}
  ...   for size, n in ((14, 27), (24, 47))
  ... }
  >>> check_variables(shapes[14], shapes[24])
  ['resized 1 relative position table, 14x14 to 24x24']

  Args:
    variables: {'params', 'batch_stats'} of anything with a shape.
    target: shapes that are wanted, as `adapt_variables` takes them.
    new_head: whether a head for other classes may be replaced.
    source: words for where the variables are from, for messages.

  Returns:
    What will be changed, a sentence each.

  Raises:
    UserError: as `adapt_variables`.
  """
  found, expected = (
    {name: tuple(leaf.shape) for name, leaf in flatten(tree).items()}
    for tree in (variables, target)
  )
  resized, heads, differences = [], [], []
  for name in sorted(found.keys() | expected.keys()):
    old, new = found.get(name), expected.get(name)
    if old == new:
      continue
    kind = _kind(name)
    if old and new and kind == LOGITS and old[:-1] == new[:-1]:
      heads.append((old[-1], new[-1]))
      if new_head:
        continue
    elif old and new and _are_resizable(kind, old, new):
      resized.append((kind, _grid(kind, old), _grid(kind, new)))
      continue
    differences.append(
      f'  {name}: {"none" if old is None else old} saved,'
      f' {"none" if new is None else new} in the model'
    )
  if differences:
    listed = '\n'.join(shorten(differences))
    advice = ''
    if heads and not new_head:
      advice = (
        f'\nA head of {heads[0][0]:,} classes is replaced by one of'
        f' {heads[0][1]:,} only where a new head is asked for.'
      )
    raise UserError(
      f'The model does not fit {source}. The difference in shapes:\n{listed}'
      + advice
    )
  return _describe_resized(resized) + _describe_head(heads)


def count_origins(variables: Any, target: Any) -> dict[str, tuple[int, int]]:
  """Counts by shapes what `adapt_variables` with a new head makes of what.

  Args:
    variables: trained variables that `check_variables` found to fit, without
      what `complete_head` added.
    target: shapes that are wanted, as `adapt_variables` takes them.

  Returns:
    'taken' as they are, 'resized' and 'initialised' -> how many arrays, and how
    many numbers in them.
  """
  found = flatten(variables)
  counts = {'taken': (0, 0), 'resized': (0, 0), 'initialised': (0, 0)}
  for name, leaf in flatten(target).items():
    if name in found and found[name].shape == leaf.shape:
      origin = 'taken'
    elif name not in found or _kind(name) == LOGITS:
      origin = 'initialised'
    else:
      origin = 'resized'
    arrays, numbers = counts[origin]
    counts[origin] = arrays + 1, numbers + math.prod(leaf.shape)
  return counts


def resize_relative_position_bias_table(
  table: jax.Array, grid: tuple[int, int]
) -> jax.Array:
  """Resizes the biases of one attention layer to another grid (paper, A.1).

  Bilinear with half-pixel centres, so offset 0 stays in the middle. Without
  antialiasing, for smaller grids too: the paper says no more than bilinear,
  and TensorFlow's resizing, which it will have used, does not antialias
  unless asked to.

  >>> table = jnp.array([[[0.0, 1.0, 2.0]]])  # A grid of 1x2.
  >>> resize_relative_position_bias_table(table, (1, 3)).shape
  (1, 1, 5)

  Args:
    table: biases, [heads, 2H-1, 2W-1].
    grid: (H', W'), the new grid of tokens.

  Returns:
    [heads, 2H'-1, 2W'-1] float32; the table itself if it is of that size.
  """
  shape = (table.shape[0], 2 * grid[0] - 1, 2 * grid[1] - 1)
  if table.shape == shape:
    return table
  return jax.image.resize(
    jnp.asarray(table, jnp.float32), shape, 'bilinear', antialias=False
  )


def resize_position_embedding(
  embedding: jax.Array, grid: tuple[int, int]
) -> jax.Array:
  """Resizes learned absolute positions to another grid, in the same way.

  Args:
    embedding: positions, [H, W, C].
    grid: (H', W'), the new grid of tokens.

  Returns:
    [H', W', C] float32; the embedding itself if it is of that size.
  """
  shape = (*grid, embedding.shape[2])
  if embedding.shape == shape:
    return embedding
  return jax.image.resize(
    jnp.asarray(embedding, jnp.float32), shape, 'bilinear', antialias=False
  )


def initialize_head(
  model: nn.Module, image_size: tuple[int, int], key: jax.Array
) -> dict[str, Any]:
  """Returns a newly initialised head, and computes nothing else.

  Args:
    model: network to apply, from `create_model`.
    image_size: (height, width) of images in pixels.
    key: key of the random numbers.

  Returns:
    {'params', 'batch_stats'} as `create_variables` gives them, of the modules
    'head_logits', 'head_norm', 'head_pre_logits' that the model has.
  """

  @jax.jit
  def initialize(key):
    variables = create_variables(
      model, image_size, key, channels=model.variant.in_channels
    )
    return {
      kind: {
        name: leaf for name, leaf in tree.items() if name.startswith('head_')
      }
      for kind, tree in variables.items()
    }

  return initialize(key)


def _kind(name: str) -> str | None:
  """Returns which of what can be changed a leaf is, if any."""
  parts = name.split('/')
  if LOGITS in parts:
    return LOGITS
  return parts[-1] if parts[-1] in _NOUNS else None


def _are_resizable(kind: str | None, *shapes: tuple[int, ...]) -> bool:
  """Returns whether shapes differ in their grids only."""
  if kind not in _NOUNS or any(len(shape) != 3 for shape in shapes):
    return False
  if kind == POSITIONS:
    return len({shape[2] for shape in shapes}) == 1
  return len({shape[0] for shape in shapes}) == 1 and all(
    shape[1] % 2 and shape[2] % 2 for shape in shapes
  )


def _grid(kind: str, shape: tuple[int, int, int]) -> tuple[int, int]:
  """Returns (H, W) of a table [heads, 2H-1, 2W-1] or positions [H, W, C]."""
  if kind == POSITIONS:
    return shape[:2]
  return (shape[1] + 1) // 2, (shape[2] + 1) // 2


def _describe_resized(
  resized: list[tuple[str, tuple[int, int], tuple[int, int]]],
) -> list[str]:
  sentences = []
  for kind, noun in _NOUNS.items():
    grids = [(old, new) for found, old, new in resized if found == kind]
    if grids:
      sizes = ' and '.join(
        f'{old[0]}x{old[1]} to {new[0]}x{new[1]}'
        for old, new in dict.fromkeys(grids)
      )
      plural = 's' * (len(grids) > 1)
      sentences.append(f'resized {len(grids)} {noun}{plural}, {sizes}')
  return sentences


def _describe_head(replaced: list[tuple[int, int]]) -> list[str]:
  if not replaced:
    return []
  old, new = replaced[0]
  return [f'{LOGITS}: {old:,} classes replaced by {new:,}, newly initialised']
