"""What a value that a user gives may be: said once, where it is named.

    class MixupOptions(Options, section='config.mixup'):
      mixup_alpha: Annotated[float, Range(at_least=0, at_most=1000)]

An annotation is the type, and what stands beside it in `Annotated` the range: a
`Range`, `OneOf`, `NOT_EMPTY`, `REGULAR_EXPRESSION`, or a text that a message
ends with. `Options` are dataclasses that check themselves, `checked` functions
check their arguments; `convert` checks one value. Each message has one form:

    config.mixup.mixup_alpha is -1.0; it must be a number, at least 0 and at
    most 1000.

Numbers are finite, True is no number, and nothing is made of a text; what means
the same is taken: 64.0 for 64, 1 for 1.0, a list for a tuple. Not here: what
keys say of each other, which stands where they are used.
"""

import functools
import inspect
import math
import numbers
import re
import reprlib
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np

from coatnet_jax.errors import UserError, list_choices, suggest

# What float32 can hold, in which numbers are computed with.
_LARGEST = float(np.finfo(np.float32).max)

_P = ParamSpec('_P')
_T = TypeVar('_T')


class UnknownNameError(UserError, TypeError):
  """A name that is none of those there are, or one of them that is missing."""


@dataclass(frozen=True, kw_only=True)
class Range:
  """Numbers between bounds.

  >>> 0.5 in Range(at_least=0, below=1), 1 in Range(at_least=0, below=1)
  (True, False)
  >>> str(Range(at_least=0, below=1))
  'at least 0 and below 1'

  Attributes:
    at_least: smallest number allowed, if any.
    above: number that all are larger than, if any.
    at_most: largest number allowed, if any.
    below: number that all are smaller than, if any.
    also: numbers outside that are allowed too.
  """

  at_least: float | None = None
  above: float | None = None
  at_most: float | None = None
  below: float | None = None
  also: tuple[float, ...] = ()

  def __contains__(self, value: float) -> bool:
    """Returns whether a number is allowed."""
    return value in self.also or (
      (self.at_least is None or value >= self.at_least)
      and (self.above is None or value > self.above)
      and (self.at_most is None or value <= self.at_most)
      and (self.below is None or value < self.below)
    )

  def __str__(self) -> str:
    """Returns the bounds for people: 'at least 0 and below 1'."""
    bounds = {
      'at least': self.at_least,
      'above': self.above,
      'at most': self.at_most,
      'below': self.below,
    }
    said = [f'{name} {n:,}' for name, n in bounds.items() if n is not None]
    also = ''.join(f', or {n}' for n in self.also)
    return ' and '.join(said) + also


@dataclass(frozen=True)
class OneOf:
  """Texts of a list.

  >>> 'relu' in OneOf(('gelu', 'relu')), str(OneOf(('gelu', 'relu')))
  (True, 'one of gelu, relu')

  Attributes:
    choices: texts that are allowed; perhaps a mapping whose keys they are.
  """

  choices: Collection[str]

  def __contains__(self, value: str) -> bool:
    """Returns whether a text is one of the choices."""
    return value in self.choices

  def __str__(self) -> str:
    """Returns the choices for people."""
    return f'one of {", ".join(self.choices)}'


@dataclass(frozen=True)
class _NotEmpty:
  def __contains__(self, value: Sequence) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)

  def __str__(self) -> str:
    return 'not empty'


@dataclass(frozen=True)
class _RegularExpression:
  def __contains__(self, value: str) -> bool:
    try:
      return bool(re.compile(value))
    except re.error:
      return False

  def __str__(self) -> str:
    return 'a regular expression'


NOT_EMPTY = _NotEmpty()
REGULAR_EXPRESSION = _RegularExpression()
_Pixels = typing.Annotated[int, Range(at_least=1, at_most=2**14)]
ImageSize = typing.Annotated[
  tuple[_Pixels, _Pixels], '(height, width) in pixels'
]
_BOUNDS = (Range, OneOf, _NotEmpty, _RegularExpression)


class Options:
  """Base of frozen dataclasses whose values come from a user.

  Each value is checked and converted as its field's annotation says, then
  `check` looks at them together.
  """

  _section = ''

  def __init_subclass__(cls, section: str = ''):
    """Takes what the values are called in messages: 'config.mixup'."""
    cls._section = section

  def __post_init__(self):
    """Raises UserError for a value of another type, or out of its range."""
    hints = annotations(type(self))
    for field in fields(self):
      name = _join(self._section, field.name)
      value = convert(name, getattr(self, field.name), hints[field.name])
      object.__setattr__(self, field.name, value)
    self.check()

  def check(self) -> None:
    """Raises UserError for values that contradict each other."""


def checked(function: Callable[_P, _T]) -> Callable[_P, _T]:
  """Returns a function that checks its arguments as they are annotated.

  >>> @checked
  ... def draw(size: typing.Annotated[int, Range(at_least=1)]) -> str:
  ...   return size * '*'
  ...
  >>> draw(3.0)
  '***'
  >>> draw(0)
  Traceback (most recent call last):
    ...
  coatnet_jax.errors.UserError: size is 0; it must be a whole number, at
  least 1.
  """
  signature = inspect.signature(function)

  @functools.wraps(function)
  def with_checks(*args: _P.args, **kwargs: _P.kwargs) -> _T:
    bound = signature.bind(*args, **kwargs)
    hints = annotations(function)
    for name, value in bound.arguments.items():
      if not _is_variadic(signature.parameters[name]):
        bound.arguments[name] = convert(name, value, hints.get(name, Any))
    return function(*bound.args, **bound.kwargs)

  return with_checks


def convert_arguments(
  target: Callable[..., Any],
  values: Mapping[str, Any],
  section: str,
  others: Collection[str] = (),
) -> dict[str, Any]:
  """Returns what a class or a function will be called with, by name.

  >>> def scale(factor: float, *, steps: int = 1) -> float:
  ...   return factor**steps
  ...
  >>> convert_arguments(scale, {'factor': 2, 'steps': 3.0}, 'config.scale')
  {'factor': 2.0, 'steps': 3}

  Args:
    target: subclass of `Options`, or a function.
    values: values by the names of the target's parameters.
    section: name of the values in messages: 'config.mixup'.
    others: names of the parameters that do not come from there.

  Returns:
    Each value as its parameter's annotation says.

  Raises:
    UserError: a value of another type, or out of its range; a name too many or
      too few.
  """
  parameters = inspect.signature(target).parameters
  if not any(_is_variadic(p) for p in parameters.values()):
    allowed = [name for name in parameters if name not in others]
    check_names(section, values, allowed)
  for name, parameter in parameters.items():
    needed = parameter.default is parameter.empty
    if (
      needed and name not in (*others, *values) and not _is_variadic(parameter)
    ):
      raise UnknownNameError(f'{_join(section, name)} is missing.')
  hints = annotations(target)
  return {
    name: convert(_join(section, name), value, hints.get(name, Any))
    for name, value in values.items()
  }


def check_names(
  section: str, names: Iterable[str], allowed: Collection[str]
) -> None:
  """Checks that names are some of those there are.

  >>> check_names('config.mixup', ['alpha'], ['alpha', 'probability'])
  >>> check_names('config.mixup', ['alhpa'], ['alpha', 'probability'])
  Traceback (most recent call last):
    ...
  coatnet_jax.values.UnknownNameError: There is no config.mixup.alhpa;
  it must be one of alpha, probability; did you mean alpha?

  Args:
    section: section that they are names in, for the message; may be empty.
    names: names to be checked.
    allowed: names there are.

  Raises:
    UnknownNameError: the first that is not, with the one most like it.
  """
  for name in names:
    if name not in allowed:
      raise UnknownNameError(
        f'There is no {_join(section, name)};'
        f' {list_choices(name, sorted(allowed))}'
      )


@functools.cache
def annotations(target: Callable[..., Any]) -> dict[str, Any]:
  """Returns the annotations of a class's fields or a function's parameters."""
  return typing.get_type_hints(target, include_extras=True)


def convert(name: str, value: Any, annotation: Any) -> Any:
  """Returns a value as what its annotation says it is.

  >>> convert('config.seed', 3.0, int)
  3
  >>> image_size = [224, 224]
  >>> convert('config.preprocessing.image_size', image_size, ImageSize)
  (224, 224)
  >>> convert('config.seed', -1, typing.Annotated[int, Range(at_least=0)])
  Traceback (most recent call last):
    ...
  coatnet_jax.errors.UserError: config.seed is -1; it must be a whole
  number, at least 0.

  Args:
    name: name of the value in the message.
    value: value that was given.
    annotation: bool, int, float, str, tuples or sequences of them, `Options`,
      or one of these or None; `Annotated` with what is allowed. Anything else
      is not looked at.

  Raises:
    UserError: it is of another type, or out of its range.
  """
  try:
    return _convert(value, annotation)
  except (TypeError, ValueError, OverflowError):
    _, bounds, _ = _split(annotation)
    choices = [b.choices for b in bounds if isinstance(b, OneOf)]
    end = suggest(value, choices[0]) if choices else '.'
    shown = reprlib.repr(value)
    raise UserError(
      f'{name} is {shown}; it must be {describe(annotation)}{end}'
    ) from None


def describe(annotation: Any) -> str:
  """Returns what an annotation allows, for people.

  >>> describe(typing.Annotated[float, Range(at_least=0, at_most=1)])
  'a number, at least 0 and at most 1'

  Args:
    annotation: annotation of a value; see `convert`.
  """
  kind, bounds, notes = _split(annotation)
  return _describe(kind, bounds) + ''.join(f': {note}' for note in notes)


def _convert(value: Any, annotation: Any) -> Any:
  """Returns the value converted; raises ValueError if it is not allowed."""
  kind, bounds, _ = _split(annotation)
  origin = typing.get_origin(kind)
  if origin in (typing.Union, types.UnionType):
    kinds = typing.get_args(kind)
    if value is None and types.NoneType in kinds:
      return None
    (rest, *others) = [k for k in kinds if k is not types.NoneType]
    return value if others else _convert(value, rest)
  if origin in (tuple, Sequence):
    value = _convert_tuple(value, typing.get_args(kind))
  elif kind in _SCALARS:
    value = _SCALARS[kind](value)
  elif is_dataclass(kind) and not isinstance(value, kind):
    raise ValueError
  if not all(value in bound for bound in bounds):
    raise ValueError
  return value


def _convert_tuple(value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
  if not isinstance(value, list | tuple):
    raise ValueError
  if len(kinds) == 1 or kinds[1] is Ellipsis:
    kinds = kinds[:1] * len(value)
  return tuple(_convert(v, kind) for v, kind in zip(value, kinds, strict=True))


def _convert_bool(value: Any) -> bool:
  if not isinstance(value, bool | np.bool_):
    raise ValueError
  return bool(value)


def _convert_float(value: Any) -> float:
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    raise ValueError
  value = float(value)
  if not math.isfinite(value) or abs(value) > _LARGEST:
    raise ValueError
  return value


def _convert_int(value: Any) -> int:
  if isinstance(value, numbers.Integral) and not isinstance(value, bool):
    return int(value)
  converted = _convert_float(value)
  if not converted.is_integer():
    raise ValueError
  return int(converted)


def _convert_str(value: Any) -> str:
  if not isinstance(value, str):
    raise ValueError
  return value


_SCALARS = {
  bool: _convert_bool,
  int: _convert_int,
  float: _convert_float,
  str: _convert_str,
}
_NOUNS = {
  bool: 'True or False',
  int: 'a whole number',
  float: 'a number',
  str: 'text',
}


def _split(annotation: Any) -> tuple[Any, list[Any], list[str]]:
  """Returns the type of an annotation, its bounds and its notes."""
  if typing.get_origin(annotation) is not typing.Annotated:
    return annotation, [], []
  kind, *extras = typing.get_args(annotation)
  bounds = [extra for extra in extras if isinstance(extra, _BOUNDS)]
  return kind, bounds, [extra for extra in extras if isinstance(extra, str)]


def _describe(kind: Any, bounds: Sequence[Any]) -> str:
  """Returns what is allowed, for people."""
  origin = typing.get_origin(kind)
  if origin in (typing.Union, types.UnionType):
    return ' or '.join(
      'None' if k is types.NoneType else _describe(*_split(k)[:2])
      for k in typing.get_args(kind)
    )
  if origin in (tuple, Sequence):
    first, *rest = typing.get_args(kind)
    count = '' if rest in ([], [Ellipsis]) else f'{1 + len(rest)} '
    said = f'a tuple of {count}values, each {_describe(*_split(first)[:2])}'
  else:
    whole = f'a {getattr(kind, "__name__", kind)}'
    said = _NOUNS.get(kind, f'{whole} or a mapping of what changes in one')
  choices = [str(bound) for bound in bounds if isinstance(bound, OneOf)]
  return ', '.join(choices or [said, *map(str, bounds)])


def _join(section: str, name: str) -> str:
  return f'{section}.{name}' if section else name


def _is_variadic(parameter: inspect.Parameter) -> bool:
  return parameter.kind in (
    inspect.Parameter.VAR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
  )
