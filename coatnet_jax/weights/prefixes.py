"""What stands before a model's names in a weights file of any format.

A model that was wrapped (DataParallel, torch.compile, Lightning) or was a part
of another is saved under longer names: 'module.stem.conv1.weight',
'model.backbone.stem.conv1.weight'. Where the name that every file of a kind has
is found, whatever stands before it is the prefix. The dictionaries in which a
PyTorch file puts a state dict are not names: `torch_file.py` looks into them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from coatnet_jax.errors import UserError

# Parts of names that wrappers put anywhere: torch.compile, FSDP, activation
# checkpointing.
_WRAPPERS = re.compile(
  r'(?<![^./])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.'
)
# What scripts call a model's averages, which a model is evaluated with.
_AVERAGES = re.compile(r'(?<![a-z])(ema|swa|averaged?|teacher)(?![a-z])')
_FIRST_NAMES = 3
_MAX_PREFIXES = 10


def is_of_averages(name: str) -> bool:
  """Returns whether a name says that averaged weights are below it.

  >>> is_of_averages('model_ema.'), is_of_averages('schema.')
  (True, False)
  """
  return _AVERAGES.search(name.lower()) is not None


def remove_wrappers(
  tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Takes the names of wrappers that can be anywhere out of tensors' names.

  >>> tensors, found = remove_wrappers({'_orig_mod.stem.weight': np.zeros(1)})
  >>> list(tensors), found
  (['stem.weight'], ['"_orig_mod." taken out of the names'])

  Args:
    tensors: arrays of the file by name.

  Returns:
    The tensors by their shorter names, and what was found, a sentence each.
  """
  wrappers = {
    match.group(1) for name in tensors for match in _WRAPPERS.finditer(name)
  }
  shorter = {_WRAPPERS.sub('', name): array for name, array in tensors.items()}
  if not wrappers or len(shorter) < len(tensors):
    return dict(tensors), []
  listed = ' and '.join(f'"{wrapper}."' for wrapper in sorted(wrappers))
  return shorter, [f'{listed} taken out of the names']


def find_prefix(
  names: Iterable[str], marks: Sequence[str], *, source: str
) -> tuple[str, str] | None:
  """Finds the prefix that the names of a file's model have.

  >>> names = ['module.stem.weight', 'module.head.weight']
  >>> find_prefix(names, ['stem.weight'], source='FILE')
  ('stem.weight', 'module.')

  Args:
    names: names of the file's tensors.
    marks: names of which every file of a model has one.
    source: name of the file in an error.

  Returns:
    The mark and its prefix, with its dot or slash, or '' where there is none;
    None if no mark is in the file. Where there are two models, that of
    averages.

  Raises:
    UserError: the file has several models.
  """
  found = [
    (mark, name.removesuffix(mark))
    for name in names
    for mark in marks
    if name == mark or name.endswith((f'.{mark}', f'/{mark}'))
  ]
  if len(found) > 1:
    averages = [
      (mark, prefix) for mark, prefix in found if is_of_averages(prefix)
    ]
    if len(averages) != 1:
      listed = ', '.join(
        sorted(f'"{prefix}"' for _, prefix in found)[:_MAX_PREFIXES]
      )
      listed += ', ...' * (len(found) > _MAX_PREFIXES)
      raise UserError(
        f'{source} has {len(found)} models, under the prefixes {listed}; save'
        ' the one to be used as a file of its own.'
      )
    found = averages
  return found[0] if found else None


def strip_prefix(
  tensors: Mapping[str, np.ndarray], prefix: str, head: Iterable[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Takes a prefix off.

  Args:
    tensors: arrays of the file by name.
    prefix: prefix that `find_prefix` found.
    head: names of the head's tensors, which may stand beside the prefix, as in
      'backbone.stem.conv1.weight' and 'head.fc.weight'.

  Returns:
    The model's tensors by its own names, and what was found, a sentence each.
  """
  if not prefix:
    return dict(tensors), []
  inside = {
    name.removeprefix(prefix): array
    for name, array in tensors.items()
    if name.startswith(prefix)
  }
  changes = [
    f'prefix "{prefix}" taken off the names of {len(inside):,} tensors'
  ]
  head = set(head)
  outside = []
  for name in tensors:
    if name.startswith(prefix):
      continue
    short = _remove_shared_parts(name, prefix)
    if short in head and short not in inside:
      inside[short] = tensors[name]
    else:
      outside.append(name)
  if outside:
    listed = ', '.join(outside[:_FIRST_NAMES])
    more = ', ...' if len(outside) > _FIRST_NAMES else ''
    changes.append(
      f'{len(outside):,} tensors without the prefix left out ({listed}{more})'
    )
  return inside, changes


def _remove_shared_parts(name: str, prefix: str) -> str:
  """Returns 'head.fc.bias' of 'module.head.fc.bias' and 'module.backbone.'."""
  while True:
    part, dot, rest = prefix.partition('.')
    if not dot or not name.startswith(part + dot):
      return name
    name, prefix = name.removeprefix(part + dot), rest
