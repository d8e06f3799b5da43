"""How many parts a file may have: markers, chunks, blocks, strips."""

# Real ones have some thousands.
MAX_PARTS = 1 << 15


class UnusualFileError(ValueError):
  """A file that is damaged, or made to take time; the message says why."""


def count_part(number: int, kind: str) -> int:
  """Returns a number of parts and one more, if there may be one more.

  Args:
    number: number of parts until now.
    kind: kind of file, for the message: 'PNG'.

  Raises:
    UnusualFileError: there may be no more.
  """
  if number >= MAX_PARTS:
    raise UnusualFileError(f'a {kind} of more than {MAX_PARTS:,} parts')
  return number + 1
