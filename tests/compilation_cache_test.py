"""Programs are compiled once, and a damaged entry costs a compilation."""

import os
import subprocess
import sys

import pytest

from coatnet_jax import compilation_cache
from coatnet_jax.errors import UserError

# Compiles a function and says how often it had to.
_PROGRAM = """
import sys
import jax
from coatnet_jax import compilation_cache
from coatnet_jax.library_noise import silence_libraries
silence_libraries()
print(compilation_cache.keep_compiled(*sys.argv[1:]))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
missed = []
jax.monitoring.register_event_listener(
  lambda event, **_: missed.append(event) if event.endswith('misses') else None
)
print(jax.jit(lambda x: x * 2 + 1)(20).item(), len(missed))
"""


def _run(*words, **variables):
  environment = {
    name: value
    for name, value in os.environ.items()
    if name != compilation_cache.VARIABLE
  }
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM, *words],
    capture_output=True,
    text=True,
    env=environment | variables,
    check=True,
  )
  assert not done.stderr
  return done.stdout.splitlines()


def test_a_second_start_compiles_nothing_and_damage_is_mended(tmp_path):
  home = str(tmp_path)
  kept, first = _run(XDG_CACHE_HOME=home)
  [directory] = (tmp_path / 'coatnet_jax').iterdir()
  assert kept == f'kept in {directory}, for the next start'
  assert directory.stat().st_mode & 0o077 == 0
  assert first == '41 1'
  [entry] = directory.iterdir()
  whole = entry.stat().st_size
  assert _run(XDG_CACHE_HOME=home)[1] == '41 0'
  for size in (whole // 2, 0):
    os.truncate(entry, size)
    assert _run(XDG_CACHE_HOME=home)[1] == '41 1'
    assert entry.stat().st_size >= whole // 2 + 1
  assert _run(XDG_CACHE_HOME=home)[1] == '41 0'


def test_none_is_kept_where_none_is_wanted_or_can_be(tmp_path):
  none = 'anew at each start'
  assert _run('', XDG_CACHE_HOME=str(tmp_path)) == [none, '41 0']
  (tmp_path / 'file').touch()
  told, result = _run(XDG_CACHE_HOME=str(tmp_path / 'file'))
  assert told.startswith(f'{none}. The directory for compiled programs, ')
  assert 'cannot be made: Not a directory. --compilation_cache=DIR' in told
  assert result == '41 0'
  assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_what_was_asked_for_and_cannot_be_is_an_error(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(
    UserError, match=r'/file/new, cannot be made: .*directory'
  ):
    compilation_cache.keep_compiled(str(tmp_path / 'file' / 'new'))


def test_where_it_is(monkeypatch):
  monkeypatch.setenv(compilation_cache.VARIABLE, 'gs://bucket/programs')
  assert compilation_cache.find_directory() == 'gs://bucket/programs'
  monkeypatch.delenv(compilation_cache.VARIABLE)
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  monkeypatch.setenv('HOME', '/home/somebody')
  first = compilation_cache.find_directory()
  assert first.startswith('/home/somebody/.cache/coatnet_jax/compiled_')
  # Another processor has another directory.
  monkeypatch.setattr(compilation_cache.platform, 'machine', lambda: 'aarch64')
  assert compilation_cache.find_directory() != first


def test_the_command_line_says_where(tmp_path):
  program = (
    'import sys, jax, main, train\n'
    'train.train_and_evaluate = lambda *_: print('
    'jax.config.jax_compilation_cache_dir)\n'
    'main.main(sys.argv[1:])\n'
  )
  done = subprocess.run(
    [
      *(sys.executable, '-c', program),
      '--config=configs/quickstart.py',
      f'--workdir={tmp_path / "run"}',
      f'--compilation_cache={tmp_path / "programs"}',
    ],
    capture_output=True,
    text=True,
    check=True,
  )
  [*_, told, used] = done.stdout.splitlines()
  assert told == f'programs    kept in {used}, for the next start'
  assert used == str(tmp_path / 'programs')
