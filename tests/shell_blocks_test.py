"""Every command of the documents' shell blocks is run, as it stands.

In a directory that has what the documents speak of: a tiny trained run,
folders of pictures, a list, a prepared data set and files of weights, each made
by this project's own programs. `shell_blocks.py` says what is run elsewhere or
cannot be run, and why.
"""

import contextlib
import csv
import importlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable

import pytest

import main
from coatnet_jax.data.tfds_source import create_tfds_source
from tests import documents, shell_blocks
from tests.documents import ROOT

COMMANDS = shell_blocks.list_commands()
NOT_RUN = shell_blocks.list_patterns()
SERVED = (*shell_blocks.SERVERS, *shell_blocks.CLIENTS)
# Options whose value is what a command makes.
_MADE = re.compile(
  r'--(out|workdir|output_dir|results|directory|json|dry_run|name|repo)='
)
_THINGS = (
  *(*shell_blocks.RUNS, *shell_blocks.FOLDERS, *shell_blocks.WEIGHTS),
  *('DATA', 'DIR', 'cat.jpg'),
)
# Folders of the pictures, by class; and the pictures that pages speak of.
_KINDS = {1: 'trousers', 3: 'dresses', 5: 'shoes', 7: 'shoes', 8: 'bags'}
_NUMBERS = (*range(0, 2000, 20), 1002, 1014)

pytestmark = pytest.mark.slow


def choose(is_chosen: Callable[[str], bool]) -> list[str]:
  """Returns one of those that differ but in what they call a run, say."""
  found = {
    shell_blocks.unify(words): command
    for command, words in COMMANDS.items()
    if is_chosen(command)
  }
  return list(found.values())


RUN = choose(lambda c: not shell_blocks.matches(c, (*NOT_RUN, *SERVED)))
SERVERS = choose(lambda c: shell_blocks.matches(c, shell_blocks.SERVERS))
CLIENTS = choose(lambda c: shell_blocks.matches(c, shell_blocks.CLIENTS))


def name_test(command: str) -> str:
  """Returns what a command's test is called."""
  return command.removeprefix('python ').removeprefix('-m ')[:90]


class Place:
  """A directory that has the things that documents speak of, once asked for."""

  def __init__(self, made: pathlib.Path, here: pathlib.Path):
    self._made = made  # Kept for all commands.
    self._here = here
    (here / 'configs').symlink_to(ROOT / 'configs')

  def provide(self, words: list[str]) -> None:
    """Puts what a command reads into the directory."""
    for word in words:
      if _MADE.match(word):
        continue
      path = word.partition('=')[2] or word
      for name in _THINGS:
        if path == name or path.startswith(f'{name}/'):
          self._put(name)

  def _put(self, name: str) -> None:
    target = self._here / name
    if target.exists():
      return
    target.parent.mkdir(parents=True, exist_ok=True)
    if name in shell_blocks.RUNS:
      shutil.copytree(self._find('run', self._train), target)
    elif name in shell_blocks.FOLDERS:
      shutil.copytree(self._find('folder', _write_pictures), target)
    elif name in shell_blocks.WEIGHTS:
      shutil.copy(self._find('file.safetensors', self._export), target)
    elif name == 'DATA':
      target.symlink_to(self._find('data', self._prepare))
    elif name == 'DIR':
      target.symlink_to(self._find('imported', self._import))
    else:
      folder = self._find('folder', _write_pictures)
      shutil.copy(folder / 'shoes' / '1002.png', target)

  def _find(self, name, make):
    path = self._made / name
    if not path.exists():
      make(path)
    return path

  def _train(self, path):
    folder = self._find('folder', _write_pictures)
    run_python(
      shell_blocks.fill(
        [
          *('python', 'main.py', '--config=configs/image_folder.py'),
          *(f'--config.data.data_dir={folder}', f'--workdir={path}'),
        ]
      )
      + ['--config.model.name=test_coatnet']
    )

  def _export(self, path):
    run = self._find('run', self._train)
    run_tool('export_weights', f'--checkpoint={run}', f'--out={path}')

  def _import(self, path):
    file = self._find('file.safetensors', self._export)
    run_tool('import_timm', f'--weights={file}', f'--out={path}')

  def _prepare(self, path):
    folder = self._find('folder', _write_pictures)
    where = (f'--source_dir={folder}', f'--output_dir={path}')
    run_tool('prepare', 'folder', '--name=my_set', *where)


def _write_pictures(folder):
  """Writes pictures as docs/tutorial.md does, and lists of them."""
  source = create_tfds_source('fashion_mnist_12k', '', 'test')
  rows = []
  for number in _NUMBERS:
    example = source[number]
    kind = _KINDS.get(example['label'])
    if kind:
      path = folder / kind / f'{number}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(example['image'])
      row = {'path': f'{kind}/{number}.png', 'label': kind}
      rows.append(row | {'split': 'train' if number % 40 else 'val'})
  with open(folder / 'labels.csv', 'w', newline='') as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
  lines = [
    json.dumps(
      {'path': r['path'], 'labels': [r['label'], 'wear'], 'split': r['split']}
    )
    for r in rows
  ]
  (folder / 'labels.jsonl').write_text('\n'.join(lines))


def run_python(words: list[str]) -> None:
  """Runs a command of Python in this process, which has JAX loaded."""
  if words[:2] == ['python', 'main.py']:
    status = main.main(words[2:])
  else:
    assert words[:2] == ['python', '-m'], f'what runs {words}?'
    status = importlib.import_module(words[2]).main(words[3:])
  assert not status


def run_tool(name: str, *arguments: str) -> None:
  """Runs a tool as `run_python` does."""
  run_python(['python', '-m', f'tools.{name}', *arguments])


@pytest.fixture(scope='module')
def made(tmp_path_factory, tiny_variant):
  """Returns the directory of what is made once for all commands."""
  return tmp_path_factory.mktemp('made')


@pytest.fixture
def place(made, tmp_path, monkeypatch):
  """Returns what a command finds, in the directory that it is run in."""
  monkeypatch.chdir(tmp_path)
  return Place(made, tmp_path)


@pytest.mark.rotating
@pytest.mark.parametrize('command', RUN, ids=name_test)
def test_a_command_runs(command, place):
  words = shell_blocks.fill(COMMANDS[command])
  place.provide(words)
  run_python(words)


@contextlib.contextmanager
def start(words):
  """Starts a server; yields its address, and ends it."""
  if words[0] == 'python':
    words = [sys.executable, *words[1:]]
  else:
    # Beside Python, whether or not the environment is activated.
    words = [str(pathlib.Path(sys.executable).with_name(words[0])), *words[1:]]
  with subprocess.Popen(
    words,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  ) as process:
    timer = threading.Timer(120, process.kill)
    timer.start()
    said = ''
    try:
      for line in process.stdout:
        said += line
        if found := re.search(r'http://[\w.]+:(\d+)', line):
          break
      else:
        raise AssertionError(said)
      yield f'http://127.0.0.1:{found[1]}'
    finally:
      process.terminate()
      process.stdout.read()
      timer.cancel()


@pytest.mark.rotating
@pytest.mark.parametrize('command', SERVERS, ids=name_test)
def test_a_server_answers(command, place):
  words = shell_blocks.fill(COMMANDS[command])
  place.provide(words)
  with start(words) as address:
    with urllib.request.urlopen(address) as answer:
      assert answer.status == 200
    if 'tools.serve' not in words:
      return
    for client in map(shell_blocks.fill, (COMMANDS[c] for c in CLIENTS)):
      place.provide([word.rpartition('@')[2] for word in client])
      if client[0] == 'python':
        run_python([*client, f'--url={address}/predict'])
        continue
      client = [w.replace('http://127.0.0.1:8000', address) for w in client]
      done = subprocess.run(
        [client[0], '--silent', *client[1:]], capture_output=True, check=True
      )
      assert json.loads(done.stdout)['predictions']


@pytest.mark.parametrize('pattern', [*NOT_RUN, *SERVED])
def test_what_a_pattern_is_for_is_there(pattern):
  assert any(shell_blocks.matches(command, (pattern,)) for command in COMMANDS)


def test_a_command_is_of_one_kind():
  for command in COMMANDS:
    found = shell_blocks.matches(command, (*NOT_RUN, *SERVED))
    assert len(found) <= 1, (command, found)
    assert found or COMMANDS[command][0] == 'python', f'what runs {command!r}?'


def test_what_is_filled_in_is_there():
  printed = {word for words in COMMANDS.values() for word in words}
  assert set(shell_blocks.FILLED) - printed == set()


@pytest.mark.parametrize('pattern', shell_blocks.ELSEWHERE)
def test_what_runs_elsewhere_is_there(pattern):
  place = shell_blocks.ELSEWHERE[pattern]
  assert place.text in (ROOT / place.file).read_text(encoding='utf-8')


def test_every_shell_block_is_looked_at():
  """That no block of another name escapes."""
  for language in ('sh', 'shell', 'console', 'zsh'):
    assert documents.find_blocks(language) == []
