"""What a terminal would do with a text, instead of showing it.

Imports nothing that takes time, to be there from the first line on.
"""

import re

# What a terminal does instead of showing it: control characters but for a tab
# and a line's end, marks of a text's direction, halves of a character.
_UNSHOWN = re.compile(
  '[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e'
  '\u2066-\u2069\ud800-\udfff]'
)


def escape(text: str) -> str:
  r"""Returns a text with what a terminal would do, not show, by its number.

  For all that is printed or logged: names come from others.

  >>> print(escape('cat \x1b[2J \u202e'))
  cat \x1b[2J \u202e

  Args:
    text: text of several lines.
  """
  return _UNSHOWN.sub(_write_number, text)


def _write_number(found: re.Match[str]) -> str:
  number = ord(found[0])
  return f'\\x{number:02x}' if number < 256 else f'\\u{number:04x}'
