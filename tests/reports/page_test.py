"""What a page says is what was measured, whatever the names and numbers are."""

import dataclasses
import re

import numpy as np
import pytest

from coatnet_jax.reports import page, pictures, sections
from coatnet_jax.reports.files import render
from coatnet_jax.reports.named_measures import collect_measures
from tests.reports.examples import Page, Pictures, create_content, draw, judge


def _read(outcomes, figures, **changes):
  return Page(page.format_page(create_content(outcomes, figures, **changes)))


def test_a_page_is_whole_and_needs_no_network():
  text = page.format_page(create_content(*draw(200, 4)))
  found = Page(text)  # Elements end where they should.
  assert 'http' not in text.replace('http-equiv', '')
  assert {name for _, name, _ in found.attributes} & {'href', 'onload'} == set()
  assert '<script' not in text
  assert "default-src 'none'" in text
  assert len(text) < 200_000


def test_keys_of_settings_break_between_their_words():
  content = create_content(*draw(200, 4))
  content.trained.config.data.data_dir = 'elsewhere'
  text = page.format_page(content)
  assert '<td class="key"><code>data.<wbr>data_<wbr>dir</code></td>' in text


def _draw_with_mistakes(num_examples, size, names, *, skill):
  """Returns outcomes and figures, and the pictures of the worst mistakes."""
  drawn = draw(num_examples, len(names), names=names, skill=skill)
  source = Pictures(num_examples, size, names)
  return drawn, pictures.show_mistakes(drawn[0], source)


def test_texts_of_data_are_shown_and_not_obeyed():
  names = (
    '<script>alert(1)</script>',
    '"quoted" & \'single\'',
    'bell\x07 \x1b[2J \u202eturned \udcff',
    'long' * 2000,
    '',
    '{{ 7 * 7 }}',
  )
  drawn, mistakes = _draw_with_mistakes(300, (30, 40), names, skill=0.5)
  found = _read(
    *drawn,
    galleries=(mistakes,),
    undecodable=('<img src=x onerror=alert(2)>',),
    rules=('</style><b>rule',),
    data=(('<dt>', '\x1b]0;title\x07'),),
    command='python main.py --workdir="<b>"',
  )
  assert not {tag for tag, _, _ in found.attributes} & {'script', 'b'}
  assert [v for t, n, v in found.attributes if (t, n) == ('img', 'src')]
  assert all(
    value.startswith('data:image/')
    for tag, name, value in found.attributes
    if (tag, name) == ('img', 'src')
  )
  assert not [n for _, n, _ in found.attributes if n.startswith('on')]
  shown = ''.join(found.texts)
  for text in (names[0], names[1], names[5], '</style><b>rule', 'onerror'):
    assert text in shown
  assert r'bell\x07 \x1b[2J \u202eturned \xff' in shown
  assert not re.search(r'[\0-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]', shown)


def test_the_numbers_of_a_page_are_those_that_were_measured():
  outcomes, figures = draw(500, 5, skill=1.0)
  content = create_content(outcomes, figures)
  found = Page(page.format_page(content))
  for name, value in collect_measures(content).items():
    assert found.numbers[name][0] == value
  assert found.numbers['count'] == [500, '500']
  assert found.numbers['top1'][1] == f'{figures["top1"]:.2%}'
  for name, interval in content.intervals.items():
    ends = [found.numbers[f'{name}_{end}'][0] for end in ('low', 'high')]
    assert ends == list(interval)
  assert 'calibration_error_low' not in found.numbers
  pairs = found.tables['confused'][1:]
  assert [[row[0][0], row[1][0], row[2][1]] for row in pairs] == [
    [pair['true'], pair['predicted'], pair['count']]
    for pair in figures['most_confused'][:8]
  ]


def test_a_class_without_images():
  found = _read(*draw(100, 3))
  row = found.tables['classes'][3]
  assert [cell[1] for cell in row][1] == 0
  assert row[3][0] == '–'  # Its recall.
  shown = ' '.join(found.texts)
  assert '1 of 3 classes have no images to evaluate on' in shown
  assert 'class 2: no curve, for want of images' in shown


def test_one_class_alone():
  found = _read(*draw(50, 1))
  assert found.numbers['top1'][0] == 1
  shown = ' '.join(found.texts)
  assert 'There is one class alone' in shown
  assert 'No class was taken for another' in shown
  assert found.tables['matrix'][1][1] == ['50', 50.0]


def test_numbers_that_are_none():
  scores = np.full((40, 3), np.nan, np.float32)
  scores[:10] = 1 / 3
  outcomes, figures = judge(scores, np.arange(40) % 3)
  found = _read(outcomes, figures)
  assert found.numbers['loss'] == [None, '–']
  assert found.numbers['top1'][0] == 0.1
  assert 'loss_low' not in found.numbers
  gallery = pictures.show_mistakes(
    judge(scores[10:], np.zeros(30, int))[0], None
  )
  assert gallery.note.startswith('No wrong prediction has a class, as the mode')
  assert not gallery.pictures
  shown = ' '.join(found.texts)
  assert 'The model computes NaN for 30 images' in shown
  assert 'There are no curves, as some probabilities are NaN.' in shown
  assert found.tables['matrix'][0][-1][0] == 'NaN'
  assert [row[-1][1] for row in found.tables['matrix'][1:]] == [10, 10, 10]


@pytest.mark.slow
@pytest.mark.rotating
def test_a_thousand_classes_of_many_images_are_under_5_megabytes():
  names = tuple(f'class number {n} of the "thousand"' for n in range(1000))
  drawn, mistakes = _draw_with_mistakes(50_000, (500, 375), names, skill=2.5)
  content = create_content(*drawn, galleries=(mistakes,))
  text = page.format_page(content)
  assert len(text.encode()) < 5e6
  found = Page(text)
  assert 'matrix' not in found.tables
  assert len(found.tables['confused']) == 1 + 20
  # The weakest, and all.
  assert len(found.tables['classes']) == 1 + 15 + 1 + 1000
  assert 'There is no matrix of more than 20 classes.' in ' '.join(found.texts)


def test_very_many_classes_have_the_weakest_alone(monkeypatch):
  outcomes, figures = draw(400, 40)
  everything = _read(outcomes, figures).tables['classes']
  monkeypatch.setattr(sections, 'MAX_LISTED', 39)
  found = _read(outcomes, figures)
  assert found.tables['classes'] == everything[:16]
  assert 'details' not in {
    tag for tag, name, value in found.attributes if value == 'all-classes'
  }


def test_many_classes_are_folded_and_have_no_matrix():
  found = _read(*draw(400, 21))
  assert 'matrix' not in found.tables
  weakest = [row[4][1] for row in found.tables['classes'][1:16]]
  everything = [row[4][1] for row in found.tables['classes'][17:]]
  assert len(everything) == 21
  assert weakest == sorted(everything[:20])[:15]  # The last has no images.
  assert 'details' in {tag for tag, _, _ in found.attributes}


def test_mistakes_are_the_most_confident_first():
  outcomes, figures = draw(200, 4, skill=1.0)
  rows = pictures.find_mistakes(outcomes)
  wrong = np.flatnonzero(~outcomes.hits)
  assert set(rows) <= set(wrong)
  confidences = outcomes.confidences
  assert list(confidences[rows]) == sorted(confidences[wrong])[::-1][:24]
  source = Pictures(200, (20, 10), outcomes.class_names, damaged=rows[:1])
  gallery = pictures.show_mistakes(outcomes, source)
  assert gallery.pictures[0].uri == ''
  assert gallery.pictures[1].uri.startswith('data:image/png;base64,')
  assert gallery.pictures[1].is_tiny
  found = _read(outcomes, figures, galleries=(gallery,))
  assert 'The picture cannot be read.' in found.texts
  large = pictures.create_picture(np.zeros((900, 300, 3), np.uint8), (), '')
  assert large.uri.startswith('data:image/jpeg;base64,')
  assert len(large.uri) < 10_000
  right = dataclasses.replace(outcomes, hits=np.ones(200, bool))
  assert pictures.show_mistakes(right, source).note == 'No prediction is wrong.'


def test_a_name_that_a_template_lacks_is_an_error():
  with pytest.raises(Exception, match='undefined'):
    render('page.html.j2', title='only this')
