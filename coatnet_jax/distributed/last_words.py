"""Says why a process ended when it could not say so itself.

`kill -9`, and JAX's own way out when it loses process 0 (`abort()` in C++),
leave a process no time for a message. So each process of a run on several
starts a small one beside it, which reads lines from a pipe; when the pipe
closes without a word, it says what it was told last. It holds nothing, and ends
with the process that started it.

This file is that small program too, and imports nothing of the project.
"""

import json
import signal
import socket
import subprocess
import sys


class LastWords:
  """What is to be said on stderr if this process ends without a word."""

  def __init__(self):
    """Starts the program that says it."""
    self._process = subprocess.Popen(
      [sys.executable, '-I', '-S', __file__], stdin=subprocess.PIPE, text=True
    )

  def prepare(self, text: str, *, address: str = '', lost: str = '') -> None:
    """Replaces what is to be said.

    Args:
      text: sentence to be said.
      address: host:port that is tried first.
      lost: sentence to be said instead if the address cannot be reached.
    """
    words = json.dumps({'text': text, 'address': address, 'lost': lost})
    self._process.stdin.write(words + '\n')
    self._process.stdin.flush()

  def cancel(self) -> None:
    """Says nothing: this process ends in order, or has said why not."""
    try:
      self.prepare('')
      self._process.stdin.close()
      self._process.wait(timeout=5)
    except (OSError, ValueError, subprocess.TimeoutExpired):
      pass  # It is gone, or was cancelled before.


def _is_reachable(address: str) -> bool:
  host, _, port = address.rpartition(':')
  try:
    socket.create_connection((host.strip('[]'), int(port)), 5).close()
  except OSError:
    return False
  return True


def main() -> None:
  """Reads words until the pipe closes, and says the last of them."""
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
  words = {'text': ''}
  for line in sys.stdin:
    words = json.loads(line)
  if not words['text']:
    return
  if words['address'] and not _is_reachable(words['address']):
    words['text'] = words['lost']
  print(words['text'], file=sys.stderr, flush=True)


if __name__ == '__main__':
  main()
