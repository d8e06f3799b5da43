"""A run of main.py as it is seen from outside: lines, files, processes."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.chaos.system_calls import FailingProgram

ROOT = pathlib.Path(__file__).parents[2]
# After so long without an end a run hangs.
TIMEOUT_SECONDS = 400.0
# How long processes of a run may still be there when it has ended.
_LAST_SECONDS = 10.0


class StartedRun:
  """A process of main.py with all that it starts, in a session of its own."""

  def __init__(
    self,
    words: Sequence[str],
    workdir: pathlib.Path,
    output: pathlib.Path,
    *,
    environment: dict[str, str] | None = None,
    calls_can_fail: bool = False,
  ):
    """Starts it.

    Args:
      words: words of the command line but --workdir.
      workdir: workdir of the run.
      output: file for what it says.
      environment: further variables of the environment.
      calls_can_fail: whether `failing.fail` is to work, which makes every
        access of a file slower.
    """
    self.workdir = workdir
    self._output = output
    self.failing: FailingProgram | None = None
    words = [sys.executable, 'main.py', *words, f'--workdir={workdir}']
    options = {
      'cwd': ROOT,
      'stdin': subprocess.DEVNULL,
      'start_new_session': True,
      'env': {**os.environ, 'PYTHONUNBUFFERED': '1', **(environment or {})},
    }
    self.started = time.monotonic()
    if calls_can_fail:
      self.failing = FailingProgram(
        words, below=workdir, output=output, **options
      )
      self.process = self.failing.process
    else:
      with output.open('wb') as file:
        self.process = subprocess.Popen(
          words, stdout=file, stderr=subprocess.STDOUT, **options
        )

  def __enter__(self):
    """Leaves the run as it is."""
    return self

  def __exit__(self, *_):
    """Leaves none of its processes behind."""
    self.kill_all()

  def read_output(self) -> str:
    """Returns what it has said so far, on stdout and stderr."""
    return self._output.read_text(errors='backslashreplace')

  def has_ended(self) -> bool:
    """Returns whether the process has ended; its workers may have not."""
    return self.process.poll() is not None

  def wait(self, timeout: float = TIMEOUT_SECONDS) -> int | None:
    """Returns the exit status; None if it had to be killed, with its workers.

    Args:
      timeout: seconds that it may take.
    """
    try:
      return self.process.wait(timeout)
    except subprocess.TimeoutExpired:
      self.kill_all()
      return None

  def send(self, number: int, to_group: bool = False) -> None:
    """Sends a signal, if the process is still there.

    Args:
      number: number of the signal.
      to_group: whether workers get it too, as by Ctrl-C or Slurm.
    """
    if not self.has_ended():
      (os.killpg if to_group else os.kill)(self.process.pid, number)

  def has_begun(self) -> bool:
    """Returns whether main.py's first line is reached, which minds signals.

    Before it Python itself starts, and ends by a signal as it always does.
    """
    if sys.platform != 'linux':
      return True
    status = _read_process_file(self.process.pid, 'status').decode()
    masks = re.findall(r'^Sig(?:Blk|Cgt):\s*([0-9a-f]+)', status, re.M)
    return any(int(mask, 16) >> signal.SIGTERM - 1 & 1 for mask in masks)

  def find_workers(self) -> list[int]:
    """Returns the numbers of the processes that prepare data."""
    return [
      process
      for process in self.find_processes()
      if b'spawn_main' in _read_process_file(process, 'cmdline')
    ]

  def find_survivors(self) -> list[int]:
    """Returns what is left of an ended run, after a while; normally nothing."""
    deadline = time.monotonic() + _LAST_SECONDS
    while survivors := self.find_processes():
      if time.monotonic() > deadline:
        return survivors
      time.sleep(0.1)
    return []

  def kill_all(self) -> None:
    """Kills the process and all that it started."""
    self.process.kill()  # Nobody, if it has ended.
    for process in self.find_processes():
      with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    self.process.wait()

  def find_processes(self) -> list[int]:
    """Returns the numbers of its processes, its own and what it started."""
    found = []
    for path in pathlib.Path('/proc').iterdir():
      if not path.name.isdigit():
        continue
      # State, parent, group and session follow the name, which is in brackets.
      stat = _read_process_file(int(path.name), 'stat').rpartition(b')')[2]
      state, *_, session = stat.split()[:4] or (b'X', b'0')
      if state not in b'ZX' and int(session) == self.process.pid:
        found.append(int(path.name))
    return found


def find_last_step(output: str) -> int:
  """Returns the last step that a run's output tells of; 0 if there is none."""
  return max(map(int, re.findall(r'^step (\d+)/', output, re.M)), default=0)


def _read_process_file(process: int, name: str) -> bytes:
  try:
    return pathlib.Path(f'/proc/{process}/{name}').read_bytes()
  except OSError:  # It has ended.
    return b''
