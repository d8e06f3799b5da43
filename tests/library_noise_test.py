import subprocess
import sys

_NOISE = """
import logging as python_logging
import cv2
import numpy as np
from absl import logging
from coatnet_jax.library_noise import silence_libraries

class Unraisable:
  def __del__(self):
    raise ValueError('in __del__')

def make_noise():
  logging.info('info')
  logging.warning('warning')
  python_logging.getLogger('orbax').warning('python warning')
  python_logging.getLogger('asyncio').error('never retrieved')
  Unraisable()
  bitmap = cv2.imencode('.bmp', np.zeros((9, 9, 3), np.uint8))[1]
  cv2.imdecode(bitmap[:20], cv2.IMREAD_COLOR)
"""


def _stderr_of(code):
  done = subprocess.run(
    [sys.executable, '-c', _NOISE + code],
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stderr


def test_there_is_noise_without_it():
  noise = _stderr_of('make_noise()')
  for part in ('python warning', 'never retrieved', 'in __del__', 'bitstrm'):
    assert part in noise


def test_what_libraries_say_is_not_shown():
  assert _stderr_of('silence_libraries(); make_noise()') == ''


def test_errors_are_shown():
  shown = _stderr_of("silence_libraries(); logging.error('it broke')")
  assert 'it broke' in shown


def test_last_words_of_a_crash_are_shown():
  code = """
import faulthandler, os
from coatnet_jax.library_noise import silence_libraries
silence_libraries()
faulthandler.enable()
from coatnet_jax.data import decoding
os.write(2, b'words of an extension; ')
os.abort()
"""
  done = subprocess.run([sys.executable, '-c', code], capture_output=True)
  assert b'words of an extension; Fatal Python error: Aborted' in done.stderr
