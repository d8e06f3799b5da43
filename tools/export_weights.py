"""Writes the weights of a checkpoint as a safetensors file.

    python -m tools.export_weights --checkpoint=WORKDIR --out=FILE.safetensors

Where timm has the variant, the tensors have timm's names and layouts, and
`timm.create_model(NAME, checkpoint_path=FILE)` takes the file; elsewhere, or
with --names=native, they have ours, and `coatnet_jax.load_weights` takes it (it
takes both). The averages are written where the run kept any.
"""

import argparse
import dataclasses

import numpy as np

from coatnet_jax import terminal
from coatnet_jax.checkpoints.metadata import find_model_arguments
from coatnet_jax.checkpoints.trained_model import (
  TrainedModel,
  load_trained_model,
)
from coatnet_jax.errors import UserError
from coatnet_jax.weights import names, native, timm
from tools import command_line


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('export_weights', __doc__)
  command_line.add_checkpoint(parser)
  command_line.add_path(
    parser, '--out', required=True, metavar='FILE', help='a new file'
  )
  parser.add_argument(
    '--names',
    choices=('timm', 'native'),
    help="timm's, or ours; timm's where it has the variant",
  )
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: the checkpoint cannot be read, timm does not have the variant, or
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
  in_timm = timm.has_model(name, trained.model.variant)
  if options.names == 'timm' and not in_timm:
    raise UserError(
      f'timm has no model of the form of this {name}: leave --names=timm out,'
      ' for our own names.'
    )
  as_timm = in_timm and options.names != 'native'
  tensors = make_tensors(trained, as_timm=as_timm)
  description = native.Description(
    model=find_model_arguments(trained.config.model, trained.model.num_classes),
    preprocessing=dataclasses.asdict(trained.preprocessing),
    class_names=trained.class_names,
  )
  native.write_tensors(out, tensors, description)
  command_line.show(
    f'{out}: {len(tensors):,} tensors of {name}, step {trained.step:,}, by'
    f' {"timm" if as_timm else "our own"} names.'
  )
  return 0


def make_tensors(
  trained: TrainedModel, *, as_timm: bool
) -> dict[str, np.ndarray]:
  """Returns the tensors of a file.

  Args:
    trained: trained model, from `load_trained_model`.
    as_timm: whether by timm's names, which must have the model, or by ours.
  """
  if as_timm:
    return timm.to_state_dict(trained.variables, trained.model.variant)
  return names.to_tensors(trained.variables, native.naming)


if __name__ == '__main__':
  command_line.run_tool(main)
