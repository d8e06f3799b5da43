"""The report that a run writes at its end, which never fails the run."""

import os
import shlex
import sys
from collections.abc import Callable

import jax
from absl import logging
from etils import epath

from coatnet_jax import terminal
from coatnet_jax.checkpoints.saving import checkpoint_directory
from coatnet_jax.errors import UserError, find_reason
from coatnet_jax.run import Run
from coatnet_jax.stopping import StoppedError
from coatnet_jax.strict_json import read_mapping
from coatnet_jax.texts import printable
from coatnet_jax.training.workdir import SUMMARY_FILE


def write_report(run: Run, workdir: str, report: Callable[[str], None]) -> None:
  """Writes workdir/report.html of a finished run's best checkpoint.

  It takes one more evaluation, and its program's compilation. Where it cannot
  be written, a line says so. A run of several processes is left as it is, as
  one that fails alone would hold up the others: it is told the command.

  Args:
    run: resolved run, whose summary is written.
    workdir: directory of the run, perhaps gs://...
    report: function called with a line for the user.
  """
  if not run.logging.report or jax.process_index() > 0:
    return
  command = f'python -m tools.report --checkpoint={shlex.quote(workdir)}'
  if jax.process_count() > 1:
    report(f'report      {command}')
    return
  terminal.begin('making the report')
  try:
    # Here, as most runs have hours before they need it, and one where it is
    # not installed is to end well.
    from coatnet_jax.reports import content, explained, files, page

    path = epath.Path(workdir) / files.REPORT_FILE
    files.check_is_report(path)
    found = content.create_content(
      _find_checkpoint(workdir),
      report=report,
      find_data=lambda trained: run.data,
      mesh=run.mesh,
      galleries=explained.show_maps,
      command=find_command(),
    )
    terminal.begin('writing the report')
    files.write_page(path, page.format_page(found))
  except StoppedError:
    report(
      'report      not made, as the process was asked to stop; the run is'
      f' finished, and {command} makes it'
    )
    return
  except Exception as error:  # The run is finished, whatever this is.
    logging.info('There is no report', exc_info=True)
    is_told = isinstance(error, UserError)
    reason = str(error).rstrip('.') if is_told else find_reason(error)
    report(
      f'The report cannot be made: {reason}. The run is finished all the same;'
      f' {command} tries again.'
    )
    return
  report(files.describe_written(path))


def _find_checkpoint(workdir: str) -> str:
  """Returns the workdir, for its best checkpoint; its last if none is best."""
  summary = read_mapping(epath.Path(workdir) / SUMMARY_FILE)
  if summary['best'] is not None:
    return workdir
  return str(checkpoint_directory(workdir) / str(summary['final']['step']))


def find_command() -> str:
  """Returns the command that this process was started with, if it trains."""
  if os.path.basename(sys.argv[0]) != 'main.py':
    return ''
  return shlex.join(['python', *map(printable, sys.argv)])
