"""The directory of compiled programs, which a second start need not compile.

JAX reads and writes them. Here are the place, and the mending of an entry that
a killed process wrote in part. What lies there is run: docs/security.md.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import platform
import re
import stat
import warnings
import zlib
from collections.abc import Iterator

import jax
from absl import logging
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from coatnet_jax.errors import UserError, find_reason
from coatnet_jax.paths import resolve_path

# JAX's own variable, which names another directory.
VARIABLE = 'JAX_COMPILATION_CACHE_DIR'
# What compiles in less time is not kept; JAX's own default is a second.
_SHORTEST_SECONDS = 0.2
_FAILURE = re.compile(
  r"Error (reading|writing) persistent compilation cache entry for '([^']+)'"
)


def find_directory() -> str:
  """Returns where compiled programs are kept by default.

  It is a directory of the user's cache for processors like this machine's: XLA
  compiles for all that one can, and home directories are shared. Empty for a
  user without a home.
  """
  try:
    home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  except RuntimeError:
    return ''
  return str(
    pathlib.Path(home) / 'coatnet_jax' / f'compiled_{_describe_processor()}'
  )


@contextlib.contextmanager
def switched_off() -> Iterator[None]:
  """Context in which programs are compiled, and none is taken from a cache.

  What XLA has read from one, it cannot always write again: on a CPU the copy
  lacks the program's functions.
  """
  was_on = jax.config.jax_enable_compilation_cache
  jax.config.update('jax_enable_compilation_cache', False)
  jax_cache.reset_cache()  # JAX asks once whether there is one.
  try:
    yield
  finally:
    jax.config.update('jax_enable_compilation_cache', was_on)
    jax_cache.reset_cache()


def keep_compiled(directory: str | None = None) -> str:
  """Has JAX keep what it compiles, and look there before it compiles.

  To be called before anything is compiled. A program that cannot be read or
  written is compiled, and the log says why.

  Args:
    directory: directory to keep them in, perhaps gs://...; empty keeps none;
      None is what `JAX_COMPILATION_CACHE_DIR` says, or `find_directory`'s.

  Returns:
    A phrase for people: where they are kept, or why they are not.

  Raises:
    UserError: the directory that was asked for cannot be made.
  """
  if not jax.config.jax_enable_compilation_cache:
    return 'compiled anew, as JAX_ENABLE_COMPILATION_CACHE says'
  reason = ''
  try:
    if directory is not None:
      path = directory and _create(directory, '--compilation_cache')
    elif VARIABLE in os.environ:
      named = os.environ[VARIABLE]
      path = named and _create(named, VARIABLE)
    else:
      path = _create_default()
  except UserError as error:
    if directory is not None:
      raise
    path, reason = '', f'. {error}'
  jax.config.update('jax_compilation_cache_dir', path or None)
  if not path:
    return f'compiled anew at each start{reason}'
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update(
      'jax_persistent_cache_min_compile_time_secs', _SHORTEST_SECONDS
    )
  if '://' in path:
    # XLA's own files, of a GPU's timings, would lie there too, and XLA knows no
    # buckets.
    jax.config.update('jax_persistent_cache_enable_xla_caches', 'none')
  if getattr(warnings.showwarning, 'func', None) is not _hear_warning:
    warnings.showwarning = functools.partial(
      _hear_warning, warnings.showwarning
    )
  return f'kept in {path}, for the next start'


def _create_default() -> str:
  """Makes the default directory, for this user alone; returns its path.

  Raises:
    UserError: it cannot be made, or another user can write to it.
  """
  path = find_directory()
  if not path:
    return ''
  for part in (os.path.dirname(path), path):
    with _explaining(part):
      if not os.path.isdir(part):
        os.makedirs(part, mode=0o700, exist_ok=True)
      status = os.stat(part)
    is_ours = not hasattr(os, 'geteuid') or status.st_uid == os.geteuid()
    if not is_ours or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
      raise UserError(
        f'Others can write to {part}, and what lies there is run: `chmod go-w`'
        ' it, or give another directory by --compilation_cache=DIR.'
      )
  return path


def _create(directory: str, source: str) -> str:
  """Returns the path of a directory that was asked for, made if need be."""
  path = resolve_path(directory, source)
  with _explaining(os.fspath(path), f' of {source}'):
    path.mkdir(parents=True, exist_ok=True)
  return os.fspath(path)


@contextlib.contextmanager
def _explaining(path: str, source: str = '') -> Iterator[None]:
  try:
    yield
  except Exception as error:  # What reads buckets raises kinds of its own.
    raise UserError(
      f'The directory for compiled programs{source}, {path}, cannot be made:'
      f' {find_reason(error)}. Give another, or none.'
    ) from error


def _describe_processor() -> str:
  """Returns some letters for the instructions that this processor has."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    lines = [platform.processor()]
  features = {
    ' '.join(sorted(line.partition(':')[2].split()))
    for line in lines
    if line.lower().startswith(('flags', 'features'))
  }
  text = platform.machine() + '\n'.join(sorted(features) or lines[:1])
  return hashlib.sha256(text.encode()).hexdigest()[:8]


def _hear_warning(show, message, category, filename, lineno, *others) -> None:
  """Logs what JAX warns of entries, and removes those that are not whole.

  JAX writes no entry where there is one, so that a part of one would stay.
  """
  found = _FAILURE.match(str(message))
  if not found:
    show(message, category, filename, lineno, *others)
    return
  logging.warning('%s', message)
  try:
    directory = resolve_path(jax.config.jax_compilation_cache_dir)
    for path in directory.glob(f'{found[2]}-*'):
      if not _is_whole(path.read_bytes()):
        path.unlink(missing_ok=True)
  except Exception:  # JAX calls this, and compiles in any case.
    logging.info('Entries that are not whole stay', exc_info=True)


def _is_whole(entry: bytes) -> bool:
  """Returns whether an entry is as JAX compressed it."""
  if entry[:1] != b'\x78':  # Not zlib's: what compresses it then has no check.
    return len(entry) > 0
  try:
    zlib.decompress(entry)
  except zlib.error:
    return False
  return True
