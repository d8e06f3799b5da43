"""The one exception for what a user got wrong.

`main.py` and the tools print its message and exit with status 1; everything
else that is raised is a bug and keeps its traceback.
"""


class UserError(ValueError):
  """Something the user can put right: says what is wrong and what to do.

  The message is one sentence or a short list, complete without a traceback.
  """


def shorten(lines: list[str], limit: int = 20) -> list[str]:
  """Returns the lines of a list for a message, the last for those left out."""
  if len(lines) <= limit:
    return lines
  return [*lines[:limit], f'  and {len(lines) - limit:,} more']
