"""What main.py and the tools share of argparse: parsers, numbers, lists."""

import argparse
import contextlib
import functools
from collections.abc import Callable, Collection, Iterator
from typing import Annotated, Any, NoReturn

from coatnet_jax.errors import UserError, explain_choice, suggest
from coatnet_jax.escapes import escape
from coatnet_jax.values import Range, convert


def create_parser(
  program: str,
  description: str,
  parser_class: type[argparse.ArgumentParser] | None = None,
) -> argparse.ArgumentParser:
  """Returns a parser without arguments, which takes no part of a name for it.

  Args:
    program: name of the program in its help: 'main.py'.
    description: docstring of the program's module.
    parser_class: class of the parser; `Parser` if None.
  """
  return (parser_class or Parser)(
    prog=program,
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )


def add_number(
  parser: argparse.ArgumentParser,
  name: str,
  kind: type = int,
  *,
  at_least: float | None = None,
  above: float | None = None,
  below: float | None = None,
  metavar: str = 'N',
  **options: Any,
) -> None:
  """Adds an argument that is a number; others are a UserError that names it.

  Without a lower bound it must be positive.

  Args:
    parser: parser to add it to.
    name: name of the argument: '--top'.
    kind: type of the number, int or float.
    at_least: smallest number, if any.
    above: exclusive lower bound, if any.
    below: exclusive upper bound; 2**31 if None.
    metavar: word for the number in the help.
    **options: further options, those of `parser.add_argument`.
  """
  if at_least is None and above is None:
    at_least, above = (None, 0) if kind is float else (1, None)
  bounds = Range(
    at_least=at_least, above=above, below=2**31 if below is None else below
  )
  parser.add_argument(
    name,
    action=functools.partial(_StoreNumber, kind=Annotated[kind, bounds]),
    metavar=metavar,
    **options,
  )


def add_names(
  parser: argparse.ArgumentParser,
  name: str,
  choices: Collection[str],
  *,
  metavar: str = 'NAMES',
  **options: Any,
) -> None:
  """Adds an argument that is names with commas between, which becomes a list.

  Args:
    parser: parser to add it to.
    name: name of the argument: '--models'.
    choices: names that may be given; any other is a UserError that lists them.
    metavar: word for the names in the help.
    **options: further options, those of `parser.add_argument`; a default is
      text, as it is typed.
  """

  def read(flag: str, text: str) -> str:
    if text not in choices:
      raise UserError(explain_choice(flag, text, choices))
    return text

  parser.add_argument(
    name,
    type=_split,
    action=functools.partial(_StoreList, read=read),
    metavar=metavar,
    **options,
  )


def add_batch_sizes(
  parser: argparse.ArgumentParser, name: str, **options: Any
) -> None:
  """Adds an argument that is numbers of images with commas between.

  Args:
    parser: parser to add it to.
    name: name of the argument: '--batches'.
    **options: further options, as `add_names` takes them.
  """
  kind = Annotated[int, Range(at_least=1, below=2**16)]
  parser.add_argument(
    name,
    type=lambda text: [_read_number(part) for part in _split(text)],
    action=functools.partial(
      _StoreList, read=lambda flag, number: convert(flag, number, kind)
    ),
    metavar='NUMBERS',
    **options,
  )


class Parser(argparse.ArgumentParser):
  """A parser whose errors are a line that shows what was typed."""

  def parse_args(self, args=None, namespace=None):
    """Returns the arguments; a flag that there is none of ends the program."""
    options, rest = self.parse_known_args(args, namespace)
    if rest:
      flags = list(self._list_flags())
      name = rest[0].split('=')[0]
      self.error(f'{name} is none of its flags{suggest(name, flags)}')
    return options

  def _list_flags(self) -> Iterator[str]:
    """Yields the flags, those of the commands too."""
    for action in self._actions:
      yield from action.option_strings
      if isinstance(action, argparse._SubParsersAction):
        for parser in action.choices.values():
          yield from parser._list_flags()

  def error(self, message: str) -> NoReturn:
    """Ends the program with a line and status 2."""
    text = escape(message).removesuffix('.')
    self.exit(2, f'{self.prog}: error: {text} (--help lists the flags).\n')


class _StoreNumber(argparse.Action):
  """Stores the number that a text is; a default stays what it is."""

  def __init__(self, *args: Any, kind: Any, **options: Any):
    super().__init__(*args, **options)
    self._kind = kind

  def __call__(self, parser, namespace, values, option_string=None):
    """Raises UserError for what is no such number."""
    number = convert(option_string, _read_number(values), self._kind)
    setattr(namespace, self.dest, number)


class _StoreList(argparse.Action):
  """Stores the parts of a text that has commas; a default stays what it is."""

  def __init__(self, *args: Any, read: Callable[[str, Any], Any], **options):
    super().__init__(*args, **options)
    self._read = read

  def __call__(self, parser, namespace, values, option_string=None):
    """Raises UserError for a part that cannot be."""
    parts = [self._read(option_string, part) for part in values]
    setattr(namespace, self.dest, parts)


def _split(text: str) -> list[str]:
  return [part.strip() for part in text.split(',')]


def _read_number(text: str) -> int | float | str:
  for kind in (int, float):
    with contextlib.suppress(ValueError):
      return kind(text)
  return text
