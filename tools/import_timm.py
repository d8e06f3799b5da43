r"""Makes a checkpoint of trained weights from elsewhere.

    python -m tools.import_timm \
        --weights=coatnet_0_rw_224.sw_in1k.safetensors --out=DIR

reads a file of timm's (safetensors, or .pth as torch.save writes it), the Keras
file (.h5) of keras_cv_attention_models' CoAtNet0, or a file that
tools.export_weights wrote; or fetches timm/NAME from the Hugging Face Hub, with
huggingface_hub. No file can run code, and torch is not needed. `python -m
tools.variants --weights` lists what exists, and where.

DIR is then used like the workdir of a run, with the preprocessing that the
weights were trained with:

    python -m tools.evaluate --checkpoint=DIR --data.data_dir=IMAGENET
    python -m tools.predict --checkpoint=DIR IMAGE...
    python main.py --config=configs/finetune_folder.py \
        --config.init_from=DIR --config.data.data_dir=FOLDER --workdir=NEW

To finetune, --config.init_from takes the file itself as well.
"""

import argparse
import dataclasses
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from coatnet_jax import terminal
from coatnet_jax.arguments import add_number
from coatnet_jax.checkpoints import saving
from coatnet_jax.checkpoints.metadata import (
  Metadata,
  Progress,
  find_model_arguments,
)
from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.errors import UserError
from coatnet_jax.imagenet_classes import list_class_names
from coatnet_jax.texts import read_names
from coatnet_jax.training.train_state import TrainState
from coatnet_jax.weights.imported import named_as_source, open_weights
from coatnet_jax.weights.loading import fit_variables
from configs import base
from tools import command_line


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('import_timm', __doc__)
  parser.add_argument(
    '--variant',
    metavar='NAME',
    help='the model that the weights are of, as tools.variants names it; found'
    ' by their names and shapes if left out',
  )
  parser.add_argument(
    '--weights',
    required=True,
    metavar='FILE',
    help='the file to read, or timm/NAME of the Hugging Face Hub',
  )
  command_line.add_path(
    parser,
    '--out',
    command_line.parse_path,
    required=True,
    metavar='DIR',
    help='a new directory',
  )
  command_line.add_image_size(parser)
  add_number(
    parser,
    '--num_classes',
    help="instead of the file's, with a newly initialised head",
  )
  command_line.add_path(
    parser,
    '--class_names',
    metavar='FILE',
    help="a name per line; ImageNet's for 1,000 classes, else numbers",
  )
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: the file cannot be used, or the directory is in use; nothing was
      written.
  """
  options = create_parser().parse_args(arguments)
  out = options.out
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise UserError(f'--out={out} exists already: give a new directory.')
  image_size = command_line.parse_image_size(options.image_size)

  terminal.begin('reading the weights')
  imported = open_weights(
    options.weights, options.variant, report=command_line.show
  )
  num_classes = imported.num_classes
  if num_classes is None and options.num_classes is None:
    raise UserError(
      f'{options.weights} has no head, so it classifies nothing: say with'
      ' --num_classes=N for how many classes a newly initialised one is to be,'
      ' and finetune it.'
    )
  new_head = None
  class_names = imported.class_names
  if options.num_classes not in (None, num_classes):
    num_classes = options.num_classes
    new_head = jax.random.key(0)
    class_names = list_class_names(num_classes)
  if options.class_names is not None:
    class_names = read_class_names(options.class_names, num_classes)
  chosen = {} if image_size is None else {'image_size': image_size}
  with named_as_source(imported.path, imported.is_described):
    preprocessing = PreprocessingOptions(**{**imported.preprocessing, **chosen})
  variables = fit_variables(
    imported.variables,
    imported.model.clone(num_classes=num_classes),
    image_size=preprocessing.image_size,
    new_head=new_head,
    report=command_line.show,
    source=options.weights,
  )
  terminal.begin('writing the checkpoint')
  write_checkpoint(
    out,
    variables,
    model_arguments=imported.model_arguments,
    class_names=class_names,
    preprocessing=preprocessing,
  )
  command_line.show(
    describe(imported.name, class_names, preprocessing, imported.origin, out)
  )
  return 0


def read_class_names(path: pathlib.Path, num_classes: int) -> tuple[str, ...]:
  """Returns the names of a file.

  Args:
    path: path of a file with a name per line.
    num_classes: number of names that there must be.

  Raises:
    UserError: the file cannot be read, or has another number of names.
  """
  # Some of ImageNet's words are those of two classes.
  found = read_names(path, '--class_names', unique=False)
  if len(found) != num_classes:
    raise UserError(
      f'--class_names={path} has {len(found):,} names; the weights have'
      f' {num_classes:,} classes.'
    )
  return found


def write_checkpoint(
  out: epath.Path,
  variables,
  *,
  model_arguments: Mapping[str, Any],
  class_names: tuple[str, ...],
  preprocessing: PreprocessingOptions,
) -> None:
  """Writes a checkpoint of step 0, as a run does.

  Args:
    out: directory to write, a workdir.
    variables: {'params', 'batch_stats'} of arrays.
    model_arguments: arguments of `create_model` but the number of classes.
    class_names: name of each class.
    preprocessing: fields of `PreprocessingOptions` for the weights.
  """
  config = base.get_config()
  with config.unlocked():
    config.model.update(model_arguments)
  config.preprocessing.update(dataclasses.asdict(preprocessing))
  metadata = Metadata(
    model=find_model_arguments(config.model, len(class_names)),
    preprocessing=dataclasses.asdict(preprocessing),
    class_names=class_names,
    config=config.to_dict(),
  )
  state = TrainState(
    step=jnp.zeros((), jnp.int32),
    params=variables['params'],
    batch_stats=variables['batch_stats'],
    opt_state=(),
    ema=None,
    key=jax.random.key(0),
  )
  manager = saving.open_checkpoints(
    str(out),
    saving.CheckpointOptions(**config.checkpoint),
    report=command_line.show,
  )
  with manager:
    saving.save_checkpoint(
      manager,
      jax.tree.map(jnp.asarray, state),
      step=0,
      progress=Progress(),
      metadata=metadata,
    )


def describe(
  variant: str,
  class_names: tuple[str, ...],
  preprocessing: PreprocessingOptions,
  origin: str,
  out: epath.Path,
) -> str:
  """Returns what was written, in lines for people."""
  height, width = preprocessing.image_size
  mean, std = (
    ', '.join(f'{value:g}' for value in values)
    for values in (preprocessing.mean, preprocessing.std)
  )
  quoted = shlex.quote(str(out))
  return (
    f'model          {variant}, {len(class_names):,} classes\n'
    f'preprocessing  {height}x{width} px, {preprocessing.eval_resize}, crop'
    f' {preprocessing.eval_crop_fraction:g}, {preprocessing.interpolation},'
    f' mean {mean}, std {std}\n'
    f'               ({origin})\n'
    f'checkpoint     {out}\n'
    f'evaluate       python -m tools.evaluate --checkpoint={quoted}'
    ' --data.source=folder --data.data_dir=FOLDER\n'
    f'predict        python -m tools.predict --checkpoint={quoted} IMAGE...\n'
    'finetune       python main.py --config=configs/finetune_folder.py'
    f' --config.init_from={quoted} --config.data.data_dir=FOLDER --workdir=NEW'
  )


if __name__ == '__main__':
  command_line.run_tool(main)
