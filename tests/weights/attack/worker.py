"""Reads files that may be hostile, one by one, and says what came of it.

A process of its own: it may hang, crash or take too much, and is then killed
and started anew. It is asked by a line of JSON, [way, path], and answers with
one.
"""

import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import threading
import time
from typing import Any

_CONTROLS = re.compile('[\0-\x1f\x7f-\x9f]')
# So that this machine survives.
_ADDRESS_SPACE = 6 * 2**30


class Worker:
  """Such a process, and its answers."""

  def __init__(self):
    self._process = None

  def ask(
    self, way: str, path: pathlib.Path, *, seconds: float
  ) -> dict[str, Any]:
    """Returns what comes of reading a file.

    Args:
      way: one of `_WAYS`.
      path: path of the file.
      seconds: time after which the process is killed.

    Returns:
      'outcome': 'read', 'refused', another error's name, 'hang' or 'crash';
      'message'; 'seconds' and, of a processor, 'processor_seconds'; 'bytes',
      the most that were resident. Of it or of a process that it started.
    """
    if self._process is None:
      self._process = subprocess.Popen(
        [sys.executable, '-m', __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
      )
      self._process.stdout.readline()
    process = self._process
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    begin = time.monotonic()
    try:
      process.stdin.write(json.dumps([way, str(path)]).encode() + b'\n')
      process.stdin.flush()
      line = process.stdout.readline()
    finally:
      timer.cancel()
    if line.endswith(b'\n'):
      return json.loads(line)
    self.close()
    took = time.monotonic() - begin
    return {
      'outcome': 'hang' if took >= seconds else 'crash',
      'message': f'status {process.returncode}',
      'seconds': took,
      'processor_seconds': took,
      'bytes': 0,
    }

  def close(self) -> None:
    """Ends the process."""
    if self._process is not None:
      self._process.kill()
      self._process.communicate()
      self._process = None


def _read(path: pathlib.Path) -> None:
  """Reads a file as everyone does."""
  from coatnet_jax.weights.files import read_weights

  _check(read_weights(path).tensors, path)


def _describe(path: pathlib.Path) -> None:
  """Does what tools.import_timm does with what a file says of its model."""
  from coatnet_jax.data.augmentation import PreprocessingOptions
  from coatnet_jax.models.factory import create_model
  from coatnet_jax.weights.files import read_weights
  from coatnet_jax.weights.loading import check_size
  from coatnet_jax.weights.native import read_description
  from tools.import_timm import named_as_source

  weights = read_weights(path)
  description = read_description(weights)
  if description is None:
    return
  with named_as_source(path, description):
    model = create_model(**description.model)
    PreprocessingOptions(**description.preprocessing)
  check_size(model, weights)


def _read_keras_here(path: pathlib.Path) -> None:
  """Reads a Keras file without another process."""
  from coatnet_jax.weights import files, keras_file

  in_process = files._READERS['keras']
  files._READERS['keras'] = lambda p: keras_file.read_weights(p, str(p))
  try:
    _read(path)
  finally:
    files._READERS['keras'] = in_process


_WAYS = {'read': _read, 'describe': _describe, 'keras_here': _read_keras_here}


def _check(tensors: dict[str, Any], path: pathlib.Path) -> None:
  import numpy as np

  if not all(name.isprintable() for name in tensors):
    raise AssertionError('a name is not printable')
  arrays = {id(array): (name, array) for name, array in tensors.items()}
  for name, array in arrays.values():
    if array.dtype.kind not in 'fiub':
      raise AssertionError(f'{name!r} is an array of {array.dtype}')
    if array.dtype.kind == 'f' and not np.isfinite(array).all():
      raise AssertionError(f'{name!r} is not finite')


def _answer(way: str, path: str) -> dict[str, Any]:
  from coatnet_jax.errors import UserError

  if way == 'describe':  # JAX takes seconds to import.
    import tools.import_timm  # noqa: F401
  pathlib.Path('/proc/self/clear_refs').write_text('5')  # The peak is now.
  begin, busy = time.monotonic(), sum(os.times()[:4])
  outcome, message = 'read', ''
  try:
    _WAYS[way](pathlib.Path(path))
  except UserError as error:
    outcome, message = 'refused', str(error)
    if path not in message or _CONTROLS.search(message):
      outcome = 'no sentence'
  except BaseException as error:
    outcome, message = type(error).__name__, repr(error)[:500]
  seconds = time.monotonic() - begin
  status = pathlib.Path('/proc/self/status').read_text()
  peak = next(s for s in status.splitlines() if s.startswith('VmHWM'))
  children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
  return {
    'outcome': outcome,
    'message': message,
    'seconds': seconds,
    'processor_seconds': sum(os.times()[:4]) - busy,
    'bytes': 1024 * max(int(peak.split()[1]), children),
  }


def main() -> None:
  """Answers until there is no more to read."""
  resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
  import coatnet_jax.weights.files  # noqa: F401

  answers = sys.stdout
  sys.stdout = sys.stderr
  answers.write('ready\n')
  answers.flush()
  for line in sys.stdin:
    answers.write(json.dumps(_answer(*json.loads(line))) + '\n')
    answers.flush()


if __name__ == '__main__':
  main()
