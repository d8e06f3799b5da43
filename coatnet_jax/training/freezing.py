"""Parameters that a run leaves as they are: `config.optimizer.frozen`.

They get no update, no weight decay and no optimizer state, and their gradients
are not computed. A part of the model of which all parameters are frozen is
computed as in evaluation, also in training: its BatchNorm normalises by the
running statistics, which stay as they are, and nothing of it is dropped. What
such a part puts out is then a function of the image alone, the one that the
pretrained weights belong to. BatchNorm in a part that is only partly frozen
trains as ever, since its inputs change.

With everything but the last layer frozen this is a linear probe, which costs
little more than a forward pass.
"""

import re
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import optax

from coatnet_jax.errors import UserError
from coatnet_jax.tree_names import flatten, map_names

# Names in a message, enough to tell what the others are like.
_NAMES_SHOWN = 5


def compute_frozen_mask(params: Any, patterns: Sequence[str]) -> Any:
  """Returns which parameters are frozen.

  >>> params = {'s0_conv_0': {'kernel': 0}, 'head_logits': {'kernel': 0}}
  >>> compute_frozen_mask(params, ['^s0_'])
  {'head_logits': {'kernel': False}, 's0_conv_0': {'kernel': True}}

  Args:
    params: tree of parameters, or of anything in their place.
    patterns: regular expressions; a parameter is frozen if `re.search` finds
      one of them in its name, as in 's1_block_0/expand/kernel'.

  Returns:
    The same tree with a Python bool for each leaf.

  Raises:
    UserError: a pattern is in no name, or all parameters are frozen.
  """
  names = list(flatten(params))
  idle = [p for p in patterns if not any(re.search(p, name) for name in names)]
  if idle:
    # From all over the network, since what is meant may be anywhere.
    step = max(1, (len(names) - 1) // (_NAMES_SHOWN - 1))
    raise UserError(
      f'config.optimizer.frozen has {", ".join(map(repr, idle))}, found in the'
      f' name of no parameter; among the {len(names)} names are'
      f' {", ".join(names[::step])}.'
    )
  mask = map_names(
    lambda name, _: any(re.search(pattern, name) for pattern in patterns),
    params,
  )
  if names and all(jax.tree.leaves(mask)):
    raise UserError(
      f'config.optimizer.frozen freezes all {len(names)} parameters, so that'
      ' there is nothing to train; leave some out.'
    )
  return mask


def count_frozen(params: Any, patterns: Sequence[str]) -> int:
  """Returns how many numbers the frozen parameters are.

  Args:
    params: tree of arrays or `jax.ShapeDtypeStruct`.
    patterns: regular expressions, as `compute_frozen_mask` takes them.
  """
  sizes = jax.tree.map(
    lambda leaf, is_frozen: leaf.size if is_frozen else 0,
    params,
    compute_frozen_mask(params, patterns),
  )
  return sum(jax.tree.leaves(sizes))


def freeze(
  tx: optax.GradientTransformation, patterns: Sequence[str]
) -> optax.GradientTransformation:
  """Returns an optimizer that knows nothing of frozen parameters.

  Its clipping sees the norm of the others' gradients alone.

  Args:
    tx: optimizer of the parameters that are trained.
    patterns: regular expressions, as `compute_frozen_mask` takes them, which
      initialising the state calls; none returns `tx` itself.
  """
  if not patterns:
    return tx

  def label(params):
    return jax.tree.map(
      lambda is_frozen: 'frozen' if is_frozen else 'trained',
      compute_frozen_mask(params, patterns),
    )

  return optax.partition(
    {'trained': tx, 'frozen': optax.set_to_zero()}, param_labels=label
  )


def stop_gradients(params: Any, patterns: Sequence[str]) -> Any:
  """Returns parameters to compute a loss with: the frozen ones as constants.

  Args:
    params: parameters of the model.
    patterns: regular expressions, as `compute_frozen_mask` takes them.
  """
  if not patterns:
    return params
  return jax.tree.map(
    lambda leaf, frozen: jax.lax.stop_gradient(leaf) if frozen else leaf,
    params,
    compute_frozen_mask(params, patterns),
  )


def freeze_modules(
  model: nn.Module, params: Any, patterns: Sequence[str]
) -> nn.Module:
  """Returns the model with its frozen parts computed as in evaluation.

  Args:
    model: network to apply, from `create_model`.
    params: its parameters, or anything in their place.
    patterns: regular expressions, as `compute_frozen_mask` takes them.
  """
  if not patterns:
    return model
  return model.clone(frozen=find_frozen_modules(params, patterns))


def keep_batch_stats(model: nn.Module, batch_stats: Any, before: Any) -> Any:
  """Returns a step's running statistics, to the bit the old of frozen parts.

  Where a batch is computed in parts they were averaged over them, which rounds.

  Args:
    model: model with frozen parts, from `freeze_modules`.
    batch_stats: statistics after the step.
    before: statistics before the step.
  """
  return {
    name: before[name] if name in model.frozen else stats
    for name, stats in batch_stats.items()
  }


def find_frozen_modules(
  params: Any, patterns: Sequence[str]
) -> tuple[str, ...]:
  """Returns the parts of a model of which every parameter is frozen.

  >>> params = {'s0_conv_0': {'kernel': 0}, 'head_logits': {'kernel': 0}}
  >>> find_frozen_modules(params, ['^s0_'])
  ('s0_conv_0',)

  Args:
    params: parameters of the model: {'s0_conv_0': ..., 's1_block_0': ..., ...}.
    patterns: regular expressions, as `compute_frozen_mask` takes them.
  """
  mask = compute_frozen_mask(params, patterns)
  return tuple(name for name, part in mask.items() if _is_all_frozen(part))


def _is_all_frozen(mask: Any) -> bool:
  leaves = jax.tree.leaves(mask)
  return bool(leaves) and all(leaves)
