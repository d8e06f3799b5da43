"""The page of all config keys, made of configs/base.py and what it names."""

import ast
import dataclasses
import pathlib
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from coatnet_jax import run, values
from configs import base

# What a key's name ends with, or has in it -> its unit.
_UNITS = {
  r'accumulation_steps$': 'parts of a batch',
  r'_seconds$': 'seconds',
  r'_steps?$': 'optimizer steps',
  r'_epochs$': 'epochs: passes over the training set',
  r'_mebibytes$': 'MiB',
  r'image_size$|_pixels$': 'pixels',
  r'batch_size$|group_size$|_examples$': 'images',
  r'^sharding\.': 'devices',
  r'_(fraction|probability)$|_(area)$': 'parts of 1',
}
_NOT_OURS = 'the paper: Table 10, CoAtNet-0 on ImageNet-1k'
_SILENT = re.compile(r'[Tt]he paper (does not|has none)[^.]*\.')


@dataclasses.dataclass(frozen=True)
class Key:
  """One key of the config.

  Attributes:
    name: name without 'config.': 'optimizer.b1'.
    default: value in configs/base.py.
    allowed: type and range, in words.
    text: comment that explains it, as Markdown.
    is_ours: whether the default is this project's choice.
  """

  name: str
  default: Any
  allowed: str
  text: str
  is_ours: bool

  @property
  def unit(self) -> str:
    """The unit of a number; empty where it has none."""
    if isinstance(self.default, str):
      return ''
    for pattern, unit in _UNITS.items():
      if re.search(pattern, self.name):
        return unit
    return ''

  @property
  def source(self) -> str:
    """Where the default is from."""
    if self.is_ours:
      return "this project's choice"
    if found := _SILENT.search(self.text):
      return found[0][0].lower() + found[0][1:-1]
    return _NOT_OURS


@dataclasses.dataclass(frozen=True)
class Section:
  """A section of the config.

  Attributes:
    name: name of the section, 'optimizer'; empty for what stands in none.
    text: docstring of the function that adds it.
    keys: keys of the section, in the order of the file.
  """

  name: str
  text: str
  keys: tuple[Key, ...]


def read_sections() -> list[Section]:
  """Returns the sections of configs/base.py, in its order.

  Raises:
    ValueError: a key without a comment, or without a type.
  """
  source = pathlib.Path(base.__file__).read_text(encoding='utf-8')
  lines = source.splitlines()
  defaults = base.get_config()
  sections = []
  for function in ast.parse(source).body:
    if not isinstance(function, ast.FunctionDef) or function.name[:1] != '_':
      continue
    text = ast.get_docstring(function)
    all_ours = ' Ours.' in text
    keys = []
    for name, comment in _find_comments(function, lines):
      default = _look_up(defaults, name)
      if not comment:
        raise ValueError(f'config.{name} has no comment in configs/base.py.')
      keys.append(
        Key(
          name=name,
          default=default,
          allowed=values.describe(_find_annotation(name)),
          text=_to_markdown(comment),
          is_ours=all_ours or 'Ours' in ' '.join(comment),
        )
      )
    (section,) = {key.name.rpartition('.')[0] for key in keys}
    sections.append(Section(section, text, tuple(keys)))
  return sections


def write_page() -> str:
  """Returns the page as Markdown."""
  parts = [
    '# Config keys\n\nEvery key of `configs/base.py`, made of that file and of'
    ' what checks it. A config file changes what differs, the command line'
    ' changes more: `--config.optimizer.weight_decay=0.1`. A key that does not'
    ' exist, or a value that cannot be, is an error in the first second.\n'
  ]
  for section in read_sections():
    title = f'config.{section.name}' if section.name else 'config'
    parts.append(f'## {title}\n\n{_describe_section(section.text)}\n')
    parts += [_write_key(key) for key in section.keys]
  return '\n'.join(parts)


def _write_key(key: Key) -> str:
  facts = [('Allowed', key.allowed), ('Unit', key.unit)]
  facts += [('Default', f'`{key.default!r}`'), ('From', key.source)]
  lines = '\n'.join(f'| {name} | {said} |' for name, said in facts if said)
  return (
    f'### `{key.name}` {{: #{key.name} }}\n\n{key.text}\n\n'
    f'| | |\n| --- | --- |\n{lines}\n'
  )


def _describe_section(docstring: str) -> str:
  first, _, rest = docstring.partition('\n')
  first = first.partition(': ')[2]
  return f'{first[:1].upper()}{first[1:]}\n{rest}'.rstrip()


def _find_comments(
  function: ast.FunctionDef, lines: list[str]
) -> Iterator[tuple[str, list[str]]]:
  """Yields the keys that a function sets, each with its comment's lines.

  Keys that stand under one comment share it.
  """
  comment: list[str] = []
  for statement in function.body:
    if not isinstance(statement, ast.Assign):
      continue
    name = ast.unparse(statement.targets[0]).removeprefix('config.')
    if ast.unparse(statement.value) == 'ConfigDict()':
      continue
    above = []
    for line in reversed(lines[: statement.lineno - 1]):
      if not line.strip().startswith('#'):
        break
      above.insert(0, line.strip().removeprefix('#').removeprefix(' '))
    comment = above or comment
    yield name, comment


def _find_annotation(name: str) -> Any:
  section, _, key = name.rpartition('.')
  target = run.SECTIONS[section][0] if section else run.RootOptions
  return values.annotations(target)[key]


def _look_up(config: Mapping[str, Any], name: str) -> Any:
  for part in name.split('.'):
    config = config[part]
  return config


def _to_markdown(comment: list[str]) -> str:
  """Returns a comment as Markdown; what would be markup there is code."""
  text = textwrap.dedent('\n'.join(comment))
  text = re.sub(r'(?<!`)((?:coatnet_jax|configs)[/.][\w/.]*\w)', r'`\1`', text)
  return re.sub(r'(?<![\w`])(\([\'"]\^.*?\))', r'`\1`', text)
