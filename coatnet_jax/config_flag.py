"""A run's config from the command line: --config and --config.KEY=VALUE.

ml_collections reads them, as absl flags of their own. What is wrong with them
is said in one sentence; theirs are for those who know Python.
"""

import argparse
import os
import pathlib
import re
import traceback
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from coatnet_jax.errors import UserError, list_choices, show, suggest
from coatnet_jax.paths import expand_local_path

_ROOT = pathlib.Path(__file__).parents[1]

# What ml_collections says of --config=FILE:PHASE where there are none.
_NO_PHASES = r'flag --config=(.+?):(\w*): .*get_config\(\) takes 0 positional'
# What stands before the "=" of --config.KEY=VALUE: names with dots between.
_CHANGE = re.compile(r'--?(?:no)?config\.([^=]*)', re.DOTALL)
_KEY = re.compile(r'(?:[^\W\d]\w{0,99}\.){0,9}[^\W\d]\w{0,99}')
# What ml_collections says of a value for a section, and of a key in a key.
_SECTION = r'.*flag --(config\.[\w.]+)=.* as a ConfigDict: .*'
_NO_SECTION = r'.*Attempting to lookup: ([\w.]+)\.(\w+).*'
# What absl says of a text that is not of a flag's type, and what is.
_NO_VALUE = r'flag --([\w.]+)=(.*?): (.*)'
_TYPES = {
  'invalid literal for int': 'a whole number',
  'Exceeds the limit': 'a whole number',
  'could not convert string to float': 'a number',
  'Non-boolean argument': 'true or false',
}


def add_config(parser: argparse.ArgumentParser) -> None:
  """Adds --config, for `load_config`."""
  parser.add_argument(
    '--config',
    metavar='FILE[:PHASE]',
    help='file with the run, configs/quickstart.py, say; --config.KEY=VALUE'
    ' changes a key of it',
  )


def parse_with_config(
  parser: argparse.ArgumentParser, words: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
  """Parses all of a command line but --config.KEY=VALUE.

  Args:
    parser: parser with `add_config`.
    words: words of the command line after the program's name.

  Returns:
    The parser's arguments; and the words that are left, for `load_config`.

  Raises:
    UserError: a flag that is neither the parser's nor a key's.
  """
  # One dash is as good as two, as for absl, which reads what is left.
  words = [re.sub(r'^-(?=[a-z]\w)', '--', word) for word in words]
  options, rest = parser.parse_known_args(words)
  flag_of = {name: f'--{name}' for name in vars(options)}
  for word in rest:
    _check_key(word)
    found = re.match(r'--([^=]+)', word)
    if found and not re.match(r'(no)?config\.', found[1]):
      raise UserError(
        f'Unknown command line flag {found[1]!r} (--help lists the flags)'
        + suggest(found[1], flag_of, shown=flag_of)
      )
  return options, rest


def load_config(path: str | None, changes: Sequence[str] = ()) -> ConfigDict:
  """Loads a config and changes its keys.

  What is changed is chosen: it is taken out of `config.follow_init_from`.

  Args:
    path: Python file with `get_config`, perhaps with ':PHASE', its argument;
      value of --config.
    changes: words of a command line, '--config.KEY=VALUE'.

  Raises:
    UserError: there is no such file, phase or key, a value is of another type,
      or there is another word; or the file fails.
  """
  if path is None:
    raise UserError('--config is missing: --config=configs/coatnet_0.py.')
  if path.startswith('~'):  # Which shells leave as it is in --config=~/FILE.
    path = str(expand_local_path(path, '--config'))
  _check_config_file(path)
  words = [f'--config={path}', *changes]
  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file(
    'config', flag_values=values, sys_argv=words
  )
  try:
    _, *rest = values(['', *words])
    config = holder.value
    chosen = config_flags.get_override_values(values['config'])
    config.follow_init_from = tuple(
      (key, value)
      for key, value in config.follow_init_from
      if key not in chosen
    )
  except flags.Error as error:
    raise UserError(_describe_flag_error(error)) from error
  except Exception as error:  # Whatever the config's file does wrong.
    raise UserError(_describe_config_error(error, words)) from error
  if rest:
    raise UserError(
      f'Unexpected arguments: {" ".join(rest)}; everything is given as'
      ' --NAME=VALUE (--help lists the names).'
    )
  return config


def _check_key(word: str) -> None:
  """Raises UserError for --config.KEY=VALUE where nothing can have the key."""
  found = _CHANGE.match(word)
  if found and not _KEY.fullmatch(found[1]):
    raise UserError(
      f'{show(word)} names no key; between "--config." and "=" come'
      ' names of letters, digits and "_" with single dots between, as in'
      ' --config.data.name=VALUE. configs/base.py has all keys.'
    )


def _check_config_file(path: str) -> None:
  """Raises UserError where there is no such file, with those there are."""
  path = path.partition(':')[0]
  if os.path.isfile(path) and path.endswith('.py'):
    return
  configs = _list_configs()
  name = pathlib.Path(path).stem
  what = 'is no Python file' if os.path.exists(path) else 'does not exist'
  listed = list_choices(name, configs, shown=configs, words='this project has')
  raise UserError(f'--config is {path!r}, which {what}; {listed}')


def _describe_flag_error(error: flags.Error) -> str:
  """Returns what is wrong with the words, and what is allowed."""
  text = str(error)
  if found := re.search(_NO_PHASES, text, re.DOTALL):
    return f'{found[1]} has no phases; leave :{found[2]} out of --config.'
  if found := re.fullmatch(_SECTION, text, re.DOTALL):
    return (
      f'--{found[1]} is a section, which has no value but keys, as in'
      f' --{found[1]}.KEY=VALUE; configs/base.py has them all.'
    )
  if found := re.fullmatch(_NO_VALUE, text, re.DOTALL):
    for words, kind in _TYPES.items():
      if words in found[3]:
        return f'--{found[1]} is {show(found[2])}; it must be {kind}.'
  return f'{text.rstrip(".")} (--help lists the flags.)'


def _describe_config_error(error: Exception, arguments: list[str]) -> str:
  """Returns what is wrong with a config, and where.

  Args:
    error: error of loading its file.
    arguments: words of the command line, to tell the section of a key.
  """
  frames = traceback.extract_tb(error.__traceback__)
  where = ''.join(
    f'{frame.filename}, line {frame.lineno}: '
    for frame in frames
    if frame.name in ('get_config', '<module>')
  )
  # ml_collections lists every key there is; its suggestion says enough. A
  # KeyError's text is in quotes.
  text = str(error).replace('\\', '').strip('"')
  if found := re.fullmatch(_NO_SECTION, text, re.DOTALL):
    return (
      f'{where}there is no key {f"config.{found[1]}.{found[2]}"!r}:'
      f' config.{found[1]} has a value, and no keys.'
    )
  key = like = ''
  if found := re.search('Did you mean "(.+?)" instead of "(.+?)"', text):
    like, key = found.groups()
  elif found := re.search('Key "(.+?)" does not exist', text):
    key = found[1]
  elif isinstance(error, KeyError | AttributeError) and not where:
    key = text.strip('"\'') if len(text.split()) == 1 else ''
  if key:
    section = '' if where else _find_section(key, arguments)
    hint = f'did you mean {section + like!r}?' if like else _suggest_key(key)
    return f'{where}there is no key {section + key!r}; {hint}'
  if isinstance(error, SyntaxError):
    return f'{error.filename}, line {error.lineno}: {error.msg}.'
  if isinstance(error, OSError):
    return where + text.strip().splitlines()[-1].strip()
  return where + ' '.join(text.split())


def _list_configs() -> dict[str, str]:
  """Returns the configs of this project as paths from here, by name."""
  folder = pathlib.Path(os.path.relpath(_ROOT / 'configs'))
  return {
    file.stem: str(file)
    for file in sorted(folder.glob('*.py'))
    if file.stem != 'base'  # Every run's, and by itself none.
    and 'def get_config' in file.read_text(encoding='utf-8')
  }


def _find_section(key: str, arguments: list[str]) -> str:
  """Returns 'config.training.' for a key that the command line gives there.

  Empty where it gives the key in several sections, as one may have it.
  """
  flag = re.compile(rf'--?(config\.(?:\w+\.)*){re.escape(key)}\b')
  sections = {found[1] for found in map(flag.match, arguments) if found}
  return sections.pop() if len(sections) == 1 else ''


def _suggest_key(name: str) -> str:
  """Returns where keys are listed, and one that is called so, or nearly."""
  from configs import base  # Here, as only a mistake needs it.

  keys: dict[str, list[str]] = {}
  for section, tree in base.get_config().to_dict().items():
    for key in tree if isinstance(tree, dict) else ():
      keys.setdefault(key, []).append(f'config.{section}.{key}')
  shown = {key: ' or '.join(places) for key, places in keys.items()}
  end = suggest(name, keys, shown=shown, likeness=0.75)
  return f'configs/base.py has them all{end}'
