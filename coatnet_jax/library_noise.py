"""Keeps what libraries say off a command line's stderr.

To be called once, at the start of a program; importing this changes nothing.
"""

import logging as python_logging
import os
import sys

from absl import logging


def silence_libraries() -> None:
  """Keeps all but errors of what is logged, and what we report, off stderr."""
  logging.use_absl_handler()
  logging.get_absl_handler().setLevel(python_logging.ERROR)
  # What Orbax raises is said by who catches it: once, and without tracebacks.
  logging.get_absl_handler().python_handler.addFilter(_is_not_of_orbax)
  # OpenCV says itself what `decode_image` raises. It reads this when it is
  # imported, here and in the processes that are started from here.
  os.environ['OPENCV_LOG_LEVEL'] = 'SILENT'
  if 'cv2' in sys.modules:
    cv2 = sys.modules['cv2']
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
  # Python's tracker of shared memory frees what workers that died left, and
  # need not say so. It reads this when it is started.
  os.environ['PYTHONWARNINGS'] = ','.join(
    filter(None, [os.environ.get('PYTHONWARNINGS'), 'ignore:resource_tracker'])
  )
  # Where one array of a checkpoint is damaged, Orbax raises for the first that
  # fails to be read, and leaves the others that fail then with nobody to tell.
  python_logging.getLogger('asyncio').setLevel(python_logging.CRITICAL)
  sys.unraisablehook = _log_unraisable


def _is_not_of_orbax(record: python_logging.LogRecord) -> bool:
  return f'{os.sep}orbax{os.sep}' not in record.pathname


def _log_unraisable(unraisable) -> None:
  """Logs an exception that Python could only have printed."""
  logging.info('Ignored in %s: %r', unraisable.object, unraisable.exc_value)
