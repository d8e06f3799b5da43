"""What is wrong with --config and --config.KEY=VALUE, in one sentence.

ml_collections and absl say it in the words of Python. This module loads no
config: main.py and tools.plan do.
"""

import difflib
import itertools
import os
import pathlib
import re
import traceback
from collections.abc import Iterable

from ml_collections import ConfigDict

from coatnet_jax.errors import UserError

_ROOT = pathlib.Path(__file__).parents[1]

# What ml_collections says of --config=FILE:PHASE where there are none.
_NO_PHASES = r'flag --config=(.+?):(\w*): .*get_config\(\) takes 0 positional'
# What absl says of a text that is not of a flag's type, and what is.
_NO_VALUE = r'flag --([\w.]+)=(.*?): (.*)'
_TYPES = {
  'invalid literal for int': 'a whole number',
  'could not convert string to float': 'a number',
  'Non-boolean argument': 'true or false',
}


def check_config_file(arguments: list[str]) -> None:
  """Looks for the file of --config before ml_collections does.

  Args:
    arguments: words of a command line.

  Raises:
    UserError: there is no such Python file; with those that there are.
  """
  for flag, following in itertools.pairwise([*arguments, '']):
    if flag == '--':
      return
    if not (found := re.fullmatch('--?config(?:=(.*))?', flag, re.DOTALL)):
      continue
    path = (following if found[1] is None else found[1]).partition(':')[0]
    if os.path.isfile(path) and path.endswith('.py'):
      continue
    configs = _list_configs()
    name = pathlib.Path(path).stem
    if close := difflib.get_close_matches(name, configs, n=1):
      hint = f'did you mean {configs[close[0]]}?'
    else:
      hint = f'there are {", ".join(configs.values())}.'
    what = 'is no Python file' if os.path.exists(path) else 'does not exist'
    raise UserError(f'--config is {path!r}, which {what}; {hint}')


def keep_chosen(config: ConfigDict, chosen: Iterable[str]) -> None:
  """Takes keys that the user has set out of `config.follow_init_from`.

  Args:
    config: config that is changed in place.
    chosen: keys that the user has set, 'preprocessing.image_size', say.
  """
  chosen = set(chosen)
  config.follow_init_from = tuple(
    (key, value) for key, value in config.follow_init_from if key not in chosen
  )


def describe_flag_error(error: Exception) -> str:
  """Returns what is wrong with the flags, and what is allowed.

  Args:
    error: error that absl raised, an `absl.flags.Error`.
  """
  text = str(error)
  if found := re.search(_NO_PHASES, text, re.DOTALL):
    return f'{found[1]} has no phases; leave :{found[2]} out of --config.'
  if missing := re.findall(r'flag --(\w+)=None: ', text):
    names = ' and '.join(f'--{name}' for name in missing)
    return (
      f'{names} must have a value, as in --config=configs/quickstart.py'
      ' --workdir=runs/quickstart (--helpshort lists the flags).'
    )
  if found := re.fullmatch(_NO_VALUE, text, re.DOTALL):
    for words, kind in _TYPES.items():
      if words in found[3]:
        return f'--{found[1]} is {found[2]!r}; it must be {kind}.'
  return f'{text.rstrip(".")} (--helpshort lists the flags.)'


def describe_config_error(error: Exception, arguments: list[str]) -> str:
  """Returns what is wrong with a config, and where.

  Args:
    error: error of loading its file, or of `check_config_file`.
    arguments: words of the command line, to tell the section of a key.
  """
  if isinstance(error, UserError):
    return str(error)
  frames = traceback.extract_tb(error.__traceback__)
  where = ''.join(
    f'{frame.filename}, line {frame.lineno}: '
    for frame in frames
    if frame.name in ('get_config', '<module>')
  )
  # ml_collections lists every key there is; its suggestion says enough. A
  # KeyError's text is in quotes.
  text = str(error).replace('\\', '').strip('"')
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
  """Returns which keys of other sections are called so, or nearly."""
  from configs import base  # Here, as only a mistake needs it.

  keys = {}
  for section, tree in base.get_config().to_dict().items():
    for key in tree if isinstance(tree, dict) else ():
      keys.setdefault(key, []).append(f'config.{section}.{key}')
  if close := difflib.get_close_matches(name, keys, n=1, cutoff=0.75):
    return f'did you mean {" or ".join(keys[close[0]])}?'
  return 'configs/base.py has them all.'
