"""The workdir's `train.log`: everything that the run and libraries log."""

import contextlib
import logging as python_logging
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator

import jax

from coatnet_jax.errors import find_reason


class _LogFile(python_logging.FileHandler):
  """A log file that says once, and no more, that it cannot be written."""

  def __init__(self, path: pathlib.Path, report: Callable[[str], None]):
    """Opens the file, to append to it."""
    super().__init__(path, encoding='utf-8', errors='backslashreplace')
    self._report = report
    self._is_failure_said = False

  def handleError(self, record: python_logging.LogRecord) -> None:
    """Says why a line was lost; called where an error is being handled."""
    if self._is_failure_said:
      return
    self._is_failure_said = True  # Before what is said is logged, too.
    self._report(
      f'{self.baseFilename} cannot be written'
      f' ({find_reason(sys.exc_info()[1])}); lines of the log are lost, and'
      ' training goes on.'
    )

  def close(self) -> None:
    """Closes the file, in which the last lines may not have found a place."""
    with contextlib.suppress(OSError):
      super().close()


@contextlib.contextmanager
def log_to_file(
  workdir: str, report: Callable[[str], None] = print
) -> Iterator[None]:
  """Context in which everything that is logged goes to workdir/train.log.

  Processes but the first have files of their own. A bucket has no files to be
  appended to: where workdir is one, they lie in this machine's directory for
  temporary files. What else shows a log, as in a notebook, shows errors alone
  meanwhile: libraries have hundreds of lines to say.

  Args:
    workdir: directory of the run, perhaps gs://...
    report: function called with a sentence once lines are lost.
  """
  index = jax.process_index()
  name = 'train.log' if index == 0 else f'train_{index}.log'
  path = pathlib.Path(workdir) / name
  if '://' in workdir:
    run = workdir.partition('://')[2].strip('/').replace('/', '_')
    path = pathlib.Path(tempfile.gettempdir()) / f'{run}_{name}'
  handler = _LogFile(path, report)
  handler.setFormatter(
    python_logging.Formatter('%(asctime)s %(levelname)s %(name)s: %(message)s')
  )
  root = python_logging.getLogger()
  level, shown = root.level, {other: other.level for other in root.handlers}
  for other in shown:
    other.setLevel(max(other.level, python_logging.ERROR))
  root.addHandler(handler)
  root.setLevel(python_logging.INFO)
  try:
    yield
  except Exception:  # Told in a sentence; here is where it comes from.
    root.info('The run ends by an error', exc_info=True)
    raise
  finally:
    root.setLevel(level)
    root.removeHandler(handler)
    handler.close()
    for other, its_level in shown.items():
      other.setLevel(its_level)
