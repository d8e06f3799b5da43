"""A user's path means one thing, wherever it is given."""

import argparse
import ast
import json
import os
import pathlib
import shlex

import pytest

import train
from coatnet_jax import config_flag, paths
from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.data.prepared_folders import format_preparation_command
from coatnet_jax.errors import UserError
from coatnet_jax.training import reporting
from coatnet_jax.training.workdir import claim_workdir
from coatnet_jax.weights.published import PUBLISHED_WEIGHTS
from configs import base, quickstart
from tools import command_line, import_timm

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def home(tmp_path, monkeypatch):
  """Returns a home directory; the current one is beside it."""
  home, here = tmp_path / 'home', tmp_path / 'here'
  home.mkdir()
  here.mkdir()
  monkeypatch.setenv('HOME', str(home))
  monkeypatch.chdir(here)
  return home


@pytest.mark.parametrize(
  ('typed', 'expected'),
  [
    ('~/run', 'home/run'),
    ('~/run/', 'home/run'),
    ('~', 'home'),
    ('run', 'here/run'),
    ('./run//x/.', 'here/run/x'),
    ('../run', 'run'),
    ('a b', 'here/a b'),
    (' a', 'here/ a'),
    ('lr=[1]', 'here/lr=[1]'),
    ('a*?', 'here/a*?'),
    ('./~', 'here/~'),
    ('x~y', 'here/x~y'),
    (pathlib.Path('~/run'), 'home/run'),
    (b'run', 'here/run'),
  ],
)
def test_a_path_of_this_machine(home, typed, expected):
  expected = str(home.parent / expected)
  assert str(paths.resolve_path(typed)) == expected
  assert str(paths.resolve_local_path(typed)) == expected
  # What is resolved means itself.
  assert str(paths.resolve_path(paths.resolve_path(typed))) == expected
  if isinstance(typed, str):
    assert str(command_line.parse_path(typed)) == expected
    assert str(command_line.parse_local_path(typed)) == expected


def test_above_a_link_is_above_what_it_leads_to(home):
  target = home / 'far' / 'away'
  target.mkdir(parents=True)
  pathlib.Path('link').symlink_to(target)
  assert paths.resolve_path('link/../x') == home / 'far' / 'x'
  assert paths.resolve_path('link/x') == pathlib.Path.cwd() / 'link' / 'x'


@pytest.mark.parametrize(
  ('typed', 'expected'),
  [
    ('gs://bucket/run', 'gs://bucket/run'),
    ('gs://bucket/run/', 'gs://bucket/run'),
    ('s3://bucket/a b=[1]', 's3://bucket/a b=[1]'),
    (pathlib.Path('gs://bucket/run'), 'gs://bucket/run'),
  ],
)
def test_a_path_of_a_bucket(typed, expected):
  assert str(paths.resolve_path(typed)) == expected
  with pytest.raises(UserError, match='must be on a disk of this machine'):
    paths.resolve_local_path(typed)
  with pytest.raises(UserError, match='must be on a disk of this machine'):
    paths.expand_local_path(typed)


@pytest.mark.parametrize(
  ('typed', 'problem'),
  [
    ('', 'X is empty'),
    ('  ', 'X is empty'),
    (None, 'X is None; it must be a path'),
    (3, 'X is 3; it must be a path'),
    ('a\0b', 'null character'),
    ('~nobody_of_that_name/x', 'no home directory of ~nobody_of_that_name'),
    ('https://example.org/x', 'https:// is not read'),
    ('file:///tmp/x', 'file:// is not read'),
    ('gs://', 'names no bucket'),
  ],
)
def test_no_path(typed, problem):
  with pytest.raises(UserError, match=problem):
    paths.resolve_path(typed, 'X')
  if typed in ('', '  ', 'a\0b'):
    with pytest.raises(UserError, match=problem):
      paths.expand_local_path(typed, 'X')


@pytest.mark.parametrize('key', paths.CONFIG_KEYS)
def test_keys_of_a_config(home, key):
  config = base.get_config()
  for typed, expected in (
    ('', ''),
    ('~/a', f'{home}/a'),
    ('b c/', f'{home.parent}/here/b c'),
    ('gs://bucket/x/', 'gs://bucket/x'),
  ):
    config.update_from_flattened_dict({key: typed})
    resolved = paths.resolve_config(config)
    assert _value(resolved, key) == expected
    assert _value(config, key) == typed


def _value(config, key):
  for name in key.split('.'):
    config = config[name]
  return config


def test_every_key_that_is_a_path_is_known():
  comments = (ROOT / 'configs' / 'base.py').read_text()
  for key in paths.CONFIG_KEYS:
    assert f"config.{key} = ''" in comments


def test_a_config_file_in_the_home_directory(home):
  (home / 'mine.py').write_text(
    (ROOT / 'configs' / 'quickstart.py').read_text()
  )
  parser = argparse.ArgumentParser()
  config_flag.add_config(parser)
  for flag in ('--config', '-config'):
    options, _ = config_flag.parse_with_config(parser, [f'{flag}=~/mine.py'])
    config = config_flag.load_config(options.config)
    assert config.model.name == 'coatnet_mini'


def test_nothing_else_expands_a_path():
  for directory in ('coatnet_jax', 'tools', 'configs', '.'):
    pattern = '*.py' if directory == '.' else '**/*.py'
    for file in (ROOT / directory).glob(pattern):
      if file.name != 'paths.py':
        for name in ('expanduser', 'abspath', 'type=pathlib'):
          assert name not in file.read_text(), file


@pytest.mark.parametrize(
  'workdir', ['/tmp/a b', "/x/lr=[1]'s", 'gs://bucket/a$b', '/runs/plain']
)
def test_commands_are_quoted_for_a_shell(workdir):
  figures = {'top1': 0, 'top5': 0, 'loss': 0, 'count': 1, 'step': 1}
  summary = {'steps': 1, 'seconds': 1, 'final': figures, 'best': figures}
  end = reporting.describe_end(workdir, summary)
  preparation = format_preparation_command('cifar10', workdir)
  imported = import_timm.describe(
    'coatnet_0_rw_224',
    ('a', 'b'),
    PreprocessingOptions(**PUBLISHED_WEIGHTS[0].preprocessing),
    'as it says',
    workdir,
  )
  commands = [
    line for line in f'{end}\n{imported}'.splitlines() if '--' in line
  ]
  assert len(commands) > 4
  for command in commands:
    assert any(word.endswith(f'={workdir}') for word in shlex.split(command))
  code = shlex.split(preparation)[-1]
  assert f'data_dir={json.dumps(workdir)}' in code
  ast.parse(code)


def test_a_workdir_with_checkpoints_of_nobody_is_not_gone_on_with(home):
  (home / 'run' / 'checkpoints' / '7').mkdir(parents=True)
  (home / 'run' / 'checkpoints' / '7' / '_CHECKPOINT_METADATA').write_text('{}')
  (home / 'run' / 'checkpoints' / '7' / 'commit_success.txt').touch()
  config = quickstart.get_config()
  with pytest.raises(UserError, match='has checkpoints, but no config'):
    train.train_and_evaluate(config, '~/run')
  assert os.listdir(home / 'run') == ['checkpoints']


@pytest.mark.parametrize('out', ['~/run', '../home/run', '../home//run/'])
def test_weights_are_not_imported_over_a_run(home, out):
  claim_workdir(str(home / 'run'), base.get_config())
  arguments = ['--variant=coatnet_0_rw_224', '--weights=w.pth', f'--out={out}']
  with pytest.raises(UserError, match=f'{home}/run exists already'):
    import_timm.main(arguments)
  assert os.listdir(home / 'run') == ['config.json']
