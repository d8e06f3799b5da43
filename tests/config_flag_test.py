"""--config and --config.KEY=VALUE, in every form that they may have."""

import subprocess
import sys

import pytest

import main
from coatnet_jax.config_flag import load_config, parse_with_config
from coatnet_jax.errors import UserError
from tests.documents import ROOT
from tests.main_process import run_main

FILE = f'{ROOT}/configs/image_folder.py'
STUDY = f'{ROOT}/configs/transfer_study.py'


def _parse(*words):
  options, changes = parse_with_config(main.create_parser(), words)
  return options, load_config(options.config, changes)


@pytest.mark.parametrize(
  'words',
  [
    [f'--config={FILE}', '--workdir=D', '--config.seed=3'],
    ['--config', FILE, '--workdir', 'D', '--config.seed', '3'],
    ['-config', FILE, '-workdir', 'D', '-config.seed', '3'],
    ['--config.seed=3', '--workdir=D', f'--config={FILE}'],
    [f'--config={FILE}', '--config.seed=1', '--workdir=D', '--config.seed=3'],
  ],
)
def test_order_dashes_and_equals_signs_do_not_matter(words):
  options, config = _parse(*words)
  assert (options.config, options.workdir) == (FILE, 'D')
  assert config.seed == 3


@pytest.mark.parametrize(
  ('words', 'key', 'value'),
  [
    (['--config.model.scan_blocks'], 'scan_blocks', True),
    (['--config.model.scan_blocks=true'], 'scan_blocks', True),
    (['--noconfig.model.scan_blocks'], 'scan_blocks', False),
    (['--config.model.remat=blocks'], 'remat', 'blocks'),
    (['--config.model.head_bias_init=-10'], 'head_bias_init', -10.0),
    (['--config.model.head_bias_init', '-10'], 'head_bias_init', -10.0),
  ],
)
def test_values_of_every_type(words, key, value):
  _, config = _parse(f'--config={FILE}', *words)
  assert config.model[key] == value


@pytest.mark.parametrize(
  'words',
  [
    ['--config.preprocessing.image_size=(32, 48)'],
    ['--config.preprocessing.image_size=32,48'],
    [f'--config.preprocessing.image_size={size}' for size in (32, 48)],
  ],
)
def test_a_tuple(words):
  assert load_config(FILE, words).preprocessing.image_size == (32, 48)


def test_a_phase():
  rates = [
    load_config(f'{STUDY}{phase}').schedule.peak_learning_rate
    for phase in ('', ':pretrain', ':finetune')
  ]
  assert rates[0] == rates[1] != rates[2]


def test_the_command_line_is_read_without_jax():
  """So that the help is there at once."""
  code = (
    'import sys, main\n'
    'main.create_parser().format_help()\n'
    "sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
  )
  assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0


def test_help_has_every_argument_and_more_than_one_name():
  texts = [
    run_main(flag).stdout
    for flag in ('--help', '-h', '--helpshort', '--helpfull')
  ]
  assert len(set(texts)) == 1
  for name in (
    '--config FILE[:PHASE]',
    '--config.KEY=VALUE',
    '--workdir',
    '--coordinator_address',
    '--num_processes',
    '--process_id',
    '--connect_timeout_seconds',
    '--hang_timeout_seconds',
  ):
    assert name in texts[0]


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    ([f'--confg={FILE}', '--workdir=D'], "'confg' .*; did you mean --config"),
    ([f'--config={FILE}', '--workdr=D'], "'workdr' .*; did you mean --workdir"),
    ([f'--config={FILE}', '--workdir=D', '--nowhere'], "flag 'nowhere'"),
  ],
)
def test_a_flag_that_is_none_is_named_and_not_the_one_that_is_missing(
  words, message
):
  with pytest.raises(UserError, match=message):
    _parse(*words)
