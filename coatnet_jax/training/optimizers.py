"""The optimizer, and which parameters it decays.

Gradient clipping and decoupled weight decay come with it; the average of
parameters and gradient accumulation belong to the train step.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import optax

from coatnet_jax.errors import UserError

# name -> function of (learning_rate, b1, b2, eps, weight_decay, mask).
OPTIMIZERS = {'adamw': optax.adamw}

# (pattern, whether it decays). A parameter is named by its path, as in
# 's1_block_0/mbconv/expand/kernel'; the first pattern that `re.search` finds
# in the name decides, and a name without one is an error, so that a new kind
# of parameter is a decision and no accident. Ours: the paper does not say what
# it decays. The closest Google code (MaxViT's) decays no bias, norm or
# relative-position table, and of the runs compared by KerasCV's authors for
# their CoAtNet-0 the one that did not decay the table was the best.
WEIGHT_DECAY_RULES: tuple[tuple[str, bool], ...] = (
  (r'(^|/)bias$', False),
  # BatchNorm and LayerNorm.
  (r'(^|/)scale$', False),
  (r'(^|/)relative_position_bias_table$', False),
  # The network that makes such a table: timm does not decay it either.
  (r'(^|/)relative_position_mlp/', False),
  # LayerScale.
  (r'(^|/)gamma$', False),
  (r'(^|/)(class_)?position_embedding$', False),
  (r'(^|/)class_token$', False),
  (r'(^|/)kernel$', True),
)


def compute_weight_decay_mask(params: Any) -> Any:
  """Returns which parameters decay, by `WEIGHT_DECAY_RULES`.

  Args:
    params: A tree of parameters, or of anything in their place: only the names
      are read.

  Returns:
    The same tree with a Python bool for each leaf.

  Raises:
    ValueError: No rule matches some parameters; lists all of them. Not a
      `UserError`, because what is missing is a rule in this module.
  """
  # Not `flatten_dict`: it loses empty sub-trees, and with them the structure.
  paths, treedef = jax.tree_util.tree_flatten_with_path(params)
  names = [
    jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in paths
  ]
  decisions = [_find_rule(name) for name in names]
  unmatched = [
    name
    for name, decays in zip(names, decisions, strict=True)
    if decays is None
  ]
  if unmatched:
    raise ValueError(
      'No rule in training.optimizers.WEIGHT_DECAY_RULES matches: '
      + ', '.join(unmatched)
    )
  return treedef.unflatten(decisions)


def _find_rule(name: str) -> bool | None:
  for pattern, decays in WEIGHT_DECAY_RULES:
    if re.search(pattern, name):
      return decays
  return None


def create_optimizer(
  learning_rate: optax.Schedule,
  *,
  name: str,
  b1: float,
  b2: float,
  eps: float,
  weight_decay: float,
  clip_norm: float,
) -> optax.GradientTransformation:
  """Returns clipping by global norm followed by the named optimizer.

  With 'adamw' an update is -learning_rate * (adam + weight_decay * parameter),
  the second term for parameters that decay (Loshchilov and Hutter, 2019, as
  optax scales it: decay follows the schedule). The first update of a schedule
  with warm-up has learning rate 0.

  Args:
    learning_rate: Function of the number of updates made so far.
    name: One of `OPTIMIZERS`.
    b1: Decay of the average of gradients, in [0, 1).
    b2: Decay of the average of squared gradients, in [0, 1).
    eps: Added to the root of the second average; not negative.
    weight_decay: Not negative.
    clip_norm: Gradients whose global norm is larger are scaled down to it,
      all by one factor; 0 switches it off. The state has the same structure
      either way, so that a checkpoint resumes with another value.

  Raises:
    UserError: Unknown name, or a number out of its range.
  """
  if name not in OPTIMIZERS:
    raise UserError(
      f'Unknown optimizer.name {name!r}; choose one of: '
      f'{", ".join(OPTIMIZERS)}.'
    )
  _check_not_negative(
    {'eps': eps, 'weight_decay': weight_decay, 'clip_norm': clip_norm}
  )
  for key, value in {'b1': b1, 'b2': b2}.items():
    if not 0 <= value < 1:
      raise UserError(
        f'optimizer.{key} must be at least 0 and below 1, not {value}.'
      )
  return optax.chain(
    optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
    OPTIMIZERS[name](
      learning_rate,
      b1=b1,
      b2=b2,
      eps=eps,
      weight_decay=weight_decay,
      mask=compute_weight_decay_mask,
    ),
  )


def _check_not_negative(values: Mapping[str, float]) -> None:
  for key, value in values.items():
    if not 0 <= value < float('inf'):
      raise UserError(f'optimizer.{key} must be at least 0, not {value}.')
