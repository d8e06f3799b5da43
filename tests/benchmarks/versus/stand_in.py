"""A contestant for tests: answers at once, or does what goes wrong.

    python -m tests.benchmarks.versus.stand_in BEHAVIOUR SECONDS

SECONDS is what it says that a step takes.
"""

import os
import sys
import time

from benchmarks.versus import contestant

PARAMETERS = 1000


def main(behaviour: str, seconds: float) -> None:
  """Answers what is asked on stdin."""
  turns = 0

  def prepare():
    print('What a library prints is no answer.')
    num_parameters = PARAMETERS + (behaviour == 'another model')
    return {
      'num_parameters': num_parameters,
      'versions': {'python': '3'},
      'device': 'none',
    }

  def compile_step():
    if behaviour == 'does not compile':
      raise RuntimeError('last dimension must be contiguous\nand more')
    if behaviour == 'compiles for ever':
      time.sleep(60)
    return {'first_call_seconds': 2.0, 'notes': [], 'seconds': seconds}

  def turn(steps):
    nonlocal turns
    turns += 1
    if behaviour == 'dies' and turns == 2:
      print('out of memory', file=sys.stderr, flush=True)
      os._exit(3)
    # Ever slower, as on a machine that others use more and more.
    return {
      'seconds': seconds * turns,
      'processor_seconds': seconds * turns * steps,
    }

  contestant.serve(
    {
      'prepare': prepare,
      'compile': compile_step,
      'turn': turn,
      'peak_bytes': lambda: 1 << 30,
    }
  )


if __name__ == '__main__':
  main(sys.argv[1], float(sys.argv[2]))
