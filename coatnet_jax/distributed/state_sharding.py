"""How every array of a run's state is sharded over the mesh.

An ordered list of rules says it by name: the first rule that fits decides. The
names of optimizer state and averages end with those of their parameters, so
that they are sharded alike.
"""

import math
import re
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from coatnet_jax.errors import UserError
from coatnet_jax.tree_names import map_names

# Arrays below this size are whole on every device of `fsdp`: what they would
# save is less than the collective costs that gathers them.
MIN_SHARDED_SIZE = 2**14

# (what a name ends with, the mesh axis of each axis of the array). Where the
# number of devices does not divide the axis that is named for `fsdp`, the
# longest axis that it divides takes its place.
#
# `tensor` shards attention's heads and the hidden layer of a feed-forward part:
# what comes before them needs no exchange, since every device computes its own
# heads or channels from the whole input, and what comes after them is one sum
# (Megatron-LM, arXiv 1909.08053). `fsdp` shards the other large axis, and the
# compiler gathers the parameters before each use.
SHARDING_RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
  # [C, 3, heads, head_dim]
  (r'attention/qkv/kernel', ('fsdp', None, 'tensor', None)),
  (r'attention/qkv/bias', (None, 'tensor', None)),
  # cnn_stem_vit has them as three arrays; its 'out' is [heads, head_dim, C].
  (r'attention/(query|key|value)/kernel', ('fsdp', 'tensor', None)),
  (r'attention/(query|key|value)/bias', ('tensor', None)),
  (r'(?<!s\d_)block_\d+/attention/out/kernel', ('tensor', None, 'fsdp')),
  # [heads * head_dim, C]
  (r'attention/out/kernel', ('tensor', 'fsdp')),
  (r'relative_position_bias_table', ('tensor', None, None)),
  (r'relative_position_mlp/(hidden|out)/kernel', (None, None)),
  (r'ffn_expand/kernel', ('fsdp', 'tensor')),
  (r'ffn_expand/bias', ('tensor',)),
  (r'ffn_shrink/kernel', ('tensor', 'fsdp')),
  # From here on every device of `tensor` has the same.
  (r'(expand|excite|project)/kernel', (None, 'fsdp')),
  (r'(shrink|squeeze)/kernel', ('fsdp', None)),
  (r's0_conv_\d+/kernel', (None, None, None, 'fsdp')),
  # Whole on every device, though it may be large enough: the TPU's compiler
  # would shard the channels of the map too, and gather the whole batch for it.
  (r'depthwise/kernel', (None, None, None, None)),
  (r'head_(pre_logits|logits)/kernel', ('fsdp', None)),
  (r'bias|scale|gamma|mean|var|class_token|class_position_embedding', (None,)),
  (r'position_embedding', (None, None, 'fsdp')),
)


def compute_state_shardings(abstract_state: Any, mesh: Mesh) -> Any:
  """Returns the sharding of every array of a state.

  Args:
    abstract_state: a `TrainState` or variables, of arrays or
      `jax.ShapeDtypeStruct`. Scalars are replicated.
    mesh: devices of the run, from `create_mesh`.

  Returns:
    The same tree, of `NamedSharding`.

  Raises:
    ValueError: no rule is for an array's name.
    UserError: the tensor axis does not divide the heads or channels.
  """

  def sharding(name, leaf):
    axes = _resolve_axes(name, leaf.shape, mesh) if leaf.shape else ()
    return NamedSharding(mesh, PartitionSpec(*axes))

  return map_names(sharding, abstract_state)


def add_shardings(shapes: Any, mesh: Mesh) -> Any:
  """Returns shapes with the shardings of a state on a mesh.

  Args:
    shapes: a `TrainState` or variables, of `jax.ShapeDtypeStruct`.
    mesh: devices of the run, from `create_mesh`.

  Returns:
    The same tree, of `jax.ShapeDtypeStruct` with shardings.

  Raises:
    ValueError: no rule is for an array's name.
    UserError: the tensor axis does not divide the heads or channels.
  """
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    shapes,
    compute_state_shardings(shapes, mesh),
  )


def put_variables(variables: Any, mesh: Mesh) -> Any:
  """Puts arrays of this process's memory on a mesh, each where it lies.

  Args:
    variables: tree of NumPy arrays, the same on all processes.
    mesh: devices of the run.
  """

  def put(array: np.ndarray, placed: jax.ShapeDtypeStruct) -> jax.Array:
    return jax.make_array_from_callback(
      array.shape, placed.sharding, lambda index: array[index]
    )

  shapes = jax.tree.map(
    lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), variables
  )
  return jax.tree.map(put, variables, add_shardings(shapes, mesh))


def find_rule(name: str, shape: tuple[int, ...]) -> tuple[str | None, ...]:
  """Returns the mesh axes of an array's axes, of any mesh.

  >>> find_rule('params/s3_block_0/expand/kernel', (384, 1536))
  (None, 'fsdp')

  Args:
    name: name with slashes: 'params/s1_block_0/expand/kernel'.
    shape: shape of the array.

  Raises:
    ValueError: the first rule for the name is of another number of axes, or
      there is none.
  """
  for pattern, axes in SHARDING_RULES:
    if re.search(rf'(^|/|_)({pattern})$', name):
      if len(axes) != len(shape):
        raise ValueError(
          f'The rule {pattern!r} of SHARDING_RULES is for {len(axes)} axes;'
          f' {name} has the shape {shape}.'
        )
      return axes
  raise ValueError(f'No rule of SHARDING_RULES is for {name}, {shape}.')


def _resolve_axes(name, shape, mesh):
  """Returns the mesh axes that shard an array's axes on this mesh."""
  axes = list(find_rule(name, shape))
  tensor, fsdp = mesh.shape['tensor'], mesh.shape['fsdp']
  # The axis for `tensor` is given by what is computed with it, so that no other
  # can take its place; for `fsdp`, which only saves memory, any other can.
  if tensor == 1:
    axes = [None if axis == 'tensor' else axis for axis in axes]
  elif 'tensor' in axes and shape[axes.index('tensor')] % tensor:
    raise UserError(
      f'config.sharding.tensor is {tensor}; it must divide the'
      f' {shape[axes.index("tensor")]} heads or channels of {name}, {shape}.'
    )
  if 'fsdp' in axes:
    wanted = axes.index('fsdp')
    axes[wanted] = None
    possible = [
      i
      for i, (axis, length) in enumerate(zip(axes, shape))
      if axis is None and length % fsdp == 0
    ]
    if fsdp > 1 and possible and math.prod(shape) >= MIN_SHARDED_SIZE:
      best = max(possible, key=lambda i: (i == wanted, shape[i]))
      axes[best] = 'fsdp'
  # As JAX writes them: a specification with None at its end is not equal to the
  # one without, though both mean the same.
  while axes and axes[-1] is None:
    axes.pop()
  return axes
