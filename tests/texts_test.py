"""Small texts as people's systems write them, and names as they have them."""

import codecs
import os

import pytest

from coatnet_jax import texts
from coatnet_jax.errors import UserError


@pytest.mark.parametrize(
  'data',
  [
    b'cat\ndog\n',
    b'cat\r\ndog\r\n',
    b'cat\rdog',
    b'  cat\t\n dog  \n\n\n',
    codecs.BOM_UTF8 + b'cat\ndog',
    codecs.BOM_UTF16_LE + 'cat\ndog\n'.encode('utf-16-le'),
    codecs.BOM_UTF16_BE + 'cat\r\ndog'.encode('utf-16-be'),
    codecs.BOM_UTF32_LE + 'cat\ndog'.encode('utf-32-le'),
  ],
)
def test_lines_are_names_however_they_are_written(tmp_path, data):
  path = tmp_path / 'classes.txt'
  path.write_bytes(data)
  assert texts.read_lines(path) == ['cat', 'dog']
  assert texts.read_names(path, 'The list') == ('cat', 'dog')


def test_space_inside_a_name_and_lines_between_stay(tmp_path):
  path = tmp_path / 'classes.txt'
  path.write_text('maine  coon\n\nsphynx\n')
  assert texts.read_lines(path) == ['maine  coon', '', 'sphynx']
  path.write_text('')
  assert texts.read_lines(path) == []


@pytest.mark.parametrize(
  ('text', 'problem'),
  [
    ('\n\n', 'is empty'),
    ('cat\n\ndog', 'nothing in line 2'),
    ('cat\ndog\ncat', 'has cat twice, in lines 1 and 3'),
  ],
)
def test_what_is_no_list_of_names(tmp_path, text, problem):
  path = tmp_path / 'classes.txt'
  path.write_text(text)
  with pytest.raises(UserError, match=problem):
    texts.read_names(path, 'The list')


@pytest.mark.parametrize(
  ('name', 'shown'),
  [
    ('caf\u00e9', 'caf\u00e9'),
    (os.fsdecode(b'caf\xe9'), 'caf\\xe9'),
    ('a\nb', 'a\\x0ab'),
    ('\x1b[2J', '\\x1b[2J'),
    ('\u732b', '\u732b'),
  ],
)
def test_names_are_shown_as_they_are_and_nothing_is_done(name, shown):
  assert texts.printable(name) == shown
