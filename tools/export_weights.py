"""Writes the weights of a checkpoint as a safetensors file.

    python -m tools.export_weights --checkpoint=WORKDIR --out=FILE.safetensors

Where timm has the variant, the tensors have timm's names and layouts, and what
to type for timm is printed; elsewhere, or with --layout=native, they have ours,
and `coatnet_jax.load_weights` takes the file (it takes both). The averages are
written where the run kept any. `tools.hub` publishes a checkpoint with a model
card, and for timm with its config.json.
"""

import argparse
import dataclasses
import pathlib

from coatnet_jax import terminal
from coatnet_jax.checkpoints.trained_model import (
  TrainedModel,
  load_trained_model,
)
from coatnet_jax.errors import UserError
from coatnet_jax.publishing.weights_file import write_weights
from coatnet_jax.weights import timm, timm_config
from tools import command_line


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('export_weights', __doc__)
  command_line.add_checkpoint(parser)
  command_line.add_path(
    parser, '--out', required=True, metavar='FILE', help='a new file'
  )
  parser.add_argument(
    '--layout',
    choices=('timm', 'native'),
    help="names and layouts: timm's, or ours; timm's where it has the variant",
  )
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: the checkpoint cannot be read, timm does not have the model, or
      the file exists; nothing was written.
  """
  options = create_parser().parse_args(arguments)
  out = options.out
  if out.exists():
    raise UserError(f'--out={out} exists already: give a new file.')
  if not out.parent.is_dir():
    raise UserError(
      f'--out={out}: there is no directory {out.parent}; make it first.'
    )
  terminal.begin('reading the checkpoint')
  trained = load_trained_model(options.checkpoint)
  for change in trained.changes:
    command_line.say(change)
  name = trained.config.model.name
  problem = timm.explain_difference(name, trained.model.variant)
  if options.layout == 'timm' and problem:
    raise UserError(
      f'This model cannot be written for timm: {problem}. Leave --layout=timm'
      ' out, for our own layout.'
    )
  as_timm = not problem and options.layout != 'native'
  num_tensors = write_weights(trained, out, as_timm=as_timm)
  command_line.show(
    f'{out}: {num_tensors:,} tensors of {name}, step {trained.step:,}, in'
    f' {"timm" if as_timm else "our own"} layout.'
  )
  if as_timm:
    command_line.show(explain_timm(trained, out))
  return 0


def explain_timm(trained: TrainedModel, out: pathlib.Path) -> str:
  """Returns what to type for timm, in lines for people.

  Args:
    trained: trained model, of a variant that timm has.
    out: path of its file of weights.
  """
  preprocessing = dataclasses.asdict(trained.preprocessing)
  call = timm_config.write_call(
    trained.config.model.name,
    str(out),
    trained.model.num_classes,
    trained.preprocessing.image_size,
  )
  note = ''
  if trained.preprocessing.eval_resize not in timm_config.EXACT_RESIZES:
    note = (
      f'\n          (timm resizes by a filter of its own, and not by'
      f" '{trained.preprocessing.eval_resize}' as this run evaluated)"
    )
  return (
    f'model     {call}.eval()\n'
    f'pictures  {timm_config.write_transform_call(preprocessing)}{note}'
  )


if __name__ == '__main__':
  command_line.run_tool(main)
