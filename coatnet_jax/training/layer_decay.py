"""Layer-wise learning-rate decay: `config.optimizer.layer_decay`.

The nearer a layer is to the image, the slower it learns, as BEiT finetunes
(arXiv 2106.08254) and, before it, ELECTRA (arXiv 2003.10555). A layer is a
block; the stem is the first one, the head with its norm the last. Not a
schedule: the factors are the same at every step.
"""

import math
import re
from typing import Any

import jax
import optax

from coatnet_jax.errors import UserError
from coatnet_jax.tree_names import flatten, map_names

# Beginnings of parameters' names. A class token and positions are added to the
# stem's map, so that they are as deep as the stem.
_STEM = re.compile(r'(?:^|/)(?:s0_|class_token$|(class_)?position_embedding$)')
# 's3_block_1/...' of a CoAtNet, 'block_1/...' of a cnn_stem_vit.
_BLOCK = re.compile(r'(?:^|/)(?:s(\d+)_)?block_(\d+)(?:/|$)')
_HEAD = re.compile(r'(?:^|/)head_')

# Sorts before and after every block: (stage, number in it).
_FIRST, _LAST = (-1, 0), (math.inf, 0)


def compute_layer_scales(params: Any, decay: float) -> Any:
  """Returns the factors of the parameters' learning rates.

  >>> params = {'s0_conv_0': 0, 's1_block_0': {'kernel': 0}, 'head_logits': 0}
  >>> compute_layer_scales(params, decay=0.5)
  {'head_logits': 1.0, 's0_conv_0': 0.25, 's1_block_0': {'kernel': 0.5}}

  Args:
    params: the tree of all parameters, or of anything in their place. With n
      blocks the stem is layer 0, the blocks are layers 1 to n in their order,
      and the head is layer n + 1.
    decay: the factor from one layer to the one before.

  Returns:
    The same tree with decay ** (n + 1 - layer) for each leaf, a Python float.

  Raises:
    ValueError: parameters that belong to no layer; lists all of them. Not a
      `UserError`, because what is missing is a rule in this module.
  """
  found = {name: find_place(name) for name in flatten(params)}
  places = {name: place for name, place in found.items() if place is not None}
  unknown = [name for name in found if name not in places]
  if unknown:
    raise ValueError(
      'No rule in training.layer_decay says how deep these are: '
      + ', '.join(unknown)
    )
  order = sorted({_FIRST, _LAST, *places.values()})
  layers = {place: layer for layer, place in enumerate(order)}
  last = layers[_LAST]
  return map_names(
    lambda name, _: decay ** (last - layers[places[name]]), params
  )


def find_place(name: str) -> tuple[float, int] | None:
  """Returns what layers are sorted by: stage and number of a block in it.

  >>> find_place('params/s3_block_1/expand/kernel'), find_place('step')
  ((3, 1), None)

  Args:
    name: name of a parameter, or of what is named after one.
  """
  if _STEM.search(name):
    return _FIRST
  if _HEAD.search(name):
    return _LAST
  block = _BLOCK.search(name)
  return (int(block[1] or 0), int(block[2])) if block else None


def scale_by_layer(decay: float) -> optax.GradientTransformation:
  """Returns a transformation that multiplies updates by their layer's factor.

  After an optimizer: what it adds for weight decay is multiplied too, as if
  each layer had a learning rate of its own. It sees all parameters, frozen
  ones too, so that freezing some changes no other's rate.

  Args:
    decay: see `compute_layer_scales`, in (0, 1].

  Raises:
    UserError: a decay out of its range.
  """
  if not 0 < decay <= 1:
    raise UserError(
      f'config.optimizer.layer_decay is {decay}; it must be above 0 and at most'
      ' 1, which switches it off.'
    )
  if decay == 1:
    return optax.identity()

  def scale(updates, params):
    del params
    return jax.tree.map(
      lambda update, factor: update * factor,
      updates,
      compute_layer_scales(updates, decay),
    )

  return optax.stateless(scale)
