"""Makes the report of a run again, or one of several runs side by side.

    python -m tools.report --checkpoint=WORKDIR
    python -m tools.report --checkpoint WORKDIR WORKDIR --out=FILE.html

Every run writes WORKDIR/report.html at its end, of its best checkpoint: one
page with measures and their intervals, every class, confusions, calibration,
the most confident mistakes, curves and settings. Of several runs (of other
seeds, folds or variants) it is a page with each of them, their mean and their
spread. docs/report.md says what is in it.

Data are those of the run; others are named as for tools.evaluate, and --out has
to be given with them:

    python -m tools.report --checkpoint=WORKDIR --data.data_dir=DIR --out=FILE
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from coatnet_jax import terminal
from coatnet_jax.checkpoints.trained_model import TrainedModel, find_checkpoint
from coatnet_jax.data.sources import DataOptions
from coatnet_jax.errors import UserError, find_reason
from coatnet_jax.reports import comparison, explained, files, page
from coatnet_jax.reports.content import create_content
from coatnet_jax.reports.facts import find_workdir
from tools import command_line, evaluate


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
  command_line.add_batch_size(parser)
  evaluate.add_data(parser)
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: a checkpoint or its data cannot be used, or the page cannot be
      written.
  """
  options = create_parser().parse_args(arguments)
  paths = options.checkpoint
  if len({find_checkpoint(path).resolve() for path in paths}) < len(paths):
    raise UserError(
      f'--checkpoint is {" ".join(map(str, paths))}, and two of these are one'
      ' checkpoint; give each once.'
    )
  changes = evaluate.find_data_changes(vars(options))
  out = options.out or _find_place(paths, changes)
  files.check_is_report(out)
  _make_folder(out)
  command_line.keep_compiled()

  def find_data(trained: TrainedModel) -> DataOptions:
    data, *others = evaluate.resolve_data(trained, changes)
    if others:
      raise UserError(
        f'--data.name is {changes["name"]!r}; a report is of one data set.'
      )
    return evaluate.hold_nothing_out(data, trained, changes)

  # A comparison shows no pictures.
  shown = {'galleries': explained.show_maps} if len(paths) == 1 else {}
  contents = []
  for path in paths:
    terminal.begin('reading the checkpoint')
    contents.append(
      create_content(
        path,
        report=command_line.say,
        find_data=find_data,
        batch_size=options.batch_size,
        **shown,
      )
    )
  if len(contents) == 1:
    text = page.format_page(contents[0])
  else:
    text = comparison.format_comparison(contents)
  files.write_page(out, text)
  command_line.show(files.describe_written(out))
  return 0


def _make_folder(out: epath.Path) -> None:
  """Makes the folder of the page, before hours that it may take to make it.

  Raises:
    UserError: it cannot be made.
  """
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
  except Exception as error:  # What writes buckets raises kinds of its own.
    raise UserError(
      f'--out: {out.parent} cannot be made a directory ({find_reason(error)});'
      ' give another.'
    ) from error


def _find_place(
  paths: Sequence[epath.Path], changes: Mapping[str, Any]
) -> epath.Path:
  """Returns where the page of one run on its own data belongs.

  Raises:
    UserError: it is of several runs or of other data, or in no workdir.
  """
  workdir = find_workdir(find_checkpoint(paths[0]))
  if len(paths) > 1:
    reason = 'Several runs are compared'
  elif changes:
    reason = 'The data are not those of the run'
  elif workdir is None:
    reason = f'{paths[0]} is in no workdir'
  else:
    return workdir / files.REPORT_FILE
  raise UserError(f'{reason}: --out=FILE.html says where the page is to be.')


if __name__ == '__main__':
  command_line.run_tool(main)
