"""JSON as every program reads it: without NaN and Infinity, which are none.

What is read may have been damaged, or made to do harm: `read_mapping`.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from etils import epath

from coatnet_jax.paths import is_plain_file

# Far more than any file of this project has, and read in a moment.
MAX_BYTES = 64 << 20
_MAX_DEPTH = 100


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
  text = json.dumps(null_for_nan(tree), allow_nan=False, **options)
  # The one control character that `json` leaves, which is in texts alone.
  return text.replace('\x7f', '\\u007f')


def read_mapping(path: epath.Path) -> dict[str, Any]:
  """Returns what a file of JSON says, which is a mapping.

  Args:
    path: path of the file, perhaps gs://...

  Raises:
    FileNotFoundError: there is none.
    ValueError: it is not as it has to be, or too large to be that; with the
      reason, for after the file's name.
    Exception: it cannot be read. What reads buckets raises kinds of its own.
  """
  size = path.stat().length
  if not is_plain_file(path):
    raise ValueError('is no file')
  if size > MAX_BYTES:
    raise ValueError(f'is too large to be what it should: {size:,} bytes')
  content = path.read_bytes()
  try:
    tree = json.loads(content.decode())
  except (ValueError, RecursionError) as error:  # No UTF-8 is a ValueError.
    raise ValueError(f'is no JSON ({error})') from error
  if not isinstance(tree, dict):
    raise ValueError('is no JSON of a mapping')
  _check_depth(tree)
  return tree


def _check_depth(tree: Any) -> None:
  """Raises ValueError for a tree that functions of trees fail on."""
  level = [tree]
  for _ in range(_MAX_DEPTH):
    level = [
      value
      for node in level
      if isinstance(node, dict | list)
      for value in (node.values() if isinstance(node, dict) else node)
    ]
    if not level:
      return
  raise ValueError('is nested too deeply')


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
