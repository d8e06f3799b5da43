"""Programs are compiled once, and a damaged entry costs a compilation."""

import functools
import os
import pathlib
import subprocess
import sys
import types
import zlib
from unittest import mock

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
  none = 'compiled anew at each start'
  assert _run('', XDG_CACHE_HOME=str(tmp_path)) == [none, '41 0']
  (tmp_path / 'file').touch()
  told, result = _run(XDG_CACHE_HOME=str(tmp_path / 'file'))
  assert told.startswith(f'{none}. The directory for compiled programs, ')
  assert 'cannot be made: Not a directory. ' in told
  assert result == '41 0'
  told, _ = _run(JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'file' / 'x'))
  assert 'compiled programs of JAX_COMPILATION_CACHE_DIR, ' in told
  told, _ = _run(JAX_ENABLE_COMPILATION_CACHE='false')
  assert told == 'compiled anew, as JAX_ENABLE_COMPILATION_CACHE says'


@pytest.mark.parametrize('which', ['coatnet_jax', 'compiled'])
def test_nothing_is_run_that_others_can_write(tmp_path, monkeypatch, which):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.delenv(compilation_cache.VARIABLE)
  path = pathlib.Path(compilation_cache.find_directory())
  path.mkdir(parents=True)
  (path if which == 'compiled' else path.parent).chmod(0o775)
  with mock.patch.object(compilation_cache.jax.config, 'update') as update:
    told = compilation_cache.keep_compiled()
  assert told.startswith('compiled anew at each start. Others can write to ')
  update.assert_called_once_with('jax_compilation_cache_dir', None)


@pytest.mark.parametrize('doing', ['reading', 'writing'])
def test_only_entries_that_are_not_whole_are_removed(
  tmp_path, monkeypatch, doing
):
  whole = zlib.compress(b'a program')
  (tmp_path / 'jit_step-1-cache').write_bytes(whole)
  (tmp_path / 'jit_step-2-cache').write_bytes(whole[:-1])
  (tmp_path / 'jit_other-3-cache').write_bytes(b'')
  config = types.SimpleNamespace(jax_compilation_cache_dir=str(tmp_path))
  monkeypatch.setattr(compilation_cache, 'jax', mock.Mock(config=config))
  message = (
    f"Error {doing} persistent compilation cache entry for 'jit_step': OSError"
  )
  hear = functools.partial(compilation_cache._hear_warning, pytest.fail)
  hear(UserWarning(message), UserWarning, 'file', 1)
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'jit_other-3-cache',
    'jit_step-1-cache',
  ]
  # It is called by JAX, and must not raise.
  monkeypatch.setattr(
    pathlib.Path, 'read_bytes', mock.Mock(side_effect=PermissionError)
  )
  hear(UserWarning(message), UserWarning, 'file', 1)


def test_what_was_asked_for_and_cannot_be_is_an_error(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(
    UserError, match=r'/file/new, cannot be made: .*directory'
  ):
    compilation_cache.keep_compiled(str(tmp_path / 'file' / 'new'))


def test_where_it_is(monkeypatch):
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
