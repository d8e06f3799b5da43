"""Which of the dictionaries in a PyTorch checkpoint is the model's state dict.

Reading the file is `torch_file.py`'s; what stands before the names in the state
dict is `prefixes.py`'s.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

from coatnet_jax.errors import UserError
from coatnet_jax.weights.limits import MAX_NAME_LENGTH, check_count
from coatnet_jax.weights.prefixes import is_of_averages

# Where training scripts put the state dict, the first that is there; after
# averages, before other names.
_STATE_DICT_KEYS = ('state_dict', 'model_state_dict', 'model')
# What else a checkpoint has tensors in.
_OTHERS = ('optim', 'sched', 'scaler', 'rng', 'callback', 'loop')
# How deep a state dict can lie in dictionaries.
_MAX_DEPTH = 4
# How many names an error lists.
_MAX_NAMES = 10
# How many entries of dictionaries are looked at. A dictionary may be an entry
# of many others, and of itself.
_MAX_ENTRIES = 200_000


def choose_state_dict(
  content: Any, tensor_type: type, path: pathlib.Path
) -> tuple[dict[str, Any], dict[str, str]]:
  """Chooses the state dict of what a file holds.

  Args:
    content: unpickled value of the file.
    tensor_type: class that stands for a tensor in it.
    path: path of the file, for errors.

  Returns:
    The state dict, and its metadata; see `read_torch_file`.

  Raises:
    UserError: there is none.
  """
  if not isinstance(content, dict):
    raise UserError(
      f'{path} holds a {type(content).__name__.lower()}, not a state dict;'
      ' save model.state_dict() with torch.save, or as safetensors.'
    )
  found = []
  entries = 0
  for candidate in _find_state_dicts(content, tensor_type, ()):
    entries += 1 + len(candidate[1])
    if entries > _MAX_ENTRIES:
      raise UserError(
        f'{path} has the same dictionaries in each other too many times to be'
        ' a checkpoint; save model.state_dict() alone.'
      )
    if candidate[2]:
      found.append(candidate)
  # Not the one number that is a tensor beside the state dict, or of an average.
  largest = max((count for _, _, count in found), default=0)
  path_in_file, state_dict, _ = min(
    (candidate for candidate in found if 2 * candidate[2] >= largest),
    key=_preference,
    default=((), content, 0),
  )
  metadata = {}
  if path_in_file:
    metadata = {
      str(name): str(value)
      for name, value in content.items()
      if isinstance(value, str | int | float)
    }
    metadata['state_dict'] = '.'.join(path_in_file)
  check_count(len(state_dict), path)
  others = [
    str(name)
    for name, value in state_dict.items()
    if not isinstance(name, str) or not isinstance(value, tensor_type)
  ]
  if others:
    more = ', ...' if len(others) > _MAX_NAMES else ''
    raise UserError(
      f'{path} has entries in its state dict that are not tensors:'
      f' {", ".join(others[:_MAX_NAMES])}{more}; save model.state_dict() alone.'
    )
  return state_dict, metadata


def _find_state_dicts(
  content: dict, tensor_type: type, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict, int]]:
  """Yields dictionaries: keys to each, it, and its number of tensors."""
  count = sum(
    isinstance(name, str) and isinstance(value, tensor_type)
    for name, value in content.items()
  )
  yield path, content, count
  if len(path) == _MAX_DEPTH:
    return
  for key, value in content.items():
    if (
      isinstance(key, str)
      and len(key) <= MAX_NAME_LENGTH
      and isinstance(value, dict)
      and not any(other in key.lower() for other in _OTHERS)
    ):
      yield from _find_state_dicts(value, tensor_type, (*path, key))


def _preference(
  candidate: tuple[tuple[str, ...], dict, int],
) -> tuple[int, int]:
  """The order of state dicts, the smallest first."""
  path, _, count = candidate
  if any(is_of_averages(key) for key in path):
    return 0, -count
  ranks = [n + 1 for n, key in enumerate(_STATE_DICT_KEYS) if key in path]
  return min(ranks, default=len(_STATE_DICT_KEYS) + 1), -count
