"""What a person sees who gets the command line wrong."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.main_process import run_main, start_main

ROOT = pathlib.Path(__file__).parents[1]
QUICKSTART = '--config=configs/quickstart.py'


def _config_file(directory, line):
  path = directory / 'mine.py'
  path.write_text(
    'from configs import base\n\n\ndef get_config():\n'
    f'  config = base.get_config()\n  {line}\n  return config\n'
  )
  return f'--config={path}'


def _check(process, workdir, *messages):
  assert process.returncode != 0
  assert 'Traceback' not in process.stdout + process.stderr
  for message in messages:
    assert message in process.stderr
  assert not workdir.exists()


@pytest.mark.parametrize(
  ('option', 'message'),
  [
    (
      '--config.modle.name=x',
      "no key 'config.modle'; did you mean 'config.model'?",
    ),
    (
      '--config.model.nam=x',
      "no key 'config.model.nam'; did you mean 'config.model.name'?",
    ),
    ('--config.model.zzzzzzz=x', "no key 'config.model.zzzzzzz';"),
    (
      '--config.data.image_size=28',
      "'config.data.image_size'; configs/base.py has them all; did you mean",
    ),
    ('--config.training.num_epochs=many', "is 'many'; it must be a number."),
    ('--config.training.num_steps=2e1', "is '2e1'; it must be a whole number."),
    ('--config.model.scan_blocks=on', "is 'on'; it must be true or false."),
    ('--num_processes=two', "is 'two'; it must be a whole number, at least 1"),
    ('--process_id', 'argument --process_id: expected one argument'),
    ('--wrokdir=x', "Unknown command line flag 'wrokdir'"),
    ('--wrokdir=x', 'did you mean --workdir?'),
    ('--xyz', "Unknown command line flag 'xyz' (--help lists the flags)."),
    ('extra', 'Unexpected arguments: extra; everything is given as --NAME='),
    ('--process_id=1', '--num_processes and --process_id are given together'),
  ],
)
def test_options(tmp_path, option, message):
  workdir = tmp_path / 'run'
  process = run_main(QUICKSTART, f'--workdir={workdir}', option)
  _check(process, workdir, message)


def test_a_key_that_another_section_has_is_not_denied_there(tmp_path):
  workdir = tmp_path / 'run'
  process = run_main(
    QUICKSTART,
    f'--workdir={workdir}',
    '--config.preprocessing.image_size=28,28',
    '--config.data.image_size=28',
  )
  _check(process, workdir, 'no key', 'did you mean')
  assert "no key 'config.preprocessing" not in process.stderr


def test_a_misspelt_key_in_a_file_is_shown_with_its_line(tmp_path):
  workdir = tmp_path / 'run'
  for line, message in (
    ('config.optimiser = 1', "no key 'optimiser'; did you mean 'optimizer'?"),
    ('config.model.nmae = 1', "no key 'nmae'; did you mean 'name'?"),
  ):
    process = run_main(_config_file(tmp_path, line), f'--workdir={workdir}')
    _check(process, workdir, f'{tmp_path}/mine.py, line 6: there is', message)


def test_missing_flags_and_files(tmp_path):
  workdir = tmp_path / 'run'
  _check(run_main(QUICKSTART), workdir, '--workdir must have a value')
  _check(
    run_main(f'--workdir={workdir}'), workdir, '--config must have a value'
  )
  _check(
    run_main('--config=configs/nothing.py', f'--workdir={workdir}'),
    workdir,
    "--config is 'configs/nothing.py', which does not exist; this project has",
  )
  _check(
    run_main(f'{QUICKSTART}:imagenet21k', f'--workdir={workdir}'),
    workdir,
    'quickstart.py has no phases; leave :imagenet21k out',
  )


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ('configs/quikstart.py', 'did you mean configs/quickstart.py?'),
    ('quickstart', 'did you mean configs/quickstart.py?'),
    ('config/coatnet_2.py:imagenet21k', 'did you mean configs/coatnet_2.py?'),
    (
      'configs',
      "'configs', which is no Python file; this project has configs/cnn_",
    ),
    (
      'README.md',
      "'README.md', which is no Python file; this project has configs/",
    ),
    ('', "--config is '', which does not exist; this project has configs/"),
  ],
)
def test_a_path_that_is_no_config_is_told_with_those_there_are(
  tmp_path, config, message
):
  workdir = tmp_path / 'run'
  for words in ([f'--config={config}'], ['--config', config]):
    process = run_main(*words, f'--workdir={workdir}')
    _check(process, workdir, message)
    assert len(process.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('config.model.name = = 1', 'mine.py, line 6: invalid syntax'),
    ('import no_such_module', "line 6: No module named 'no_such_module'"),
    ('config.seed = sede', "line 6: name 'sede' is not defined"),
    ('config.seed = 1 / 0', 'line 6: division by zero'),
  ],
)
def test_a_config_of_ones_own_that_fails_is_one_sentence(
  tmp_path, line, message
):
  workdir = tmp_path / 'run'
  process = run_main(_config_file(tmp_path, line), f'--workdir={workdir}')
  _check(process, workdir, f'{tmp_path}/', message)
  assert len(process.stderr.strip().splitlines()) == 1


def test_an_error_of_the_run_is_one_sentence(tmp_path):
  workdir = tmp_path / 'run'
  process = run_main(
    QUICKSTART, f'--workdir={workdir}', '--config.model.name=coatnet_9'
  )
  _check(
    process,
    workdir,
    "Error: The variant's name (config.model.name) is 'coatnet_9'; it must",
    '`python -m tools.variants`); did you mean',
  )
  assert len(process.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize('flag', ['--help', '--helpshort'])
def test_help_that_nobody_reads_ends_without_a_word(flag):
  unread, written = os.pipe()
  os.close(unread)
  with os.fdopen(written, 'w') as stdout:
    process = subprocess.run(
      [sys.executable, 'main.py', flag],
      cwd=ROOT,
      stdout=stdout,
      stderr=subprocess.PIPE,
      text=True,
      check=False,
    )
  assert process.returncode
  assert process.stderr == ''


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_step(tmp_path, number):
  process = start_main(
    QUICKSTART,
    f'--workdir={tmp_path / "run"}',
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    start_new_session=True,
  )
  assert any('Compiling' in line for line in process.stdout)
  time.sleep(1)
  process.send_signal(number)
  _, errors = process.communicate(timeout=280)
  assert process.returncode == 75
  assert errors == (
    f'Stopped ({number.name}) before the first step, while compiling the train'
    ' step; the same command starts it again.\n'
  )


@pytest.mark.parametrize(
  ('raised', 'said'),
  [
    (
      "OSError(5, 'Input/output error', '/data/run')",
      'Error: /data/run cannot be read or written: Input/output error. Look at'
      ' that disk, and give the same command again.',
    ),
    ("PermissionError(13, 'Permission denied', '/x')", 'Error: /x cannot be'),
    ("PermissionError(1, 'Operation not permitted')", 'Traceback'),
    ("TimeoutError(110, 'Connection timed out')", 'Traceback'),
    ("OSError(2, 'No such file', 'a mistake')", 'Traceback'),
  ],
)
@pytest.mark.parametrize('program', ['main', 'tools.command_line'])
def test_a_disk_that_fails_anywhere_is_one_sentence(raised, said, program):
  code = f'def fail(*_):\n  raise {raised}\n'
  if program == 'main':
    code += 'import main\nmain.run_process = fail\nmain.run_program()'
  else:
    code += f'import {program} as program\nprogram.run_tool(fail)'
  words = (QUICKSTART, '--workdir=runs/x') if program == 'main' else ()
  done = subprocess.run(
    [sys.executable, '-c', code, *words],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  assert done.stderr.startswith(said)
  assert len(done.stderr.splitlines()) == 1 or said == 'Traceback'
