"""Parameters by name, as rules and patterns mean them.

A parameter's name is its path, with slashes: 's1_block_0/expand/kernel'.
"""

from collections.abc import Callable
from typing import Any

import jax


def map_names(function: Callable[[str], Any], params: Any) -> Any:
  """Returns a tree with what a function says of each parameter's name.

  Args:
    function: function of a parameter's name.
    params: a tree of parameters, or of anything in their place: only the names
      are read. Empty sub-trees stay.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, _: function(
      jax.tree_util.keystr(path, simple=True, separator='/')
    ),
    params,
  )


def list_names(params: Any) -> list[str]:
  """Returns the names of a tree's parameters, in its order."""
  return jax.tree.leaves(map_names(lambda name: name, params))
