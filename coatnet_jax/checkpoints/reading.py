"""Reading from disks and buckets that may fail once."""

import time
from collections.abc import Callable
from typing import TypeVar

# How long to wait before each further try.
RETRY_SECONDS = (0.1, 1.0, 3.0)

_Result = TypeVar('_Result')


def try_again(read: Callable[[], _Result]) -> _Result:
  """Returns what a function reads; a failure counts if it fails every time."""
  for seconds in RETRY_SECONDS:
    try:
      return read()
    except (
      FileNotFoundError,
      PermissionError,
      ValueError,
      TypeError,
      KeyError,
    ):
      raise  # Another try would say the same.
    except Exception:  # What reads buckets raises kinds of its own.
      time.sleep(seconds)
  return read()


def describe_read_failure(error: Exception) -> str:
  """Returns why a file could not be read, for after its name."""
  if isinstance(error, FileNotFoundError):
    return 'is missing'
  return f'cannot be read ({getattr(error, "strerror", None) or error})'
