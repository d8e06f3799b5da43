"""What a comparison's processes are asked, and how they answer.

A contestant is a process that computes when it is asked to and else waits, so
that only one of them works at a time. Each line on its stdin is a question, a
JSON list of a name and arguments; each line that it writes to stdout answers
the last one: `{"answer": ...}`, or `{"error": "..."}`. Here is the contestant's
end; who asks is in turns.py.
"""

import json
import os
import pathlib
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from coatnet_jax.strict_json import to_json


class Contestant(Protocol):
  """What a comparison asks of one that computes; see turns.py."""

  def prepare(self) -> dict[str, Any]:
    """Makes model and images, and returns what they are."""

  def compile(self) -> dict[str, Any]:
    """Takes the first two steps, and returns what they took."""

  def turn(self, steps: int) -> dict[str, float]:
    """Takes steps, and returns what one took."""

  def peak_bytes(self) -> int | None:
    """Returns the most memory held so far; None where it is not known."""


def serve(questions: Mapping[str, Callable[..., Any]]) -> None:
  """Answers what is asked on stdin until it is closed.

  Args:
    questions: functions by the names they are asked for; each returns what
      JSON has.
  """
  # What libraries print is no answer, and goes where errors do.
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  for line in sys.stdin:
    name, arguments = json.loads(line)
    try:
      reply = {'answer': questions[name](**arguments)}
    except Exception as error:  # Out of memory, or it does not compile.
      traceback.print_exc()
      reply = {'error': describe(error)}
    print(to_json(reply), file=answers, flush=True)


def answer_as(contestant: Contestant) -> None:
  """Answers what is asked of a contestant on stdin until it is closed."""
  serve(
    {
      name: getattr(contestant, name)
      for name in ('prepare', 'compile', 'turn', 'peak_bytes')
    }
  )


def describe(error: BaseException) -> str:
  r"""Returns an error in a line: its first, with what that announces.

  >>> describe(ValueError('too much\nand more'))
  'ValueError: too much'
  >>> describe(RuntimeError("backend='inductor' raised:\nTypeError: too much"))
  "RuntimeError: backend='inductor' raised: TypeError: too much"
  """
  first, *rest = str(error).strip().splitlines() or ['']
  if first.endswith(':') and rest:
    first = f'{first} {rest[0].strip()}'
  return f'{type(error).__name__}: {first[:200]}'


def time_steps(
  take_step: Callable[[], Any], wait: Callable[[], Any], steps: int
) -> dict[str, float]:
  """Returns seconds per step, by the clock and of the processor.

  One step before does not count: what others did in between has taken this
  process's memory and caches.

  Args:
    take_step: function that starts a step.
    wait: function that returns when all steps are done.
    steps: number of steps to time.
  """
  take_step()
  wait()
  clock, processor = time.perf_counter(), time.process_time()
  for _ in range(steps):
    take_step()
  wait()
  return {
    'seconds': (time.perf_counter() - clock) / steps,
    'processor_seconds': (time.process_time() - processor) / steps,
  }


def read_peak_memory() -> int | None:
  """Returns the most memory that this process has held, in bytes.

  `getrusage` has that of the process before its program was started, too.
  """
  try:
    status = pathlib.Path('/proc/self/status').read_text()
  except OSError:  # Another system than Linux.
    return None
  found = re.search(r'^VmHWM:\s+(\d+) kB', status, re.MULTILINE)
  return int(found[1]) << 10 if found else None
