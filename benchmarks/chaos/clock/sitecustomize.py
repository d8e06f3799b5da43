"""A clock that jumps; Python imports this file before the program.

$CHAOS_CLOCK is 'AFTER:JUMP': `time.time` jumps by JUMP seconds when the process
is AFTER seconds old. It is Python's clock alone: the system's cannot be set for
one program.
"""

import os
import time

_time, _time_ns, _monotonic = time.time, time.time_ns, time.monotonic
_after, _jump = map(float, os.environ['CHAOS_CLOCK'].split(':'))
_started = _monotonic()


def _find_offset() -> float:
  return _jump if _monotonic() - _started >= _after else 0.0


time.time = lambda: _time() + _find_offset()
time.time_ns = lambda: _time_ns() + int(_find_offset() * 1e9)
