"""Runs the blocks of a stage as functions: rematerialised, scanned, or neither.

Variables come in and statistics go out by the blocks' names, however they run:
the parameter tree and a checkpoint are the same. Not used to initialise.
"""

import functools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from coatnet_jax.models.layers import StochasticDepth
from coatnet_jax.ops.batch_sharding import shard_batch
from coatnet_jax.ops.rematerialization import KEPT

# What the backward pass rematerialises, to save memory, by name.
REMAT_POLICIES = types.MappingProxyType(
  {
    'none': 'nothing',
    'expansions': 'what an MBConv block has inside: its expanded maps',
    'blocks': 'what every block has inside',
    'everything': 'every block from its stage, and its inside again',
  }
)


class Block(NamedTuple):
  """A block of a stage.

  Attributes:
    name: name of its variables.
    module: module without a parent. Equal ones can be scanned.
    drop: choice of the branches that are dropped; None in evaluation.
    expands: whether it is an MBConv block.
    frozen: whether it is computed as in evaluation, also in training.
  """

  name: str
  module: nn.Module
  drop: StochasticDepth | None
  expands: bool
  frozen: bool = False


# One block's variables, by collection: {'params': ..., 'batch_stats': ...}.
Variables = Mapping[str, Any]


def apply_blocks(
  blocks: Sequence[Block],
  variables: Mapping[str, Variables],
  x: jax.Array,
  *,
  train: bool,
  remat: str,
  scan: bool,
) -> tuple[jax.Array, dict[str, Any]]:
  """Applies the blocks of a stage, one after the other.

  Args:
    blocks: blocks in the order of their application.
    variables: variables of each block, by its name.
    x: [B, H, W, C].
    train: whether blocks that are not frozen use batch statistics and drop
      branches.
    remat: name of a policy, one of `REMAT_POLICIES`.
    scan: whether equal blocks that follow each other are one `lax.scan`, which
      is compiled once for all of them.

  Returns:
    [B, H', W', C'], and each block's new 'batch_stats', by its name; none in
    evaluation, or of frozen blocks.
  """
  if remat == 'everything':
    drops = [block.drop for block in blocks]

    def apply_stage(variables, drops, x):
      with_drops = [b._replace(drop=d) for b, d in zip(blocks, drops)]
      return apply_blocks(
        with_drops, variables, x, train=train, remat='blocks', scan=scan
      )

    return _rematerialise(apply_stage)(variables, drops, x)

  batch_stats = {}
  for group in _group_equal(blocks) if scan else ([block] for block in blocks):
    trains = train and not group[0].frozen
    apply: Callable[..., tuple[jax.Array, Any]] = functools.partial(
      _apply_block, group[0].module, train=trains
    )
    scanned = len(group) > 1
    if remat == 'blocks' or (remat == 'expansions' and group[0].expands):
      apply = _rematerialise(apply, scanned=scanned)
    elif scanned:
      # Otherwise the loop keeps the result of every single operation for the
      # backward pass.
      apply = _rematerialise(apply, scanned=scanned, keep_marked=True)
    if len(group) == 1:
      (block,) = group
      with jax.named_scope(block.name):
        x, updates = apply(x, (variables[block.name], block.drop))
      batch_stats[block.name] = updates
    else:
      x, updates = _scan(apply, group, variables, x)
      batch_stats |= updates
  return x, {name: stats for name, stats in batch_stats.items() if stats}


def _group_equal(blocks: Sequence[Block]) -> Iterator[list[Block]]:
  """Yields runs of blocks that are computed alike."""
  group: list[Block] = []
  for block in blocks:
    if group and (block.module, block.frozen) != (
      group[0].module,
      group[0].frozen,
    ):
      yield group
      group = []
    group.append(block)
  yield group


def _apply_block(
  module: nn.Module,
  x: jax.Array,
  inputs: tuple[Variables, StochasticDepth | None],
  *,
  train: bool,
) -> tuple[jax.Array, Any]:
  """Returns a block's output and its new batch statistics."""
  variables, drop = inputs
  x = shard_batch(x)
  if not train:
    return module.apply(variables, x, False), {}
  x, updates = module.apply(variables, x, True, drop, mutable=['batch_stats'])
  return shard_batch(x), updates.get('batch_stats', {})


def _scan(
  apply: Callable[..., Any],
  group: Sequence[Block],
  variables: Mapping[str, Variables],
  x: jax.Array,
) -> tuple[jax.Array, dict[str, Any]]:
  """Applies equal blocks, whose arrays are stacked for that."""
  inputs = [(variables[block.name], block.drop) for block in group]
  stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *inputs)
  with jax.named_scope(f'{group[0].name}_to_{group[-1].name}'):
    x, updates = lax.scan(apply, x, stacked)
  return x, {
    block.name: jax.tree.map(lambda array, i=i: array[i], updates)
    for i, block in enumerate(group)
  }


def _rematerialise(
  function: Callable[..., Any],
  *,
  scanned: bool = False,
  keep_marked: bool = False,
) -> Callable[..., Any]:
  """Returns a function whose inside the backward pass rematerialises.

  Sums are kept: means of channels are small, and over a mesh they cost a
  collective.

  Args:
    function: function to differentiate.
    scanned: whether it is the body of a loop.
    keep_marked: whether results that `rematerialization.keep` marks are kept
      too.
  """
  policy = _is_sum
  if keep_marked:
    policy = jax.checkpoint_policies.save_from_both_policies(
      _is_sum, jax.checkpoint_policies.save_only_these_names(KEPT)
    )
  # In a loop nothing could merge the second computation with the first.
  return jax.checkpoint(function, policy=policy, prevent_cse=not scanned)


def _is_sum(primitive, *_, **__) -> bool:
  return primitive.name == 'reduce_sum'
