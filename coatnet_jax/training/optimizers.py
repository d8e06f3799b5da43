"""The optimizer, and which parameters it decays.

Gradient clipping and decoupled weight decay come with it, and so do learning
rates by layer (`layer_decay.py`) and frozen parameters (`freezing.py`). The
average of parameters and gradient accumulation belong to the train step.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import optax

from coatnet_jax.training import freezing
from coatnet_jax.training.layer_decay import scale_by_layer
from coatnet_jax.tree_names import flatten, map_names
from coatnet_jax.values import (
  NOT_EMPTY,
  REGULAR_EXPRESSION,
  OneOf,
  Range,
  checked,
)


def _create_lamb(
  learning_rate: optax.Schedule,
  *,
  b1: float,
  b2: float,
  eps: float,
  weight_decay: float,
  mask: Callable[[Any], Any],
) -> optax.GradientTransformation:
  """Returns LAMB (arXiv 1904.00962) as image models are trained with it.

  `optax.lamb` scales every parameter's update to the parameter's norm. Where
  recipes with LAMB come from, TensorFlow Addons and timm, only those that
  decay are scaled: a bias that starts at 0 hardly moves by its own norm.
  """
  return optax.chain(
    optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
    optax.add_decayed_weights(weight_decay, mask=mask),
    optax.masked(optax.scale_by_trust_ratio(), mask),
    optax.scale_by_learning_rate(learning_rate),
  )


# name -> function of (learning_rate, b1, b2, eps, weight_decay, mask).
OPTIMIZERS = {'adamw': optax.adamw, 'lamb': _create_lamb}

# (pattern, whether it decays). A parameter is named by its path, as in
# 's1_block_0/expand/kernel'; the first pattern that `re.search` finds
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

  >>> params = {'s0_conv_0': {'kernel': 0}, 's0_norm': {'scale': 0, 'bias': 0}}
  >>> compute_weight_decay_mask(params)
  {'s0_conv_0': {'kernel': True}, 's0_norm': {'bias': False, 'scale': False}}

  Args:
    params: A tree of parameters, or of anything in their place: only the names
      are read.

  Returns:
    The same tree with a Python bool for each leaf.

  Raises:
    ValueError: No rule matches some parameters; lists all of them. Not a
      `UserError`, because what is missing is a rule in this module.
  """
  mask = map_names(lambda name, _: _find_rule(name), params)
  unmatched = [name for name in flatten(params) if _find_rule(name) is None]
  if unmatched:
    raise ValueError(
      'No rule in training.optimizers.WEIGHT_DECAY_RULES matches: '
      + ', '.join(unmatched)
    )
  return mask


def _find_rule(name: str) -> bool | None:
  for pattern, decays in WEIGHT_DECAY_RULES:
    if re.search(pattern, name):
      return decays
  return None


@checked
def create_optimizer(
  learning_rate: optax.Schedule,
  *,
  name: Annotated[str, OneOf(OPTIMIZERS)],
  b1: Annotated[float, Range(at_least=0, below=1)],
  b2: Annotated[float, Range(at_least=0, below=1)],
  eps: Annotated[float, Range(above=0, at_most=1)],
  weight_decay: Annotated[float, Range(at_least=0, at_most=1000)],
  clip_norm: Annotated[float, Range(at_least=0)],
  layer_decay: Annotated[float, Range(above=0, at_most=1)],
  frozen: Annotated[
    Sequence[Annotated[str, NOT_EMPTY, REGULAR_EXPRESSION]],
    "('^s0_',), say",
  ],
) -> optax.GradientTransformation:
  """Returns clipping by global norm followed by the named optimizer.

  With 'adamw' an update is -learning_rate * (adam + weight_decay * parameter),
  the second term for parameters that decay (Loshchilov and Hutter, 2019, as
  optax scales it: decay follows the schedule). With 'lamb' the sum in brackets
  is scaled to the parameter's own norm, for parameters that decay. The first
  update of a schedule with warm-up has learning rate 0.

  Args:
    learning_rate: function of the number of updates made so far.
    name: name of the optimizer, one of `OPTIMIZERS`.
    b1: decay of the average of gradients, in [0, 1).
    b2: decay of the average of squared gradients, in [0, 1).
    eps: number added to the root of the second average; not negative.
    weight_decay: factor of the decay of kernels; not negative.
    clip_norm: largest global norm of gradients, which are scaled down to it,
      all by one factor; 0 switches it off. The state has the same structure
      either way, so that a checkpoint resumes with another value.
    layer_decay: factor from the learning rate of a layer to that of the one
      before it, in (0, 1]: `layer_decay.compute_layer_scales`. 1 switches it
      off.
    frozen: regular expressions for the names of parameters that are left as
      they are: `freezing.compute_frozen_mask`.

  Raises:
    UserError: Unknown name, a number out of its range, or no regular
      expressions; when its state is initialised, patterns that match nothing,
      or everything.
  """
  layer_scale = scale_by_layer(layer_decay)
  tx = optax.chain(
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
  tx = freezing.freeze(tx, frozen)
  # Not in the chain at all where it is off: checkpoints of runs without stay
  # what they are.
  return tx if layer_decay == 1 else optax.chain(tx, layer_scale)
