"""Which pictures are held out: folds, groups, and what cannot be divided."""

import numpy as np
import pytest

from coatnet_jax.data.splits import (
  Division,
  Labelled,
  check_groups_apart,
  find_groups,
  select_held_out,
)
from coatnet_jax.errors import UserError


def _pictures(*counts, group_size=0, prefix=''):
  """So many pictures of each class, whose paths name groups."""
  labels = np.repeat(np.arange(len(counts)), counts)
  paths = [
    f'{label}/{prefix}g{label}_{number // max(group_size, 1)}_{number}.jpg'
    for label, count in enumerate(counts)
    for number in range(count)
  ]
  names = [f'The class {label}' for label in range(len(counts))]
  return Labelled(paths=paths, labels=labels, names=names)


# Held out of the second class.
KNOWN = ['1/g1_2_2.jpg', '1/g1_3_3.jpg', '1/g1_8_8.jpg']


def _divide(pictures, **options):
  division = Division(**{'eval_fraction': 0.1, **options})
  return select_held_out(pictures, division)


def _counts(pictures, chosen):
  return np.bincount(
    pictures.labels[chosen], minlength=len(pictures.names)
  ).tolist()


def test_folds_have_each_picture_once_and_each_class_equally():
  pictures = _pictures(53, 12, 5)
  folds = [_divide(pictures, num_folds=5, fold=fold) for fold in range(5)]
  assert (np.sum(folds, axis=0) == 1).all()
  for fold in folds:
    a, b, c = _counts(pictures, fold)
    assert a in (10, 11)
    assert b in (2, 3)
    assert c == 1
  assert {int(fold.sum()) for fold in folds} == {14}


def test_folds_are_the_same_whatever_the_order():
  pictures = _pictures(20, 10)
  held_out = _divide(pictures, num_folds=3, fold=1)
  chosen = {pictures.paths[i] for i in np.flatnonzero(held_out)}
  order = np.random.default_rng(0).permutation(30)
  shuffled = Labelled(
    paths=[pictures.paths[i] for i in order],
    labels=pictures.labels[order],
    names=pictures.names,
  )
  held_out = _divide(shuffled, num_folds=3, fold=1)
  assert {shuffled.paths[i] for i in np.flatnonzero(held_out)} == chosen
  # By a hash of the path: the same on any machine.
  assert sorted(path for path in chosen if path.startswith('1')) == KNOWN


@pytest.mark.parametrize('options', [{}, {'num_folds': 4, 'fold': 2}])
def test_groups_are_never_divided(options):
  pictures = _pictures(80, 40, 24, group_size=4)
  pattern = r'g\d_\d+'
  held_out = _divide(
    pictures, eval_fraction=0.25, group_pattern=pattern, **options
  )
  groups = find_groups(pictures.paths, pattern)
  sides = {}
  for group, side in zip(groups, held_out.tolist(), strict=True):
    assert sides.setdefault(group, side) == side
  difference = np.array(_counts(pictures, held_out)) - [20, 10, 6]
  assert np.abs(difference).max() <= 4


def test_folds_of_groups_are_stratified():
  """Each fold has a fourth of each class, as far as groups allow."""
  pictures = _pictures(80, 40, 24, group_size=2)
  folds = [
    _divide(pictures, num_folds=4, fold=fold, group_pattern=r'g\d_\d+')
    for fold in range(4)
  ]
  assert (np.sum(folds, axis=0) == 1).all()
  for fold in folds:
    difference = np.array(_counts(pictures, fold)) - [20, 10, 6]
    assert np.abs(difference).max() <= 2


def test_groups_that_have_several_classes_stay_together():
  pictures = Labelled(
    paths=[f'{n}.jpg' for n in range(60)],
    labels=np.arange(60) % 3,
    names=['The class a', 'The class b', 'The class c'],
    groups=[f'patient {n // 6}' for n in range(60)],
  )
  held_out = _divide(pictures, eval_fraction=0.2)
  assert held_out.reshape(10, 6).all(1).sum() == 2
  assert _counts(pictures, held_out) == [4, 4, 4]


def test_a_class_of_two_groups_has_one_on_each_side():
  pictures = _pictures(90, 4, group_size=2)
  held_out = _divide(pictures, group_pattern=r'g\d_\d+', eval_fraction=0.1)
  assert _counts(pictures, held_out)[1] == 2
  assert _counts(pictures, ~held_out)[1] == 2


def test_a_group_is_what_stands_in_parentheses():
  paths = ['a/p12_left.jpg', 'b/p12_right.jpg', 'b/p3_left.jpg']
  assert find_groups(paths, r'p(\d+)_') == ['12', '12', '3']
  assert find_groups(paths, r'p\d+') == ['p12', 'p12', 'p3']
  assert find_groups(paths, r'.*?(p\d+)_right|(.*)') == [
    paths[0],
    'p12',
    paths[2],
  ]
  with pytest.raises(
    UserError, match=r"not found in 1 of 3 paths, as 'b/p3_left.jpg'"
  ):
    find_groups(paths, r'p1(\d)')


@pytest.mark.parametrize(
  ('counts', 'options', 'message'),
  [
    ((3, 1), {}, 'The class 1 has one image; it takes at least two'),
    (
      (9, 3),
      {'num_folds': 5},
      'The class 1 has 3 images, fewer than the 5 of config.data.num_folds',
    ),
    ((2, 2), {'num_folds': 5}, 'num_folds is 5, and there are 4 pictures'),
    (
      (4, 4),
      {'group_pattern': r'^\d'},
      "All images of one class are in one group, '0'",
    ),
    (
      (4, 4),
      {'group_pattern': 'g'},
      "The images are of 1 group, as 'g', and no",
    ),
    (
      (4, 4),
      {'group_pattern': r'g\d', 'num_folds': 3},
      'The images are of 2 groups, .* takes at least 3 of them',
    ),
  ],
)
def test_what_cannot_be_divided_is_said(counts, options, message):
  with pytest.raises(UserError, match=message):
    _divide(_pictures(*counts), **options)


def test_a_group_in_both_splits_is_named():
  check_groups_apart('p', {'train': ['1', '2'], 'val': ['3']}, 'F')
  check_groups_apart('', {'train': None, 'val': None}, 'F')
  message = "group '2', which .*group_pattern 'p' finds, is in both 'train' and"
  with pytest.raises(UserError, match=message):
    check_groups_apart('p', {'train': ['1', '2'], 'val': ['2', '3']}, 'F')


def test_a_side_says_what_it_is():
  division = Division(eval_fraction=0.25)
  assert division.describe(True) == 'not held out'
  assert division.describe(False) == 'held-out 0.25'
  division = Division(eval_fraction=1.0, num_folds=5, fold=2)
  assert division.describe(True) == 'all but fold 2 of 5'
  assert division.describe(False) == 'fold 2 of 5'
  assert not division.holds_all_out
