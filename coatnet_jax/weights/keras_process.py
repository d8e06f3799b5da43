"""Reading a Keras file in a process of its own, with little time and memory.

HDF5 is a file system in a file: it can name other files, and of a damaged or
malicious file HDF5's library can run for ever, take all memory or crash. So
another process reads it, which can open no other file, and hands the arrays
over in memory that both share.

Run by its name, the module is that process.
"""

import codecs
import ctypes
import fcntl
import json
import math
import mmap
import os
import pathlib
import resource
import signal
import subprocess
import sys
from typing import Any

import numpy as np

from coatnet_jax.errors import UserError, cite_line
from coatnet_jax.strict_json import to_json
from coatnet_jax.weights.limits import check_count

# What reading takes, and more: 600 MB take half a second of a processor, and
# small files some milliseconds.
_CPU_SECONDS = 1
_BYTES_PER_CPU_SECOND = 100e6
# Of the clock, where others use the processor too, or the disk is slow.
_SECONDS = 3
_BYTES_PER_SECOND = 1e6
# Before it begins to read.
_START_SECONDS = 120
# HDF5's caches, beside the arrays.
_MEMORY = 256 * 2**20
# Arrays may take more than the file, as where they are compressed.
_ARRAYS_PER_FILE = 2
_ALIGNMENT = 64
_MAX_REPLY = 64 * 2**20
_PR_SET_PDEATHSIG = 1


def read_keras_file(
  path: pathlib.Path,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Reads the weights of a Keras file; see `keras_file.read_weights`.

  Args:
    path: path of an HDF5 file.

  Returns:
    As `keras_file.read_weights`; arrays that cannot be written to.

  Raises:
    UserError: it is another HDF5 file, it is damaged, or it takes too much.
  """
  with path.open('rb') as file:
    size = os.fstat(file.fileno()).st_size
    arrays = os.memfd_create('weights', os.MFD_ALLOW_SEALING)
    try:
      capacity = _compute_capacity(size)
      os.ftruncate(arrays, capacity)
      # Or the other process could take away what is read here.
      seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
      fcntl.fcntl(arrays, fcntl.F_ADD_SEALS, seals)
      reply = _run(path, file.fileno(), arrays, size)
      memory = mmap.mmap(arrays, capacity, prot=mmap.PROT_READ)
    finally:
      os.close(arrays)
  if 'error' in reply:
    raise UserError(reply['error'])
  if 'damage' in reply:
    raise ValueError(reply['damage'])
  check_count(len(reply['tensors']), path)
  tensors = {
    name: np.frombuffer(
      memory, np.dtype(dtype), math.prod(shape), offset
    ).reshape(shape)
    for name, dtype, shape, offset in reply['tensors']
  }
  return tensors, reply['metadata']


def _compute_capacity(size: int) -> int:
  return _ARRAYS_PER_FILE * size + mmap.PAGESIZE


def _run(
  path: pathlib.Path, file: int, arrays: int, size: int
) -> dict[str, Any]:
  """Runs the other process; returns what it says."""
  environment = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith('HDF5_')
  }
  # What is imported here is imported there.
  environment['PYTHONPATH'] = os.pathsep.join(
    folder or os.getcwd() for folder in sys.path
  )
  # No filter or connector that is not in the library itself.
  environment['HDF5_PLUGIN_PRELOAD'] = '::'
  # Threads of NumPy's, which would take memory.
  environment['OPENBLAS_NUM_THREADS'] = '1'
  arguments = [str(n) for n in (file, arrays, size, os.getpid())]
  process = subprocess.Popen(
    [sys.executable, '-P', '-m', __name__, *arguments, str(path)],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    pass_fds=(file, arrays),
    env=environment,
  )
  try:
    output, errors = process.communicate(
      timeout=_START_SECONDS + _SECONDS + size / _BYTES_PER_SECOND
    )
  except subprocess.TimeoutExpired as error:
    raise _took_too_long(path) from error
  finally:
    process.kill()
    process.communicate()
  status = process.returncode
  if status in (-signal.SIGPROF, -signal.SIGALRM):
    raise _took_too_long(path)
  if status < 0:
    raise UserError(
      f"{path} is damaged: HDF5's library crashes when it reads it"
      f' ({signal.Signals(-status).name}); get it again.'
    )
  if status:
    last = cite_line(errors.decode(errors='replace'), -1)
    raise UserError(
      f'{path} cannot be read: the process that reads HDF5 files ended with'
      f' status {status} ({last}).'
    )
  return json.loads(output)


def _took_too_long(path: pathlib.Path) -> UserError:
  return UserError(
    f'{path} takes longer to be read than a file of its size does; it is'
    ' damaged, or its disk is slow. Get it again, to a disk of this machine.'
  )


def main(arguments: list[str]) -> None:
  """Reads a file, and writes to stdout what there is in it, as JSON."""
  file, arrays, size, parent = (int(word) for word in arguments[:4])
  path = pathlib.Path(arguments[4])
  _die_with(parent)
  from coatnet_jax.weights import keras_file

  memory = mmap.mmap(arrays, _compute_capacity(size))
  end = 0
  offsets = {}

  def create(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    nonlocal end
    start = -(-end // _ALIGNMENT) * _ALIGNMENT
    count = math.prod(shape)
    end = start + count * dtype.itemsize
    if end > len(memory):
      raise ValueError('its arrays are larger than the file')
    array = np.frombuffer(memory, dtype, count, start).reshape(shape)
    offsets[id(array)] = start
    return array

  # h5py's, which Python loads when it is first used.
  codecs.lookup('ascii')
  _limit(size)
  try:
    tensors, metadata = keras_file.read_weights(
      path, f'/dev/fd/{file}', create=create
    )
    reply = {
      'tensors': [
        (name, array.dtype.str, array.shape, offsets[id(array)])
        for name, array in tensors.items()
      ],
      'metadata': metadata,
    }
  except UserError as error:
    reply = {'error': str(error)}
  except MemoryError:
    reply = {'damage': 'it needs more memory than a file of its size does'}
  # HDF5 says of damage what it likes, and documents none of it.
  except Exception as error:
    reply = {'damage': str(error) or type(error).__name__}
  sys.stdout.write(to_json(reply))


def _die_with(parent: int) -> None:
  """Ends this process when the one that started it ends."""
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != parent:
    sys.exit(1)


def _limit(size: int) -> None:
  """Limits what this process may take from now on."""
  # Unlike RLIMIT_CPU, which counts whole seconds, and Python's start. Nothing
  # handles the signals, so that they end the process within HDF5 too.
  for number in (signal.SIGPROF, signal.SIGALRM):
    signal.signal(number, signal.SIG_DFL)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF, signal.SIGALRM})
  seconds = _CPU_SECONDS + size / _BYTES_PER_CPU_SECOND
  signal.setitimer(signal.ITIMER_PROF, seconds)
  seconds = _SECONDS + size / _BYTES_PER_SECOND
  signal.setitimer(signal.ITIMER_REAL, seconds)
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[0])
  memory = pages * mmap.PAGESIZE + size + _MEMORY
  # One more file can be open than there are, which is the one to be read.
  free = os.dup(0)
  os.close(free)
  for kind, limit in (
    (resource.RLIMIT_AS, memory),
    (resource.RLIMIT_NOFILE, free + 1),
    (resource.RLIMIT_CORE, 0),
  ):
    soft, hard = resource.getrlimit(kind)
    for known in (soft, hard):
      limit = limit if known == resource.RLIM_INFINITY else min(limit, known)
    resource.setrlimit(kind, (limit, limit))


if __name__ == '__main__':
  main(sys.argv[1:])
