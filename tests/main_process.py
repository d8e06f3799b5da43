"""main.py in a process of its own, as it is started from a terminal."""

import pathlib
import subprocess
import sys
from typing import Any

_ROOT = pathlib.Path(__file__).parents[1]


def run_main(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
  """Runs main.py to its end, and returns its status and what it printed.

  Args:
    *words: words of the command line after the program's name.
    **options: further options, those of `subprocess.run`.
  """
  return subprocess.run(
    [sys.executable, 'main.py', *words],
    cwd=_ROOT,
    capture_output=True,
    text=True,
    check=False,
    **options,
  )


def start_main(*words: str, **options: Any) -> subprocess.Popen[str]:
  """Starts main.py, and returns its process.

  Args:
    *words: words of the command line after the program's name.
    **options: further options, those of `subprocess.Popen`.
  """
  return subprocess.Popen(
    [sys.executable, 'main.py', *words], cwd=_ROOT, text=True, **options
  )
