"""The one exception for what a user got wrong, and the form of its messages.

`main.py` and the tools print its message and exit with status 1; everything
else that is raised is a bug and keeps its traceback.

A message says what is wrong, where, what is allowed and what to do, in this
order. A key of a config is called by its whole name: config.loss.kind.
"""

import contextlib
import difflib
import errno
import reprlib
from collections.abc import Collection, Iterator, Mapping

# Failures of a disk or a file system, and no mistake of a program.
_DISK_FAILURES = (
  errno.EIO,
  errno.ENOSPC,
  errno.EDQUOT,
  errno.EROFS,
  errno.ESTALE,
)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120


class UserError(ValueError):
  """Something the user can put right: says what is wrong and what to do.

  The message is one sentence or a short list, complete without a traceback.
  """


def explain_choice(
  where: str, value: object, choices: Collection[str], *, listed: str = ''
) -> str:
  """Returns the message for a value that is none of those there are.

  >>> explain_choice('config.loss.kind', 'sofmax', ['softmax', 'sigmoid'])
  "config.loss.kind is 'sofmax'; it must be one of softmax, sigmoid; did you
  mean softmax?"

  Args:
    where: name of what was chosen, as the user knows it.
    value: value that was given.
    choices: values that are allowed; perhaps a mapping whose keys they are.
    listed: words for where the choices are listed, if they are too many for a
      message: 'of the TPU v5e'.
  """
  return (
    f'{where} is {show(value)}; {list_choices(value, choices, listed=listed)}'
  )


def list_choices(
  value: object,
  choices: Collection[str],
  *,
  listed: str = '',
  shown: Mapping[str, str] | None = None,
  words: str = 'it must be one of',
) -> str:
  """Returns the end of such a message, where its beginning is another.

  >>> list_choices('trian', ['test', 'train'])
  'it must be one of test, train; did you mean train?'

  Args:
    value: value that was given.
    choices: values that are allowed, as `explain_choice` takes them.
    listed: words for where they are listed, as `explain_choice` takes them.
    shown: how each is shown, as `suggest` takes it.
    words: words before the list, where others than these are possible too.
  """
  names = ', '.join(shown[name] if shown else name for name in choices)
  if listed:
    names = f'the {len(choices)} {listed}'
  return f'{words} {names}{suggest(value, choices, shown=shown)}'


def suggest(
  value: object,
  choices: Collection[str],
  *,
  shown: Mapping[str, str] | None = None,
  likeness: float = 0.6,
) -> str:
  """Returns a message's very end: the choice most like a value, if any is.

  >>> suggest('trian', ['test', 'train']), suggest('x', ['test', 'train'])
  ('; did you mean train?', '.')

  Args:
    value: value that was given.
    choices: values that are allowed.
    shown: how each is shown, where that is not as it is compared.
    likeness: how like it must be, 0 to 1; see difflib.
  """
  text = value if isinstance(value, str) else ''
  similar = difflib.get_close_matches(text, list(choices), 1, likeness)
  if not similar:
    return '.'
  return f'; did you mean {shown[similar[0]] if shown else similar[0]}?'


def shorten(lines: list[str], limit: int = 20) -> list[str]:
  """Returns the lines of a list for a message, the last for those left out.

  >>> shorten(['one', 'two', 'three'], limit=1)
  ['one', '  and 2 more']
  """
  if len(lines) <= limit:
    return lines
  return [*lines[:limit], f'  and {len(lines) - limit:,} more']


def show(value: object) -> str:
  """Returns a value as Python writes it, shortened to one line of a message.

  >>> show('x' * 1000)[:10], len(show('x' * 1000))
  ("'xxxxxxxxx", 120)
  """
  return _SHORT.repr(value)


def cite_line(text: str, place: int = 0) -> str:
  r"""Returns a line of what another program says, for within a sentence.

  >>> cite_line('ValueError: no such shape\n  at line 3\n')
  'ValueError: no such shape'
  >>> cite_line('')
  'without a word'

  Args:
    text: all that it says, of any length.
    place: place of the line among those of the text: 0 for the first, -1 for
      the last.
  """
  lines = text.strip().splitlines() or ['without a word']
  return lines[place][:300]


def find_reason(error: BaseException) -> str:
  """Returns why reading or writing failed, briefly, for within a sentence.

  >>> find_reason(OSError(28, 'No space left on device', '/tmp/file'))
  'No space left on device'

  Args:
    error: error that was raised; what caused it says more.
  """
  while error.__cause__ is not None:
    error = error.__cause__
  if reason := getattr(error, 'strerror', None):
    return reason
  text = str(error).strip() or type(error).__name__
  # TensorFlow's has the operation and the path before the reason.
  return text.splitlines()[0].rpartition('; ')[2][:300].rstrip('.')


@contextlib.contextmanager
def explain_failures(what: str) -> Iterator[None]:
  """Makes a UserError of whatever reading or writing raises inside.

  Of any kind, since what reads and writes buckets raises kinds of its own. A
  UserError stays as it is.

  >>> with explain_failures('The page cannot be written to /dev/full'):
  ...   raise OSError(28, 'No space left on device')
  Traceback (most recent call last):
  coatnet_jax.errors.UserError: The page cannot be written to /dev/full: No
  space left on device.

  Args:
    what: the message before the reason, without the colon.

  Raises:
    UserError: something was raised inside.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    raise UserError(f'{what}: {find_reason(error)}.') from error


def explain_disk_failure(error: OSError) -> str:
  """Returns the message for a disk that fails where nobody expects it, or ''.

  >>> explain_disk_failure(OSError(5, 'Input/output error', '/data/run'))
  '/data/run cannot be read or written: Input/output error. Look at that disk,
  and give the same command again.'

  Args:
    error: error that was raised; one that is no failure of a disk has none.
  """
  is_denied = isinstance(error, PermissionError) and error.filename is not None
  if error.errno not in _DISK_FAILURES and not is_denied:
    return ''
  return (
    f'{error.filename or "A file"} cannot be read or written:'
    f' {find_reason(error)}. Look at that disk, and give the same command'
    ' again.'
  )
