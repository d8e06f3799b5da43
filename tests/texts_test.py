"""Lists and names in any encoding, and programs in any locale."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from coatnet_jax import texts
from coatnet_jax.data.preparation.class_lists import read_class_list
from coatnet_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
NAMES = ('cat', 'great white shark', 'Löwe', '猫')
LATIN_1 = 'café'.encode('latin-1')


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize('last', ['', '{end}', '{end}  {end}{end}'])
def test_lists_are_the_same_in_every_encoding(tmp_path, encoding, end, last):
  path = tmp_path / 'names.txt'
  text = end.join(NAMES) + last.format(end=end)
  path.write_bytes(text.encode(encoding))
  assert texts.read_names(path, 'The list') == NAMES
  assert read_class_list(path) == NAMES


@pytest.mark.parametrize('mark', [b'\xff\xfe', b'\xfe\xff'])
def test_the_byte_order_is_followed(tmp_path, mark):
  encoding = 'utf-16-le' if mark == b'\xff\xfe' else 'utf-16-be'
  path = tmp_path / 'names.txt'
  path.write_bytes(mark + 'eins\nzwei'.encode(encoding))
  assert texts.read_lines(path) == ['eins', 'zwei']


def test_other_bytes_are_those_of_a_folder_of_that_name(tmp_path):
  path = tmp_path / 'names.txt'
  path.write_bytes(b'cat\n' + LATIN_1 + b'\n')
  assert texts.read_lines(path) == ['cat', r'caf\xe9']
  assert texts.printable(os.fsdecode(LATIN_1)) == r'caf\xe9'
  assert texts.printable(LATIN_1) == r'caf\xe9'


@pytest.mark.parametrize(
  ('name', 'shown'),
  [
    ('größe', 'größe'),
    ('猫.jpg', '猫.jpg'),
    ('\udcff\udcfe', r'\xff\xfe'),
    ('a\nb\x1b[31m', r'a\x0ab\x1b[31m'),
    ('\ud800', r'\ud800'),
  ],
)
def test_any_name_can_be_printed(name, shown):
  assert texts.printable(name) == shown
  shown.encode('utf-8')
  assert json.loads(json.dumps(shown)) == shown


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'is empty'),
    (b'\xef\xbb\xbf\n\n', 'is empty'),
    (b'cat\n\ndog\n', 'nothing in line 2'),
    (b'cat\ndog\ncat', 'cat twice, in lines 1 and 3'),
    (b'\x7fELF\0\0\0\x01', 'not text'),
  ],
)
def test_lists_that_are_none_are_refused(tmp_path, content, message):
  path = tmp_path / 'names.txt'
  path.write_bytes(content)
  with pytest.raises(UserError, match=message):
    texts.read_names(path, 'The list')
  with pytest.raises(UserError, match='cannot be read: No such file'):
    texts.read_names(tmp_path / 'none', 'The list')


def test_synsets_are_the_first_words_and_other_names_are_whole(tmp_path):
  path = tmp_path / 'classes.txt'
  path.write_text('n01440764 tench, Tinca tinca\r\nn01443537 goldfish\r\n')
  assert read_class_list(path) == ('n01440764', 'n01443537')
  path.write_text('n01440764 tench\npolar bear\n')
  assert read_class_list(path) == ('n01440764 tench', 'polar bear')


PROGRAM = """
import sys
from coatnet_jax import texts
if __name__ == '__main__':
  texts.use_utf8()
  from coatnet_jax.data.folder_listing import list_classes
  listed = list_classes(__import__('pathlib').Path(sys.argv[1]))
  from coatnet_jax.data.folder import FolderSource
  source = FolderSource(listed, 'all')
  print(*source.class_names, source.describe(0), 'größe', '\\udcff')
  print(open(sys.argv[2]).read())
"""


@pytest.mark.parametrize(
  'locale',
  [
    {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
    {'LC_ALL': 'POSIX'},
    {'LC_ALL': 'C.UTF-8'},
  ],
  ids=['ASCII', 'POSIX', 'UTF-8'],
)
def test_a_program_says_the_same_in_every_locale(tmp_path, locale):
  for raw in (LATIN_1, 'Löwe'.encode()):
    os.mkdir(os.fsencode(tmp_path) + b'/' + raw)
    with open(os.fsencode(tmp_path) + b'/' + raw + b'/\xfc.png', 'wb'):
      pass
  program, text = tmp_path / 'program.py', tmp_path / 'text.txt'
  program.write_text(PROGRAM, encoding='utf-8')
  text.write_text('naïve', encoding='utf-8')
  environment = {
    key: value
    for key, value in os.environ.items()
    if not key.startswith(('LC_', 'LANG', 'PYTHONUTF8'))
  }
  result = subprocess.run(
    [sys.executable, program, tmp_path, text],
    env={**environment, 'PYTHONPATH': str(ROOT), **locale},
    capture_output=True,
    check=False,
    timeout=60,
  )
  assert result.returncode == 0, result.stderr
  said = result.stdout.decode('utf-8').splitlines()
  folder = texts.printable(tmp_path)
  assert said[0] == rf'Löwe caf\xe9 {folder}/Löwe/\xfc.png größe \udcff'
  assert said[1] == 'naïve'
