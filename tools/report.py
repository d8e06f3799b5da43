"""Makes the report of a run again, or one of several runs side by side.

    python -m tools.report --checkpoint=WORKDIR
    python -m tools.report --checkpoint WORKDIR WORKDIR --out=FILE.html

Every run writes WORKDIR/report.html at its end, of its best checkpoint: one
page with measures and their intervals, every class, confusions, calibration,
the most confident mistakes, curves and settings. Of several runs (of other
seeds, folds or variants) it is a page with each of them, their mean and their
spread. docs/report.md says what is in it.
"""

import argparse
from collections.abc import Sequence

from etils import epath

from coatnet_jax import terminal
from coatnet_jax.arguments import add_number
from coatnet_jax.checkpoints.trained_model import find_checkpoint
from coatnet_jax.errors import UserError
from coatnet_jax.reports import comparison, files, page
from coatnet_jax.reports.content import create_content
from coatnet_jax.reports.facts import find_workdir
from tools import command_line


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('report', __doc__)
  parser.add_argument(
    '--checkpoint',
    type=command_line.parse_path,
    action='extend',
    nargs='+',
    required=True,
    metavar='DIR',
    help='a workdir, for its best checkpoint, or WORKDIR/checkpoints/STEP;'
    ' several are compared',
  )
  command_line.add_path(
    parser,
    '--out',
    command_line.parse_path,
    metavar='FILE.html',
    help='the page; an earlier report is replaced (WORKDIR/report.html)',
  )
  add_number(
    parser,
    '--batch_size',
    metavar='N',
    help='images at a time (as in the run); does not change the result',
  )
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: a checkpoint or its data cannot be used, or the page cannot be
      written.
  """
  options = create_parser().parse_args(arguments)
  paths = options.checkpoint
  out = options.out or _find_place(paths)
  files.check_is_report(out)
  command_line.keep_compiled()
  contents = []
  for path in paths:
    terminal.begin('reading the checkpoint')
    contents.append(
      create_content(
        path, report=command_line.say, batch_size=options.batch_size
      )
    )
  if len(contents) == 1:
    text = page.format_page(contents[0])
  else:
    text = comparison.format_comparison(contents)
  files.write_page(out, text)
  command_line.show(files.describe_written(out))
  return 0


def _find_place(paths: Sequence[epath.Path]) -> epath.Path:
  """Returns where the page of one run belongs.

  Raises:
    UserError: there are several, or it is in no workdir.
  """
  workdir = find_workdir(find_checkpoint(paths[0])) if len(paths) == 1 else None
  if workdir is None:
    reason = (
      'several runs are compared'
      if len(paths) > 1
      else f'{paths[0]} is in no workdir'
    )
    raise UserError(
      f'{reason[0].upper()}{reason[1:]}: --out=FILE.html says where the page'
      ' is to be.'
    )
  return workdir / files.REPORT_FILE


if __name__ == '__main__':
  command_line.run_tool(main)
