import os
import pathlib
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.weights import keras_process
from coatnet_jax.weights.files import read_weights

FIXTURES = pathlib.Path(__file__).parent


def _run_limited(code):
  """Runs code in a process with the limits of one that reads 1 kB."""
  before = (
    'from coatnet_jax.weights import keras_process\n'
    'keras_process._CPU_SECONDS = 0.5\n'
    'keras_process._limit(1000)\n'
  )
  return subprocess.run(
    [sys.executable, '-c', before + code],
    capture_output=True,
    text=True,
    timeout=30,
  )


@pytest.mark.parametrize(
  ('code', 'message'),
  [
    ('first = open("/dev/null"); open("/dev/null")', 'Too many open files'),
    ('bytearray(2**30)', 'MemoryError'),
  ],
)
def test_what_the_process_cannot_do(code, message):
  process = _run_limited(code)
  assert message in process.stderr
  assert process.returncode == 1


@pytest.mark.parametrize(
  ('code', 'status'),
  [
    ('while True: pass', -signal.SIGPROF),
    ('import time; time.sleep(600)', -signal.SIGALRM),
  ],
)
def test_time_is_limited(code, status):
  assert _run_limited(code).returncode == status


def test_the_process_dies_with_its_parent(tmp_path):
  begun = tmp_path / 'begun'
  code = (
    'import os, sys, time, pathlib\n'
    'from coatnet_jax.weights import keras_process\n'
    'keras_process._die_with(int(sys.argv[1]))\n'
    'pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))\n'
    'time.sleep(600)\n'
  )
  parent_code = (
    'import os, subprocess, sys\n'
    'subprocess.run([sys.executable, "-c", sys.argv[1], str(os.getpid()),'
    ' sys.argv[2]])'
  )
  with subprocess.Popen(
    [sys.executable, '-c', parent_code, code, str(begun)]
  ) as parent:
    while not begun.exists() or not begun.read_text():
      assert parent.poll() is None
      time.sleep(0.05)
    child = pathlib.Path('/proc') / begun.read_text()
    assert child.exists()
    parent.kill()
  deadline = time.monotonic() + 20
  while child.exists() and _is_alive(child):
    assert time.monotonic() < deadline
    time.sleep(0.05)


def _is_alive(process):
  try:
    state = (process / 'stat').read_text().rpartition(')')[2].split()[0]
  except OSError:
    return False
  return state not in 'ZX'


@pytest.mark.parametrize(
  ('code', 'message'),
  [
    (
      'import os; os.kill(os.getpid(), 11)',
      'crashes when it reads it .*SIGSEGV',
    ),
    ('import os; os.kill(os.getpid(), 27)', 'takes longer to be read than'),
    ('import time; time.sleep(600)', 'takes longer to be read than'),
    ('raise OSError("no memory")', 'ended with status 1 .*no memory'),
  ],
)
def test_what_happens_to_the_process_is_said(
  code, message, monkeypatch, tmp_path
):
  # In the place of Python there is a program that does what HDF5 may do.
  program = tmp_path / 'python'
  program.write_text(f'#!{sys.executable}\n{code}\n')
  program.chmod(0o755)
  monkeypatch.setattr(sys, 'executable', str(program))
  monkeypatch.setattr(keras_process, '_START_SECONDS', 0)
  path = FIXTURES / 'keras2_weights.h5'
  with pytest.raises(UserError, match=f'{path} .*{message}'):
    read_weights(path)


def test_large_arrays_come_whole(tmp_path):
  path = tmp_path / 'weights.h5'
  expected = np.random.default_rng(0).standard_normal((3, 2**18), np.float32)
  with h5py.File(path, 'w') as file:
    file.attrs['layer_names'] = [b'a', b'b']
    for name in ('a', 'b'):
      group = file.create_group(name)
      group.attrs['weight_names'] = [b'x', b'y', b'empty']
      group['x'] = expected + (name == 'b')
      group['y'] = np.arange(7, dtype='>i2')
      group['empty'] = np.zeros((0, 3))
  before = len(os.listdir('/proc/self/fd'))
  tensors = read_weights(path).tensors
  for name in ('a', 'b'):
    np.testing.assert_array_equal(
      tensors[f'{name}/x'], expected + (name == 'b')
    )
    np.testing.assert_array_equal(tensors[f'{name}/y'], np.arange(7))
    assert tensors[f'{name}/empty'].shape == (0, 3)
    assert not tensors[f'{name}/x'].flags.writeable
  # The memory goes with the arrays.
  del tensors
  assert len(os.listdir('/proc/self/fd')) <= before
