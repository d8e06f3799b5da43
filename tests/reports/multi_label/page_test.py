"""A page of several labels says what was measured, and shows the mistakes."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from coatnet_jax.errors import UserError
from coatnet_jax.reports import comparison, page
from coatnet_jax.reports.multi_label import mistakes
from tests.reports.examples import Page, Pictures, create_content, draw
from tests.reports.multi_label.examples import draw_labels, judge_labels


def _read(outcomes, figures, **changes):
  return Page(page.format_page(create_content(outcomes, figures, **changes)))


def test_the_numbers_of_a_page_are_those_that_were_measured():
  outcomes, figures = draw_labels(300, 5)
  content = create_content(outcomes, figures)
  found = Page(page.format_page(content))
  for name in ('mean_average_precision', 'micro_f1', 'macro_f1', 'loss'):
    assert found.numbers[name][0] == figures[name]
  for name in ('top1', 'top5', 'count'):
    assert found.numbers[name][0] == figures[name]
  for name, interval in content.intervals.items():
    ends = [found.numbers[f'{name}_{end}'][0] for end in ('low', 'high')]
    assert ends == list(interval)
  head, *rows, absent = found.tables['classes']
  assert [cell[0] for cell in head] == [
    *('class', 'images', 'AP', 'precision', 'recall', 'F1')
  ]
  for row, one in zip(rows, figures['per_class'], strict=True):
    names = ('count', 'average_precision', 'precision', 'recall', 'f1')
    assert row[0][0] == one['class']
    assert [cell[1] for cell in row[1:]] == [one[name] for name in names]
  assert absent[1][1] == 0
  assert absent[2][0] == '–'
  assert found.series['ap'] == pytest.approx(
    [one['average_precision'] for one in figures['per_class']]
  )
  assert 'matrix' not in found.tables
  shown = ' '.join(found.texts)
  assert '1 of 5 classes have no images to evaluate on' in shown
  bare = int((~outcomes.targets.any(axis=1)).sum())
  assert bare > 0
  assert f'{bare} of the images have no label' in shown


def test_bins_are_those_of_scikit_learn():
  outcomes, figures = draw_labels(300, 5)
  rows = _read(outcomes, figures).tables['bins'][1:]
  there, said = calibration_curve(
    outcomes.targets.ravel(), outcomes.probabilities.ravel(), n_bins=15
  )
  assert sum(row[1][1] for row in rows) == 1500
  rows = [row for row in rows if row[1][1]]
  np.testing.assert_allclose([row[2][1] for row in rows], said, rtol=1e-6)
  np.testing.assert_allclose([row[3][1] for row in rows], there)


def test_many_classes_have_the_weakest_by_average_precision():
  outcomes, figures = draw_labels(200, 30)
  table = _read(outcomes, figures).tables['classes']
  weakest, everything = table[1:16], table[17:]
  assert len(everything) == 30
  expected = sorted(one['average_precision'] for one in figures['per_class'])
  assert [row[2][1] for row in weakest] == expected[:15]


def test_mistakes_are_the_most_confident_of_each_image():
  logits = np.array(
    [
      [3.0, -1.0, -9.0],  # Right.
      [2.0, -5.0, 1.0],  # The first is not there, the second is missed.
      [-1.0, 4.0, -1.0],  # The first is missed.
      [9.0, np.nan, 9.0],
      [6.0, -1.0, -1.0],  # Not there.
      [-1.0, -1.0, -1.0],
    ]
  )
  targets = np.array(
    [[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], bool
  )
  names = ('ant', '<b>bee', 'cow')
  outcomes, figures = judge_labels(logits, targets, names)
  found = mistakes.find_label_mistakes(outcomes)
  assert found == [(4, 0), (1, 1), (2, 0)]
  assert mistakes.find_label_mistakes(outcomes, 1) == [(4, 0)]
  source = Pictures(6, (20, 10), names, damaged=(2,))
  gallery = mistakes.show_label_mistakes(outcomes, source)
  lines = [picture.lines for picture in gallery.pictures]
  assert lines[0][:2] == ('wrongly ant, 99.8%', 'has no label')
  assert lines[1][:2] == ('missed <b>bee, 0.7%', 'has <b>bee, cow')
  assert lines[2][:2] == ('missed ant, 26.9%', 'has ant, <b>bee')
  assert [bool(picture.uri) for picture in gallery.pictures] == [
    *(True, True, False)
  ]
  assert gallery.note.startswith('3 of 3 images of which a label is missed or')
  shown = _read(outcomes, figures, galleries=(gallery,))
  assert 'missed <b>bee, 0.7%' in shown.texts
  assert 'The model computes NaN for 1 images; they count as wrong.' in (
    shown.texts
  )
  right, _ = judge_labels(20.0 * targets[:3] - 10, targets[:3], names)
  gallery = mistakes.show_label_mistakes(right, source)
  assert gallery.note == 'No label is missed or predicted wrongly.'


def test_nothing_but_nan_is_a_page():
  logits, targets = np.full((4, 2), np.nan), np.ones((4, 2), bool)
  outcomes, figures = judge_labels(logits, targets)
  gallery = mistakes.show_label_mistakes(outcomes, None)
  assert gallery.note.startswith('There is none, but for images of which the')
  found = _read(outcomes, figures, galleries=(gallery,))
  assert found.numbers['top1'][0] == 0
  assert found.numbers['loss'] == [None, '–']


def test_runs_of_a_kind_are_compared():
  contents = [
    create_content(*draw_labels(100, 4, seed=seed)) for seed in (0, 1)
  ]
  found = Page(comparison.format_comparison(contents))
  values = [content.figures['mean_average_precision'] for content in contents]
  assert found.numbers['mean_average_precision_mean'][0] == pytest.approx(
    np.mean(values)
  )
  assert found.numbers['run2_mean_average_precision'][0] == values[1]
  with pytest.raises(UserError, match='compare those of a kind'):
    comparison.format_comparison([contents[0], create_content(*draw(50, 4))])
