"""Lists and names in any encoding, and programs in any locale."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from coatnet_jax import terminal, texts
from coatnet_jax.data.preparation.class_lists import read_class_list
from coatnet_jax.errors import UserError
from coatnet_jax.strict_json import to_json
from tools import command_line, predict

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
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(
    UserError, match='pipe cannot be read: it is a named pipe'
  ):
    texts.read_text(tmp_path / 'pipe')
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
from coatnet_jax import terminal, texts
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


# Clears a screen, rings, turns the rest around, and is half a character.
HOSTILE = 'cat\x1b[2J\x07\x9b1m\u202e\udcff\x7f\r'
SHOWN = r'cat\x1b[2J\x07\x9b1m\u202e\udcff\x7f\x0d'


def test_what_a_terminal_would_do_is_shown_by_its_number():
  assert texts.escape(f'{HOSTILE}\n\tLöwe 猫') == f'{SHOWN}\n\tLöwe 猫'
  name = texts.printable('two\nlines\t\u2066')
  assert name == r'two\x0alines\x09\u2066'


def test_names_of_others_reach_no_terminal_and_no_log(capsys, caplog):
  screen = terminal.Terminal()
  with caplog.at_level('INFO', logger='absl'):
    screen.line(HOSTILE)
    screen.moving_line(HOSTILE)
    screen.show(HOSTILE)
  assert capsys.readouterr().out == f'{SHOWN}\n' * 3
  assert [record.getMessage() for record in caplog.records] == [SHOWN] * 2
  terminal.begin(HOSTILE, HOSTILE)
  try:
    assert SHOWN[1:] in terminal.describe_activity()
    assert '\x1b' not in terminal.describe_activity()
  finally:
    terminal.begin('')
  with pytest.raises(SystemExit):
    command_line.create_bare_parser('predict', '').parse_args([HOSTILE])
  assert SHOWN in capsys.readouterr().err


def test_predictions_and_confusions_show_names_in_one_line():
  name = f'{HOSTILE}\n  99.00%  dog'
  result = {
    'image': 'a.png',
    'predictions': [
      {'class': name, 'words': [], 'label': 0, 'probability': 0.5}
    ],
  }
  lines = predict.describe_result(result).splitlines()
  # A name of a file that is no UTF-8 is shown by its bytes.
  shown = SHOWN.replace('udc', 'x')
  assert lines == ['a.png', rf'   50.00%  {shown}\x0a  99.00%  dog']
  # JSON has the name itself, and no control character.
  text = to_json(result)
  assert json.loads(text) == result
  assert text.isprintable()
