"""What a path means that a user gives: the same in every tool and config key.

To be called once, where a path comes in: arguments of a command line, keys of
a config, arguments of the functions that notebooks call. From there on a path
is absolute, or of a bucket: gs://...
"""

import os
import pathlib
import re
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from etils import epath

from coatnet_jax.errors import UserError, show

if TYPE_CHECKING:
  from ml_collections import ConfigDict

# Keys of a config that are paths, or empty.
CONFIG_KEYS = ('compiled_train_step', 'data.data_dir', 'init_from')

# What else than a file may be at a path.
_KINDS = (
  (stat.S_ISDIR, 'a directory'),
  (stat.S_ISFIFO, 'a named pipe'),
  (stat.S_ISSOCK, 'a socket'),
  (stat.S_ISCHR, 'a device'),
  (stat.S_ISBLK, 'a device'),
)
_BUCKETS = ('gs', 's3', 'az', 'hf')
_SCHEME = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://')
# Names on the Hugging Face Hub: OWNER/NAME, with a revision or without.
_HUB_NAME = re.compile(
  r'(?:hf[-_]hub:|(?=timm/))(\w[\w.-]*/\w[\w.-]*(?:@\w[\w./-]*)?)', re.ASCII
)


class LocalPath(type(epath.Path('/'))):
  """An `epath.Path` of this machine whose name is never a pattern.

  etils looks for what matches a pattern by the directory's name as well, so
  that in `runs[1]` it finds nothing, and Orbax writes checkpoints that can't be
  read. Paths made from this one are of its kind.
  """

  def glob(self, pattern: str) -> Iterator['LocalPath']:
    """Yields what matches a pattern in this directory."""
    for path in pathlib.Path(self).glob(pattern):
      yield type(self)(path)


def resolve_path(
  path: str | os.PathLike[str], name: str = 'the path'
) -> epath.Path:
  """Returns a path that does not depend on where the program was started.

  >>> resolve_path('gs:/bucket/runs').as_posix()
  'gs://bucket/runs'
  >>> resolve_path('/tmp/runs/./one').as_posix()
  '/tmp/runs/one'
  >>> resolve_path('', 'config.init_from')
  Traceback (most recent call last):
    ...
  coatnet_jax.errors.UserError: config.init_from is empty; it must be a path.

  Args:
    path: path, absolute, relative, with '~' or '~user' at its start, or of a
      bucket.
    name: name of the path in an error.

  Returns:
    A path as the operating system reads it, absolute and without '..'; symbolic
    links are kept.

  Raises:
    UserError: it is empty or no path.
  """
  text = _check_text(path, name)
  # A pathlib.Path makes one slash of two.
  if found := re.match(rf'({"|".join(_BUCKETS)}):/+(.*)', text, re.DOTALL):
    if not found[2]:
      raise UserError(
        f'{name} is {text!r}, which names no bucket; it must be'
        f' {found[1]}://NAME.'
      )
    return epath.Path(f'{found[1]}://{found[2]}')
  if found := _SCHEME.match(text):
    raise UserError(
      f'{name} is {text!r}; {found[0]} is not read or written. A path of this'
      ' machine, or of a bucket (gs://...), is.'
    )
  return LocalPath(_absolute(_expand_user(text, name)))


def find_hub_name(path: str | os.PathLike[str]) -> str | None:
  """Returns the name on the Hugging Face Hub that a path is, if it is one.

  >>> find_hub_name('timm/coatnet_0_rw_224.sw_in1k')
  'timm/coatnet_0_rw_224.sw_in1k'
  >>> find_hub_name('hf-hub:me/fish@main')
  'me/fish@main'
  >>> find_hub_name('runs/mine')

  Args:
    path: path, or 'timm/NAME' where there is no such path, or
      'hf-hub:OWNER/NAME'.
  """
  text = os.fsdecode(path) if isinstance(path, str | os.PathLike) else ''
  found = _HUB_NAME.fullmatch(text)
  if not found or (text == found[1] and os.path.lexists(text)):
    return None
  return found[1]


def is_plain_file(path: epath.Path) -> bool:
  """Returns whether a path is a file, of this machine or of a bucket.

  A pipe or a device is none: to read one may never end.
  """
  text = os.fspath(path)
  return path.is_file() if _SCHEME.match(text) else os.path.isfile(text)


def write_whole(
  path: epath.Path, content: str | bytes, partial_name: str = ''
) -> None:
  """Writes a file whole or not at all, whatever ends the program or machine.

  Args:
    path: path of the file, perhaps gs://..., which is replaced.
    content: text, written as UTF-8, or bytes.
    partial_name: name, in the same directory, of what is not written to its
      end; empty is that of the file and '.partial'.
  """
  data = content.encode() if isinstance(content, str) else content
  if _SCHEME.match(os.fspath(path)):
    path.write_bytes(data)  # As buckets do.
    return
  partial = path.with_name(partial_name or f'{path.name}.partial')
  with open(partial, 'wb') as file:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
  partial.replace(path)


def resolve_local_path(
  path: str | os.PathLike[str], name: str = 'the path'
) -> pathlib.Path:
  """Returns what `resolve_path` does, for what must be on this machine.

  Raises:
    UserError: it is empty, no path, or of a bucket.
  """
  return pathlib.Path(_absolute(expand_local_path(path, name)))


def expand_local_path(
  path: str | os.PathLike[str], name: str = 'the path'
) -> pathlib.Path:
  """Returns a path as it was given, but for a '~', to be shown as given.

  >>> expand_local_path('runs/one').as_posix()
  'runs/one'

  Raises:
    UserError: it is empty, no path, or of a bucket.
  """
  text = _check_text(path, name)
  if _SCHEME.match(text) or text.startswith(tuple(f'{b}:/' for b in _BUCKETS)):
    raise UserError(
      f'{name} is {text!r}; it must be on a disk of this machine. `gsutil -m cp'
      ' -r` copies from a bucket and to one.'
    )
  return _expand_user(text, name)


def describe_special_file(path: pathlib.Path) -> str | None:
  """Returns what a path is that is no file with an end; None for a file.

  Opening such a path may wait for ever, and what it gives has no end. Where
  there is nothing at the path, that is for whoever opens it to notice.

  >>> describe_special_file(pathlib.Path('/dev/zero'))
  'a device'

  Args:
    path: path on this machine.
  """
  try:
    mode = path.stat().st_mode
  except OSError:
    return None
  return next((word for is_kind, word in _KINDS if is_kind(mode)), None)


def resolve_config(config: 'ConfigDict') -> 'ConfigDict':
  """Returns a copy of a config with its paths resolved; empty ones stay.

  Args:
    config: config with the keys of `configs/base.py`.

  Raises:
    UserError: one is no path.
  """
  # Here, as paths are more than a config's, which benchmarks do without.
  from ml_collections import ConfigDict

  config = ConfigDict(config).copy_and_resolve_references()
  for key in CONFIG_KEYS:
    section, _, last = key.rpartition('.')
    tree = config.get(section) if section else config
    # A section that is not there is for others to notice.
    if not isinstance(tree, ConfigDict) or tree.get(last, '') == '':
      continue
    if key != 'init_from' or find_hub_name(tree[last]) is None:
      with tree.ignore_type():
        tree[last] = str(resolve_path(tree[last], f'config.{key}'))
  return config


def _check_text(path: str | os.PathLike[str], name: str) -> str:
  try:
    text = os.fsdecode(path)
  except TypeError as error:
    raise UserError(
      f'{name} is {path!r}; it must be a path: a string or a pathlib.Path.'
    ) from error
  if not text.strip():
    raise UserError(f'{name} is empty; it must be a path.')
  # What Linux takes; elsewhere it is less.
  longest = max(len(os.fsencode(part)) for part in text.split('/'))
  if len(text) > 4096 or longest > 255:
    raise UserError(
      f'{name} is {show(text)}, which is too long: a path has at most'
      ' 4,096 characters, and 255 bytes between two slashes.'
    )
  if '\0' in text:
    raise UserError(f'{name} is {text!r}; no path has a null character.')
  return text


def _expand_user(text: str, name: str) -> pathlib.Path:
  expanded = os.path.expanduser(text)
  if expanded.startswith('~'):
    user = expanded.partition('/')[0]
    raise UserError(
      f'{name} is {text!r}; there is no home directory of {user}. A directory'
      f' of that name is ./{user}.'
    )
  return pathlib.Path(expanded)


def _absolute(path: pathlib.Path) -> pathlib.Path:
  """Returns an absolute path, '..' as the operating system reads it."""
  path = path.absolute()
  return path.resolve() if '..' in path.parts else path
