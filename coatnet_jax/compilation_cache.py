"""The directory of compiled programs, which a second start need not compile.

JAX reads and writes them. Here are the place, and the mending of an entry that
a killed process wrote in part. What lies there is run: docs/security.md.
"""

import functools
import hashlib
import os
import pathlib
import platform
import re
import warnings

import jax
from absl import logging

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

  It is what `JAX_COMPILATION_CACHE_DIR` says, or a directory of the user's
  cache for processors like this machine's: XLA compiles for all that one can,
  and home directories are shared. Empty where there is neither.
  """
  if VARIABLE in os.environ:
    return os.environ[VARIABLE]
  try:
    home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  except RuntimeError:
    return ''  # A user without a home directory.
  return str(
    pathlib.Path(home) / 'coatnet_jax' / f'compiled_{_describe_processor()}'
  )


def keep_compiled(directory: str | None = None) -> str:
  """Has JAX keep what it compiles, and look there before it compiles.

  To be called before anything is compiled. A program that cannot be read or
  written is compiled, and the log says why.

  Args:
    directory: directory to keep them in, perhaps gs://...; empty keeps none;
      None is `find_directory`'s.

  Returns:
    A phrase for people: where they are kept.

  Raises:
    UserError: the directory that was asked for cannot be made.
  """
  path, reason = find_directory() if directory is None else directory, ''
  if path:
    try:
      path = _create(path)
    except UserError as error:
      if directory is not None:
        raise
      path, reason = '', f'. {error}'
  if not path:
    jax.config.update('jax_compilation_cache_dir', None)
    return f'anew at each start{reason}'
  jax.config.update('jax_compilation_cache_dir', path)
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update(
      'jax_persistent_cache_min_compile_time_secs', _SHORTEST_SECONDS
    )
  if getattr(warnings.showwarning, 'func', None) is not _hear_warning:
    warnings.showwarning = functools.partial(
      _hear_warning, warnings.showwarning
    )
  return f'kept in {path}, for the next start'


def _create(directory: str) -> str:
  """Returns the path of a directory, which is made if need be."""
  path = resolve_path(directory, '--compilation_cache')
  try:
    if '://' in os.fspath(path):
      path.mkdir(parents=True, exist_ok=True)
    else:
      # For this user alone, as its programs are run.
      os.makedirs(path, mode=0o700, exist_ok=True)
  except OSError as error:
    raise UserError(
      f'The directory for compiled programs, {path}, cannot be made:'
      f' {find_reason(error)}. --compilation_cache=DIR names another.'
    ) from error
  return os.fspath(path)


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
  """Logs what JAX warns of entries, and removes those it cannot read.

  JAX writes no entry where there is one, so that a part of one would stay.
  """
  found = _FAILURE.match(str(message))
  if not found:
    show(message, category, filename, lineno, *others)
    return
  logging.warning('%s', message)
  directory = resolve_path(jax.config.jax_compilation_cache_dir)
  for path in directory.glob(f'{found[2]}-*'):
    path.unlink(missing_ok=True)
