"""Pictures of an evaluation: what stands in them, and where."""

import numpy as np
import pytest

from coatnet_jax.evaluation.eval_step import EvaluatedExamples
from coatnet_jax.figures import evaluation_pictures

NAMES = ('cat', 'dog', 'a name\nthat is far too long for it')
# A cat for a cat, twice; a cat for a dog; nothing for the third.
EXAMPLES = EvaluatedExamples(
  labels=np.array([0, 0, 0, 2]),
  predicted=np.array([0, 0, 1, -1]),
  confidences=np.array([0.9, 0.8, 0.7, np.nan], np.float32),
  images=np.zeros((3, 8, 12, 3), np.uint8),
)


def _list_texts(axes):
  return {text.get_position(): text.get_text() for text in axes.texts}


def test_rows_are_true_classes_and_columns_predicted_ones():
  figure = evaluation_pictures.draw_confusions(
    EXAMPLES.labels, EXAMPLES.predicted, NAMES
  )
  (axes,) = figure.axes
  assert (axes.get_xlabel(), axes.get_ylabel()) == ('predicted', 'true class')
  counts = _list_texts(axes)  # By column and row.
  assert counts[0, 0] == '2'
  assert counts[1, 0] == '1'
  assert sum(map(int, counts.values())) == 3
  shares = axes.images[0].get_array()
  np.testing.assert_allclose(shares[0], [2 / 3, 1 / 3, 0])
  names = [label.get_text() for label in axes.get_yticklabels()]
  assert names == [label.get_text() for label in axes.get_xticklabels()]
  assert names[:2] == ['cat', 'dog']
  assert len(names[2]) == 16


@pytest.mark.parametrize(('count', 'has_numbers'), [(20, True), (21, False)])
def test_numbers_of_many_classes_are_left_out(count, has_numbers):
  figure = evaluation_pictures.draw_confusions(
    EXAMPLES.labels, EXAMPLES.predicted, [str(n) for n in range(count)]
  )
  assert bool(figure.axes[0].texts) == has_numbers


def test_predictions_say_what_is_wrong():
  figure = evaluation_pictures.draw_predictions(EXAMPLES, NAMES)
  titles = [axes.get_title() for axes in figure.axes]
  assert titles == ['cat, 90%', 'cat, 80%', 'dog, 70%\nis cat', '']
  assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 0]
  nothing = EXAMPLES._replace(
    labels=np.array([2]), predicted=np.array([-1]), images=EXAMPLES.images[:1]
  )
  (axes,) = evaluation_pictures.draw_predictions(nothing, NAMES).axes
  assert axes.get_title().startswith('nothing\nis a name')


@pytest.mark.parametrize(
  ('num_classes', 'num_images', 'names'),
  [
    (3, 3, {'eval/confusions', 'eval/predictions'}),
    (40, 0, {'eval/confusions'}),
    (41, 3, {'eval/predictions'}),
    (1000, 0, set()),
  ],
)
def test_what_cannot_be_read_is_not_drawn(num_classes, num_images, names):
  found = evaluation_pictures.draw_evaluation(
    EXAMPLES._replace(images=EXAMPLES.images[:num_images]),
    ['猫'] * num_classes,  # The font does not have it.
  )
  assert set(found) == names
  for picture in found.values():
    assert picture.dtype == np.uint8
    assert picture.shape[0] == 1
    assert picture.shape[-1] == 3
    assert picture.std() > 0
