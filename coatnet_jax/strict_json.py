"""JSON as every program reads it: without NaN and Infinity, which are none."""

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(tree: Any, **options: Any) -> str:
  """Returns a tree as JSON; null for a number that is not finite.

  >>> to_json({'loss': float('nan'), 'step': 3})
  '{"loss": null, "step": 3}'

  Args:
    tree: tree of mappings and sequences, and of values that JSON has.
    **options: further options, those of `json.dumps`.

  Raises:
    TypeError: JSON has no such value.
  """
  return json.dumps(null_for_nan(tree), allow_nan=False, **options)


def is_finite(numbers: Mapping[str, float | None]) -> bool:
  """Returns whether all numbers are finite; None, as JSON has it, is not.

  >>> is_finite({'loss': 0.5}), is_finite({'loss': float('nan')})
  (True, False)
  """
  return all(n is not None and math.isfinite(n) for n in numbers.values())


def null_for_nan(tree: Any) -> Any:
  """Returns a tree with None for numbers that are not finite.

  >>> null_for_nan([1.0, float('inf')])
  [1.0, None]
  """
  if isinstance(tree, Mapping):
    return {key: null_for_nan(value) for key, value in tree.items()}
  if isinstance(tree, list | tuple):
    return [null_for_nan(value) for value in tree]
  if isinstance(tree, float) and not math.isfinite(tree):
    return None
  return tree
