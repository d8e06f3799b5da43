"""Pages of main.py and the tools, made of what their parsers take."""

import argparse
import html
import importlib
import inspect
import itertools
import re
import textwrap

import main
import tools

# Code in a sentence, which may go over a line's end.
_CODE = re.compile(r'(`[^`]+`)')


def list_programs() -> dict[str, argparse.ArgumentParser]:
  """Returns the parser of main.py and of each tool, by the page's name."""
  parsers = {'main': main.create_parser()}
  for name in tools.TOOLS:
    parsers[name] = importlib.import_module(f'tools.{name}').create_parser()
  return parsers


def write_page(parser: argparse.ArgumentParser) -> str:
  """Returns a program's page as Markdown.

  Args:
    parser: parser of the program; those of its commands follow.
  """
  parts = [f'# {parser.prog}\n', _describe(parser), _write_flags(parser)]
  for action in parser._actions:
    if isinstance(action, argparse._SubParsersAction):
      for name, command in action.choices.items():
        parts += [f'## {name}\n', _describe(command), _write_flags(command)]
  return '\n'.join(parts)


def _describe(parser: argparse.ArgumentParser) -> str:
  """Returns what a parser says of its program; indented lines are code."""
  text = inspect.cleandoc(parser.description or '')
  parts = []
  for is_code, lines in itertools.groupby(
    text.split('\n'), lambda line: line.startswith(' ')
  ):
    part = '\n'.join(lines).strip('\n')
    parts.append(
      f'```text\n{textwrap.dedent(part)}\n```'
      if is_code
      else ''.join(map(_escape_beside_code, _CODE.split(part)))
    )
  return '\n\n'.join(parts) + '\n'


def _escape_beside_code(text: str) -> str:
  return text if _CODE.fullmatch(text) else _escape(text)


def _write_flags(parser: argparse.ArgumentParser) -> str:
  """Returns a table of what a parser takes."""
  rows = ['| | | |', '| --- | --- | --- |']
  for action in parser._actions:
    if action.help == argparse.SUPPRESS or isinstance(
      action, argparse._HelpAction
    ):
      continue
    rows.append(
      f'| {_name(action)} | {_help(parser, action)} | {_need(action)} |'
    )
  return '\n'.join(rows) + '\n' if len(rows) > 2 else ''


def _name(action: argparse.Action) -> str:
  if isinstance(action, argparse._SubParsersAction):
    return '`COMMAND`'
  if not action.option_strings:
    return _code(_value(action))
  value = '' if action.nargs == 0 else f'={_value(action)}'
  return ', '.join(_code(name + value) for name in action.option_strings)


def _value(action: argparse.Action) -> str:
  if action.metavar:
    value = action.metavar
    return value if isinstance(value, str) else ' '.join(value)
  if action.choices:
    return '{' + ','.join(map(str, action.choices)) + '}'
  return action.dest.upper()


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
  if isinstance(action, argparse._SubParsersAction):
    return 'one of ' + ', '.join(f'`{name}`' for name in action.choices)
  text = parser._get_formatter()._expand_help(action) if action.help else ''
  return _escape(' '.join(text.split()))


def _need(action: argparse.Action) -> str:
  """Returns whether a flag is needed, or what it is without."""
  # To argparse a positional argument is required even if it may be left out.
  if (
    action.required if action.option_strings else action.nargs not in ('?', '*')
  ):
    return 'needed'
  if action.nargs == 0 or action.default in (None, '', argparse.SUPPRESS):
    return ''
  return f'default {_code(str(action.default))}'


def _code(text: str) -> str:
  """Returns inline code that a table's cell takes."""
  if '|' not in text:
    return f'`{text}`'
  return f'<code>{html.escape(text)}</code>'.replace('|', '&#124;')


def _escape(text: str) -> str:
  """Returns text whose characters mean themselves, in a table's cell too."""
  for character in '\\`*_|[{':
    text = text.replace(character, '\\' + character)
  return text.replace('&', '&amp;').replace('<', '&lt;')
