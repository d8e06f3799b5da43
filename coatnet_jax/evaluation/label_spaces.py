"""Which classes of a model the classes of a data set are.

By name, where the model has all of them, in whatever order; '7' is '007' where
all are called by numbers. By number, where there are as many and their names
are others. Nothing here reads images.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from coatnet_jax.data.folder_listing import are_numbers
from coatnet_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelSpace:
  """The classes that compete in an evaluation.

  Attributes:
    names: names of the candidates, [C], as the model has them.
    candidates: classes of the model whose logits count, in ascending order;
      None for all.
    positions: [n] int32, the place of every class of the data among the
      candidates; -1 for a class that the data don't have.
    rule: sentence for people on what that means; empty where it goes without
      saying.
  """

  names: tuple[str, ...]
  candidates: tuple[int, ...] | None
  positions: np.ndarray
  rule: str

  @property
  def num_classes(self) -> int:
    """The number of candidates, C."""
    return len(self.names)


def match_classes(
  found: Sequence[str],
  trained: Sequence[str],
  *,
  present: Sequence[int] | None = None,
  report: Callable[[str], None],
) -> LabelSpace:
  """Finds the classes of a data set among those of a model.

  Where the data have only some of the model's classes, the others don't
  compete: the largest of the remaining logits is the prediction. That is how
  ImageNet-A and -R, with 200 classes of ImageNet, are evaluated.

  >>> space = match_classes(['cat', 'owl'], ['ant', 'cat', 'owl'], report=print)
  >>> space.candidates, space.positions.tolist()
  ((1, 2), [0, 1])
  >>> print(space.rule)
  only the logits of the 2 classes that the data have compete, of 3

  Args:
    found: class names of the data.
    trained: class names of the model.
    present: labels that occur in the data; all if None.
    report: function that takes a sentence about classes that have other names.

  Raises:
    UserError: there are more or fewer classes and their names say nothing, or
      a class has another number and not all can be found by name.
  """
  found, trained_names = _comparable(found, trained)
  number = {name: label for label, name in enumerate(trained_names)}
  occurring = range(len(found)) if present is None else sorted(set(present))
  names = [found[label] for label in occurring]
  unique = len(number) == len(trained) and len(set(names)) == len(names)
  if unique and all(name in number for name in names):
    labels = {label: number[found[label]] for label in occurring}
  elif len(found) == len(trained):
    numbers = _numbers_of(found)
    _check_numbers(found, numbers, number)
    _report_names(found, numbers, trained, report)
    labels = {label: numbers[label] for label in occurring}
  else:
    raise UserError(
      f'The data have {len(names)} classes and the model has {len(trained)}:'
      ' it can only be evaluated on classes it was trained on, and'
      f' {_first_unknown(names, number)} is none of them.'
    )
  return _create_space(labels, len(found), trained)


def _create_space(
  labels: dict[int, int], num_found: int, trained: Sequence[str]
) -> LabelSpace:
  """Makes a space of the model's class of every class that occurs."""
  candidates = sorted(labels.values())
  place = {label: position for position, label in enumerate(candidates)}
  positions = np.full(num_found, -1, np.int32)
  for found, label in labels.items():
    positions[found] = place[label]
  all_compete = len(candidates) == len(trained)
  rule = ''
  if not all_compete:
    rule = (
      f'only the logits of the {len(candidates):,} classes that the data have'
      f' compete, of {len(trained):,}'
    )
  elif list(labels.values()) != candidates:
    rule = 'classes are found by name: the data have them in another order'
  return LabelSpace(
    names=tuple(trained[label] for label in candidates),
    candidates=None if all_compete else tuple(candidates),
    positions=positions,
    rule=rule,
  )


def _first_unknown(found: Sequence[str], number: dict[str, int]) -> str:
  unknown = [name for name in found if name not in number]
  return repr(unknown[0]) if unknown else 'a name that occurs twice'


def _comparable(
  found: Sequence[str], trained: Sequence[str]
) -> tuple[Sequence[str], Sequence[str]]:
  """Returns both, without leading zeros where all are numbers, and unique."""
  if not are_numbers((*found, *trained)):
    return found, trained
  plain = [
    tuple(str(int(name)) for name in names) for names in (found, trained)
  ]
  if any(len(set(names)) < len(names) for names in plain):
    return found, trained
  return plain[0], plain[1]


def _numbers_of(found: Sequence[str]) -> list[int]:
  """Returns the number of every class of the data: its name, if that is one.

  Data that were prepared with such names sorted as text have '10' before '2'.
  """
  if are_numbers(found):
    numbers = [int(name) for name in found]
    if sorted(numbers) == list(range(len(found))):
      return numbers
  return list(range(len(found)))


def _check_numbers(
  found: Sequence[str], numbers: Sequence[int], number: dict[str, int]
) -> None:
  """Raises UserError if a class of the model has another number in the data."""
  moved = [
    f'{name!r} is {label} in the data and {number[name]} in the model'
    for label, name in zip(numbers, found)
    if number.get(name, label) != label
  ]
  if moved:
    raise UserError(
      'The data have their classes in another order than the model:'
      f' {moved[0]}' + f', and {len(moved) - 1} more' * (len(moved) > 1) + '.'
    )


def _report_names(
  found: Sequence[str],
  numbers: Sequence[int],
  trained: Sequence[str],
  report: Callable[[str], None],
) -> None:
  pairs = [(name, trained[label]) for name, label in zip(found, numbers)]
  renamed = [pair for pair in pairs if pair[0] != pair[1]]
  if renamed:
    new, old = renamed[0]
    report(
      f'{len(renamed)} classes have other names in the data; they are taken'
      f' for those of the same number, {new!r} for {old!r}.'
    )
