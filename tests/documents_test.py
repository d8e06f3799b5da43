"""What the documents and the code tell people to type works as it stands."""

import argparse
import importlib
import importlib.metadata
import itertools
import os
import re
import tomllib
from collections.abc import Callable

import pytest

import main
from coatnet_jax.arguments import Parser
from coatnet_jax.config_flag import load_config, parse_with_config
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.errors import UserError
from coatnet_jax.planning.plan_config import PlannedSource
from coatnet_jax.run import create_run
from tests import documents
from tests.documents import ROOT, SOURCES, Block

# Of a small folder, ImageNet-21k and JFT-3B.
SIZES = (10_000, 14_000_000, 3_000_000_000)
# What stands for something of the reader's.
PLACEHOLDERS = {
  '--config=CONFIG': '--config=configs/quickstart.py',
  '--config=...': '--config=configs/quickstart.py',
  'tools.NAME': 'tools.variants',
  '--step=N': '--step=12',
  '--step=VALUE': '--step=12',
}
PLAN = ('--config=configs/coatnet_0.py', '--topology=v5e-16')
# Two paths that are filled in together.
FILLED = {'tools.convert_to_array_record': ['SOURCE', 'TARGET']}
# Commands of other programs.
OTHERS = (
  *(
    '.',
    '.local/bin/uv',
    '}',
    'curl',
    'docker',
    'gcloud',
    'kubectl',
    'python3',
  ),
  *('mkdocs', 'mypy', 'ruff', 'tar', 'tensorboard', 'tpu', 'tpu()'),
)
BASH = documents.find_blocks('bash')
PRINTED = [p for p in SOURCES if documents.find_printed_commands(p)]


class _ParsedError(Exception):
  """Ends a program once its own parser has taken its arguments."""


@pytest.fixture
def check(monkeypatch) -> Callable[[list[str]], None]:
  """Returns a function that fails for a command that can't be typed."""
  monkeypatch.chdir(ROOT)
  parse = Parser.parse_args

  def parse_args(self, *args, **kwargs):
    parse(self, *args, **kwargs)
    raise _ParsedError

  def load(path, changes):
    _resolve([f'--config={path}', *changes])
    raise _ParsedError

  monkeypatch.setattr(Parser, 'parse_args', parse_args)
  # A program with another parser would do here what it is for.
  monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', pytest.fail)
  for program in (
    *('tools.chaos', 'tools.plan'),
    *('benchmarks.saving_cost', 'benchmarks.steady_run'),
    'coatnet_jax.config_flag',  # What others load it by.
  ):
    monkeypatch.setattr(f'{program}.load_config', load)

  def check_command(words: list[str]) -> None:
    words = [PLACEHOLDERS.get(word, word) for word in words]
    if words[0].endswith('/python'):
      words[0] = 'python'
    if words[:2] == ['python', 'main.py']:
      _resolve([word for word in words[2:] if word != '...'])
    elif words[0] == 'launch/tpu_vm.sh':
      assert os.access(words[0], os.X_OK)
      _resolve(words[1:])
    elif words[:3] == ['python', '-m', 'pytest']:
      _check_pytest(words[3:])
    elif words[:2] == ['python', '-m']:
      _parse(words[2], words[3:])
    elif words[0] == 'pip':
      for option, path in itertools.pairwise(words):
        assert option != '-r' or (ROOT / path).is_file(), path
    else:
      assert words[0] in OTHERS

  return check_command


def _resolve(arguments: list[str]) -> None:
  """Resolves what main.py is given to a run, but for its data."""
  options, changes = parse_with_config(main.create_parser(), arguments)
  config = load_config(options.config, changes)
  # With data of the size that it is for.
  for num_examples in SIZES:
    source: ImageSource = PlannedSource('any', num_examples, 21_000)
    best_metric = config.checkpoint.best_metric
    source.has_several_labels = best_metric == 'mean_average_precision'
    try:
      create_run(config, sources=(source, source))
      return
    except UserError as error:
      last = error
  raise last


def _parse(module: str, arguments: list[str]) -> None:
  """Gives a program's own parser its arguments."""
  if module.endswith('VALUE'):
    return
  program = importlib.import_module(module)
  if not arguments:
    return  # Its name, in a sentence.
  if module == 'tools.plan':
    arguments = [
      part
      for word in arguments
      for part in (PLAN if word == '...' else (word,))
    ]
  if arguments == ['VALUE']:
    arguments = FILLED[module]
  with pytest.raises(_ParsedError):
    program.main(arguments)


def _check_pytest(arguments: list[str]) -> None:
  settings = tomllib.loads((ROOT / 'pyproject.toml').read_text())
  markers = settings['tool']['pytest']['ini_options']['markers']
  for option, value in zip(['', *arguments], [*arguments, '']):
    if option == '-m' and value:
      assert value in {marker.partition(':')[0] for marker in markers}
    elif value and not value.startswith('-'):
      assert (ROOT / value).exists()


@pytest.mark.parametrize('block', BASH, ids=lambda block: block.name)
def test_a_block_of_commands(block: Block, check):
  commands = documents.split_commands(block.text)
  assert commands
  for words in commands:
    check(words)


@pytest.mark.parametrize('path', PRINTED, ids=lambda path: path.name)
def test_commands_that_the_code_prints(path, check):
  for words in documents.find_printed_commands(path):
    check(words)


def test_commands_are_found():
  """That the tests above have something to look at."""
  assert len(BASH) > 25
  assert len(PRINTED) > 25
  printed = documents.find_printed_commands(ROOT / 'tools' / 'import_timm.py')
  assert any('--config.init_from=VALUE' in words for words in printed)


@pytest.mark.parametrize(
  'command',
  [
    'python main.py --config=configs/coatnet_0.py:nothing --workdir=D',
    'python main.py --config=configs/quickstart.py --config.model.nme=a',
    'python main.py --config=configs/quickstart.py --wrokdir=D',
    'python main.py --config=configs/quickstart.py --config.model.name=a',
    'python -m tools.evaluate --checkpoint=D --date.name=a',
    'python -m tools.predict IMAGE',
    'python -m tools.prepare imagenet --output_dir=D',
    'python -m tools.plan --config=configs/nothing.py --topology=v5e-16',
    'python -m tools.nothing',
    'python -m pytest tests/nothing_test.py',
    'pip install -r requirements-nothing.txt',
    'make it',
  ],
)
def test_a_command_that_does_not_work_is_noticed(command, check):
  (words,) = documents.split_commands(command)
  with pytest.raises((Exception, SystemExit)) as info:
    check(words)
  assert not isinstance(info.value, _ParsedError)


def test_the_versions_of_python_agree():
  """README.md, the package, requirements.txt and what CI tests last."""
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  found = re.fullmatch(r'>=3\.(\d+),<3\.(\d+)', project['requires-python'])
  versions = [f'3.{minor}' for minor in range(*map(int, found.groups()))]
  sentence = re.search(r'Needs Python (.*?) on Linux', _text('README.md'))[1]
  assert re.findall(r'3\.\d+', sentence) == versions
  first_lines = _text('requirements.txt').partition('\njax')[0]
  assert re.findall(r'\b3\.\d+', first_lines) == versions
  assert f"section 'Tests on Python {versions[-1]}'" in _text('.ci/run')


@pytest.mark.parametrize(
  'marker', ['parity', 'tpu_compiler', 'beam', 'browser', 'export', 'site']
)
def test_every_test_that_needs_more_runs_in_ci(marker):
  lines = _text('.ci/run').replace('\\\n', ' ')
  (line,) = re.findall(rf'pytest -m {marker} (.*)', lines)
  folders = [ROOT / word for word in line.split() if word.startswith('tests/')]
  marked = {
    path
    for path in (ROOT / 'tests').rglob('*_test.py')
    if f'pytest.mark.{marker}' in path.read_text(encoding='utf-8')
  }
  assert marked
  assert [
    path
    for path in marked
    if not any(path.is_relative_to(folder) for folder in folders)
  ] == []


def test_what_docs_say_fits_a_gpu_is_their_estimate():
  rows = re.findall(
    r'^\| (\d+) GB \| (\d+) images \| (\d+) \| (.+) GiB \| (.+) GiB \|$',
    _text('docs/gpu.md'),
    re.M,
  )
  parts = {}
  for card, images, number, needed, available in rows:
    parts[int(card)] = int(number)
    assert int(images) * int(number) == 4096
    assert float(needed) == round(0.4 + 4.6 + 1.7 + 0.12 * int(images), 1)
    assert float(available) == round(0.95 * int(card) * 1e9 / 2**30, 1)
    assert float(needed) < 0.9 * float(available)
  assert list(parts) == [16, 24, 40, 80]
  config = load_config('configs/coatnet_0.py:imagenet1k_one_gpu')
  assert config.training.gradient_accumulation_steps == parts[24]


def test_a_gpus_jax_is_the_version_that_the_project_takes():
  range_of_jax = r'^jax(?:\[(\w+)\])?(>=.*)$'
  (found,) = re.findall(range_of_jax, _text('requirements-gpu.txt'), re.M)
  (project,) = re.findall(range_of_jax, _text('requirements.txt'), re.M)
  assert (found[0], found[1]) == ('cuda13', project[1])
  extras = importlib.metadata.metadata('jax').get_all('Provides-Extra')
  assert {'cuda12', 'cuda13'} <= set(extras)


def test_the_stops_of_the_ways_through_the_house_exist():
  stops = re.findall(r'`([\w/]+\.py):(\w+)`', _text('docs/design.md'))
  assert len(stops) > 25
  for file, name in stops:
    assert re.search(rf'^ *(def|class) {name}\b', _text(file), re.MULTILINE), (
      name
    )


def _text(name):
  return (ROOT / name).read_text(encoding='utf-8')
