"""Several runs on a page: mean, spread, and in what they differ."""

import dataclasses

import numpy as np
import pytest
from ml_collections import ConfigDict

from coatnet_jax.reports import comparison
from coatnet_jax.reports.named_measures import MEASURES, collect_measures
from tests.reports.examples import Page, create_content, draw


def _contents(number, names=None, **changes):
  contents = []
  for seed in range(number):
    content = create_content(*draw(200, 4, seed=seed, names=names), **changes)
    config = content.trained.config.to_dict()
    config['seed'] = seed
    trained = dataclasses.replace(content.trained, config=ConfigDict(config))
    contents.append(dataclasses.replace(content, trained=trained))
  return contents


def test_mean_and_spread_are_over_runs():
  contents = _contents(3)
  found = Page(comparison.format_comparison(contents))
  for name in MEASURES:
    values = [collect_measures(content)[name] for content in contents]
    assert [found.numbers[f'run{n}_{name}'][0] for n in (1, 2, 3)] == values
    expected = (np.mean(values), np.std(values, ddof=1), *np.sort(values)[::2])
    words = ('mean', 'deviation', 'least', 'largest')
    shown = [found.numbers[f'{name}_{word}'][0] for word in words]
    assert shown == pytest.approx(expected)
  f1 = [content.classes.f1 for content in contents]
  rows = found.tables['classes'][1:]
  assert [row[1][1] for row in rows] == pytest.approx(np.mean(f1, axis=0))
  assert [row[2][1] for row in rows] == pytest.approx(
    np.std(f1, axis=0, ddof=1)
  )
  assert [[cell[0] for cell in row] for row in found.tables['differences']] == [
    ['key', 'run 1', 'run 2', 'run 3'],
    ['seed', '0', '1', '2'],
  ]


def test_runs_of_other_images_and_classes():
  first, second = _contents(2)
  other = dataclasses.replace(
    create_content(*draw(100, 3)), data=(('Evaluated on', '<other> images'),)
  )
  found = Page(comparison.format_comparison([first, other]))
  shown = ' '.join(found.texts)
  assert 'not evaluated on the same images' in shown
  assert '<other> images' in shown
  assert 'The runs have other classes.' in shown
  assert 'classes' not in found.tables
  same = ' '.join(Page(comparison.format_comparison([first, second])).texts)
  assert 'not evaluated on the same images' not in same


def test_names_are_not_obeyed_there_either():
  names = ('<b>', '"', '&amp;', 'x\x1b[2J')
  contents = _contents(2, names=names, rules=('<i>damaged</i>',))
  found = Page(comparison.format_comparison(contents))
  assert not {tag for tag, _, _ in found.attributes} & {'b', 'i'}
  shown = ''.join(found.texts)
  assert 'Run 2: <i>damaged</i>' in shown
  assert [row[0][0] for row in found.tables['classes'][1:]] == [
    *names[:3],
    r'x\x1b[2J',
  ]


def _set_f1(content, values):
  classes = dataclasses.replace(content.classes, f1=np.array(values))
  return dataclasses.replace(content, classes=classes)


def test_a_class_counts_in_the_runs_that_have_it():
  nan = float('nan')
  contents = [
    _set_f1(content, values)
    for content, values in zip(
      _contents(3),
      [[0.5, nan, nan, 1.0], [0.7, 0.4, nan, 1.0], [0.6, 0.2, nan, 1.0]],
    )
  ]
  found = Page(comparison.format_comparison(contents))
  means = [row[1][1] for row in found.tables['classes'][1:]]
  assert means == [pytest.approx(0.6), pytest.approx(0.3), None, 1.0]
  assert found.tables['classes'][2][2][1] == pytest.approx(0.2 / 2**0.5)


def test_of_very_many_classes_there_are_the_weakest(monkeypatch):
  contents = [
    _set_f1(content, values)
    for content, values in zip(
      _contents(2), [[0.5, 0.9, np.nan, 0.1], [0.5, np.nan, np.nan, 0.2]]
    )
  ]
  monkeypatch.setattr(comparison, 'MAX_LISTED', 3)
  monkeypatch.setattr(comparison, 'NUM_WEAKEST', 2)
  found = Page(comparison.format_comparison(contents))
  rows = [row[0][0] for row in found.tables['classes'][1:]]
  assert rows == ['class 3', 'class 0']
  assert 'The 2 of 4 classes with the smallest mean:' in found.texts
