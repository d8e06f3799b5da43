import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.evaluation.label_spaces import match_classes


def _match(found, trained, **options):
  said = []
  space = match_classes(found, trained, report=said.append, **options)
  return space, said


def test_the_same_classes_need_no_word():
  space, said = _match(('a', 'b'), ('a', 'b'))
  assert said == []
  assert space.rule == ''
  assert space.candidates is None
  assert space.names == ('a', 'b')
  np.testing.assert_array_equal(space.positions, [0, 1])


def test_a_part_of_the_classes_competes_alone():
  space, said = _match(('d', 'b'), ('a', 'b', 'c', 'd'))
  assert said == []
  assert space.candidates == (1, 3)
  assert space.names == ('b', 'd')
  np.testing.assert_array_equal(space.positions, [1, 0])
  assert space.rule == (
    'only the logits of the 2 classes that the data have compete, of 4'
  )


def test_only_classes_that_occur_compete():
  space, _ = _match(tuple('abcd'), tuple('abcd'), present=[2, 0, 2])
  assert space.candidates == (0, 2)
  np.testing.assert_array_equal(space.positions, [0, -1, 1, -1])


def test_a_model_of_the_classes_that_occur_needs_no_others():
  space, _ = _match(tuple('abcd'), ('c', 'a'), present=[0, 2])
  assert space.candidates is None
  np.testing.assert_array_equal(space.positions, [1, -1, 0, -1])


def test_another_order_is_found_by_name():
  space, said = _match(('b', 'a', 'c'), ('a', 'b', 'c'))
  assert said == []
  np.testing.assert_array_equal(space.positions, [1, 0, 2])
  assert space.candidates is None
  assert 'another order' in space.rule


def test_more_classes_than_the_model_has_are_refused():
  with pytest.raises(
    UserError, match=r"have 3 classes and the model has 2: .* 'x' is none"
  ):
    _match(('a', 'b', 'x'), ('a', 'b'))


def test_a_class_that_occurs_twice_is_refused():
  with pytest.raises(UserError, match=r'a name that occurs twice is none'):
    _match(('a', 'a'), ('a', 'b', 'c'))


def test_a_class_of_another_number_is_refused_among_new_names():
  with pytest.raises(
    UserError, match=r"'a' is 2 in the data and 0 in the model\."
  ):
    _match(('x', 'b', 'a'), ('a', 'b', 'c'))


def test_how_many_have_another_number_is_said():
  with pytest.raises(UserError, match=r"'b' is 0 in .* 1 in .*, and 1 more\."):
    _match(('b', 'a', 'x'), ('a', 'b', 'c'))


def test_new_names_are_taken_for_the_old_ones_and_said():
  space, said = _match(('0', 'b', '2'), ('a', 'b', 'c'))
  (line,) = said
  assert '2 classes have other names' in line
  assert "'0' for 'a'" in line
  assert space.names == ('a', 'b', 'c')
  np.testing.assert_array_equal(space.positions, [0, 1, 2])
