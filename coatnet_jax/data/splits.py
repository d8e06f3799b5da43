"""Which pictures of a folder or a list are held out, where it does not say so.

A function of the pictures' paths and labels alone: the same pictures on every
machine, for both sides and for every fold. Every class is divided in the same
proportion. Pictures of a group, one patient's or one video's, stay together.
"""

import dataclasses
import hashlib
import itertools
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from coatnet_jax.data.image_source import format_count
from coatnet_jax.errors import UserError
from coatnet_jax.texts import printable

_PATTERN_KEY = 'config.data.group_pattern'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Division:
  """How pictures are divided into those to train on and those held out.

  Attributes:
    eval_fraction: part of each class that is held out; 1 for all, of which none
      is left to train on. Not looked at where there are folds.
    num_folds: number of parts of which one is held out: cross-validation; 0
      divides by `eval_fraction`.
    fold: number of the part that is held out, from 0.
    group_pattern: regular expression to be found in each path, which names the
      group; '' for none. See `find_groups`.
  """

  eval_fraction: float
  num_folds: int = 0
  fold: int = 0
  group_pattern: str = ''

  @property
  def holds_all_out(self) -> bool:
    """Whether all pictures are to be evaluated."""
    return self.eval_fraction == 1 and not self.num_folds

  def describe(self, training: bool) -> str:
    """Returns the name of a side: 'held-out 0.1', 'all but fold 0 of 5'."""
    if self.holds_all_out:
      return 'all'
    if self.num_folds:
      return 'all but ' * training + f'fold {self.fold} of {self.num_folds}'
    return 'not held out' if training else f'held-out {self.eval_fraction:g}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class WantedSplit:
  """Which images of a folder or of a list are wanted.

  Attributes:
    train_split: name of the training images, where these have splits: of their
      folder, or in the column of splits; '' where splits are not looked at.
    eval_split: name of the evaluation images.
    division: how the images of each class are divided where these have no
      splits of their own.
    training: whether the training images are wanted, and not those to evaluate
      on.
  """

  train_split: str
  eval_split: str
  division: Division
  training: bool

  @property
  def name(self) -> str:
    """The name of what is wanted, where there are splits."""
    return self.train_split if self.training else self.eval_split

  @property
  def side(self) -> str:
    """The name of what is wanted, where there are none."""
    return self.division.describe(self.training)

  def check_left(self, place: str) -> None:
    """Raises UserError where all images are held out, and some are wanted.

    Args:
      place: name of the folder or of the list, for people.
    """
    if self.training and self.division.holds_all_out:
      raise UserError(
        'config.data.eval_fraction is 1: all images are evaluated, and none is'
        f' left in {place} to train on.'
      )


@dataclasses.dataclass(frozen=True)
class Labelled:
  """Pictures to be divided.

  Attributes:
    paths: path of each picture in the data set, with '/' between folders.
    labels: class of each picture, [N] integers from 0.
    names: words for each class at the beginning of a message: "The class 'a'".
    groups: group of each picture; None where none are known.
    may_be_alone: whether a class may have no picture of its own, or one, which
      is trained on.
  """

  paths: Sequence[str]
  labels: np.ndarray
  names: Sequence[str]
  groups: Sequence[str] | None = None
  may_be_alone: bool = False


def find_groups(paths: Sequence[str], pattern: str) -> list[str]:
  r"""Returns the group that a pattern names of each path.

  That is what the first of the pattern's parentheses found that found anything,
  or all that it found where it has none.

  >>> find_groups(['cat/p1_a.jpg', 'dog/p1_b.jpg'], r'p\d+')
  ['p1', 'p1']
  >>> find_groups(['cat/p1_a.jpg', 'cat/x.jpg'], r'.*?(p\d+)_|(.*)')
  ['p1', 'cat/x.jpg']

  Args:
    paths: paths of the pictures in the data set.
    pattern: regular expression that names the group of a path.

  Raises:
    UserError: it is not found in a path.
  """
  search = re.compile(pattern).search
  groups, without = [], []
  for path in paths:
    if found := search(path):
      parts = [part for part in found.groups() if part is not None]
      groups.append(parts[0] if parts else found[0])
    else:
      without.append(path)
  if without:
    raise UserError(
      f'{_PATTERN_KEY} is {pattern!r}, which is not found in {len(without):,}'
      f' of {len(paths):,} paths, as {printable(without[0])!r}; it must be'
      ' found in each, to name its group. ".*?(PATTERN)|(.*)" makes a group of'
      ' its own of each picture in whose path PATTERN is not found.'
    )
  return groups


def check_groups_apart(
  pattern: str, parts: Mapping[str, Sequence[str] | None], root: str
) -> None:
  """Checks that no group has pictures in two splits that were there already.

  Args:
    pattern: `Division.group_pattern`, '' where it names no groups.
    parts: groups of the pictures of two splits, by name; None where a split has
      no groups.
    root: place of the splits, for the message.

  Raises:
    UserError: one has.
  """
  (one, of_one), (other, of_other) = parts.items()
  shared = sorted(set(of_one or ()) & set(of_other or ()))
  if shared:
    which = f', which {_PATTERN_KEY} {pattern!r} finds,' if pattern else ''
    more = len(shared) - 1
    raise UserError(
      f'The group {printable(shared[0])!r}{which} is in both {one!r} and'
      f' {other!r} of {root}'
      + (f', and {more:,} more are' if more else '')
      + '; move each group to one side.'
    )


def select_held_out(pictures: Labelled, division: Division) -> np.ndarray:
  """Returns which pictures are held out, [N] bool; some are, and some not.

  Args:
    pictures: paths, labels and groups of all pictures to be divided.
    division: how they are divided; does not hold all out.

  Raises:
    UserError: a class, or all pictures, are too few to be divided like that, or
      a class would only be held out.
  """
  groups = pictures.groups
  if division.group_pattern:
    groups = find_groups(pictures.paths, division.group_pattern)
  if division.num_folds > len(pictures.paths):
    raise UserError(
      f'config.data.num_folds is {division.num_folds}, and there are'
      f' {len(pictures.paths):,} pictures; it must be that many at most.'
    )
  if groups is not None:
    return _hold_groups_out(pictures, groups, division)
  order = _order_by_hash(pictures.paths)
  held_out = np.zeros(len(order), bool)
  place = 0  # Goes on over the classes, so that folds are equally large.
  for label, name in enumerate(pictures.names):
    members = order[pictures.labels[order] == label]
    if pictures.may_be_alone and len(members) < 2:
      continue
    if division.num_folds:
      if not pictures.may_be_alone:
        _check_at_least(name, len(members), division.num_folds)
      folds = (place + np.arange(len(members))) % division.num_folds
      held_out[members[folds == division.fold]] = True
      place += len(members)
    else:
      _check_at_least(name, len(members), 0)
      count = round(division.eval_fraction * len(members))
      held_out[members[: min(max(count, 1), len(members) - 1)]] = True
  return held_out


def _check_at_least(name: str, count: int, num_folds: int) -> None:
  """Raises UserError for a class with too few pictures."""
  if count < 2 and not num_folds:
    raise UserError(
      f'{name} has one image; it takes at least two to hold one out for'
      ' evaluation: add some, or remove the class.'
    )
  if count < num_folds:
    raise UserError(
      f'{name} has {count:,} image{"s" * (count != 1)}, fewer than the'
      f' {num_folds} of config.data.num_folds: use fewer folds, add images, or'
      ' remove the class.'
    )


def _order_by_hash(names: Sequence[str]) -> np.ndarray:
  """Returns indices in the order of hashes: mostly the same for more names."""
  hashes = [hashlib.sha256(os.fsencode(name)).digest() for name in names]
  return np.array(sorted(range(len(names)), key=hashes.__getitem__), int)


def _hold_groups_out(
  pictures: Labelled, groups: Sequence[str], division: Division
) -> np.ndarray:
  """Does what `select_held_out` does with groups that stay together.

  The largest groups come first. Each goes to the part that lacks most of its
  classes.
  """
  names, number_of = np.unique(np.array(groups, object), return_inverse=True)
  if len(names) < max(division.num_folds, 2):
    raise UserError(
      f'The images are of {format_count(len(names), "group")}, as'
      f' {printable(names[0])!r}, and no group is divided; it takes at least'
      f' {max(division.num_folds, 2)} of them.'
    )
  counts = _count_classes(number_of, pictures.labels, len(names))
  num_groups_of = np.bincount(
    np.concatenate([labels for labels, _ in counts]),
    minlength=len(pictures.names),
  )
  for label in np.flatnonzero(num_groups_of < 2):
    if pictures.may_be_alone:
      continue
    group = names[number_of[np.argmax(pictures.labels == label)]]
    raise UserError(
      f'All images of one class are in one group, {printable(group)!r}, so it'
      f' can only be trained on or held out. {pictures.names[label]} takes at'
      ' least two groups: add images, or remove the class.'
    )
  shares = np.full(division.num_folds or 1, 1 / (division.num_folds or 1))
  if not division.num_folds:
    shares = np.array([division.eval_fraction, 1 - division.eval_fraction])
  parts = _fill_parts(names, counts, shares, len(pictures.names))
  if not division.num_folds:
    _mend(parts, counts, len(pictures.names))
  held_out = parts[number_of] == division.fold
  if not pictures.may_be_alone:
    _check_trained_on(pictures, held_out)
  return held_out


def _check_trained_on(pictures: Labelled, held_out: np.ndarray) -> None:
  """Raises UserError for a class whose pictures are all held out."""
  size = len(pictures.names)
  total = np.bincount(pictures.labels, minlength=size)
  out = np.bincount(pictures.labels[held_out], minlength=size)
  for label in np.flatnonzero((out == total) & (total > 0)):
    raise UserError(
      f'{pictures.names[label]} would only be held out, and none of its images'
      ' trained on, as no group is divided: use another'
      ' config.data.eval_fraction or number of folds, or add images of other'
      ' groups.'
    )


def _count_classes(
  number_of: np.ndarray, labels: np.ndarray, num_groups: int
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns of each group the classes that it has, and how many pictures."""
  pairs, numbers = np.unique(
    np.stack([number_of, labels], 1), axis=0, return_counts=True
  )
  ends = np.searchsorted(pairs[:, 0], np.arange(num_groups + 1))
  return [
    (pairs[start:end, 1], numbers[start:end])
    for start, end in itertools.pairwise(ends)
  ]


def _fill_parts(
  names: Sequence[str],
  counts: list[tuple[np.ndarray, np.ndarray]],
  shares: np.ndarray,
  num_classes: int,
) -> np.ndarray:
  """Returns the part that each group goes to, [G].

  Args:
    names: names of the groups.
    counts: classes of each group, and its number of pictures of each.
    shares: share of all pictures that each part is to have.
    num_classes: number of classes that the pictures are of, K.
  """
  totals = np.zeros(num_classes)
  for labels, numbers in counts:
    totals[labels] += numbers
  have = np.zeros((len(shares), num_classes))
  parts = np.zeros(len(names), int)
  by_hash = _order_by_hash(names)
  sizes = np.array([numbers.sum() for _, numbers in counts])
  for group in by_hash[np.argsort(-sizes[by_hash], kind='stable')]:
    labels, numbers = counts[group]
    total = totals[labels]
    # How much worse the part's squared distance from its share becomes.
    lacks = shares[:, None] * total - have[:, labels]
    cost = ((numbers - 2 * lacks) * numbers / total**2).sum(1) / shares
    fullness = have.sum(1) / shares
    part = min(
      range(len(shares)),
      key=lambda part, cost=cost, full=fullness: (
        round(cost[part], 9),
        round(full[part], 9),
        part,
      ),
    )
    parts[group] = part
    have[part, labels] += numbers
  return parts


def _mend(
  parts: np.ndarray,
  counts: list[tuple[np.ndarray, np.ndarray]],
  num_classes: int,
) -> None:
  """Moves the smallest group that will do for each class that a side lacks."""
  sizes = [numbers.sum() for _, numbers in counts]
  by_size = sorted(range(len(counts)), key=lambda group: (sizes[group], group))
  for side in (1, 0):  # What is trained on is the more important.
    for label in range(num_classes):
      on_side = np.zeros((2, num_classes), int)
      for group, (labels, _) in enumerate(counts):
        on_side[parts[group], labels] += 1
      if on_side[side, label]:
        continue
      for group in by_size:
        labels, _ = counts[group]
        # The other side keeps a group of each of its classes.
        keeps = (on_side[1 - side, labels] > 1).all()
        if parts[group] != side and label in labels and keeps:
          parts[group] = side
          break
