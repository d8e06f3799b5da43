"""Leaves of a tree by name, as rules, patterns and files of weights mean them.

A leaf's name is its path, with slashes: 's1_block_0/expand/kernel'. A tree is
any of JAX's: flax.traverse_util knows dictionaries alone, and a state is more.
"""

from collections.abc import Callable
from typing import Any

import jax


def map_names(function: Callable[[str, Any], Any], tree: Any) -> Any:
  """Returns a tree with what a function says in the place of each leaf.

  >>> map_names(lambda name, leaf: f'{name} {leaf}', {'a': {'b': 1}, 'c': 2})
  {'a': {'b': 'a/b 1'}, 'c': 'c 2'}

  Args:
    function: function of a leaf's name and of the leaf.
    tree: tree of variables, of a state, or of anything in their place. Empty
      sub-trees stay.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: function(
      jax.tree_util.keystr(path, simple=True, separator='/'), leaf
    ),
    tree,
  )


def flatten(tree: Any) -> dict[str, Any]:
  """Returns a tree's leaves by their names, in its order.

  >>> flatten({'head': {'kernel': 1, 'bias': 2}})
  {'head/bias': 2, 'head/kernel': 1}
  """
  names = map_names(lambda name, _: name, tree)
  return dict(zip(jax.tree.leaves(names), jax.tree.leaves(tree)))
