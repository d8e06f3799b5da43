r"""Makes a checkpoint of trained weights from elsewhere.

    python -m tools.import_timm --variant=coatnet_0_rw_224 \
        --weights=coatnet_0_rw_224.sw_in1k.safetensors --out=DIR

reads a file of timm's (safetensors, or .pth as torch.save writes it), the Keras
file (.h5) of keras_cv_attention_models' CoAtNet0, for coatnet_0_keras_cv, or a
file that tools.export_weights wrote. No file can run code, and torch is not
needed. `python -m tools.variants` lists what exists, and where.

DIR is then used like the workdir of a run, with the preprocessing that the
weights were trained with:

    python -m tools.evaluate --checkpoint=DIR --data.data_dir=IMAGENET
    python -m tools.predict --checkpoint=DIR IMAGE...
    python main.py --config=configs/image_folder.py:finetune \
        --config.init_from=DIR --config.data.data_dir=FOLDER --workdir=NEW
"""

import argparse
import contextlib
import dataclasses
import importlib.resources
import pathlib
import shlex
from collections.abc import Iterator, Mapping
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
from coatnet_jax.models.factory import create_model
from coatnet_jax.texts import printable, read_names
from coatnet_jax.training.train_state import TrainState
from coatnet_jax.weights.files import read_weights
from coatnet_jax.weights.loading import (
  check_size,
  count_classes,
  fit_variables,
  read_variables,
)
from coatnet_jax.weights.native import Description, read_description
from coatnet_jax.weights.published import list_published_weights
from configs import base
from tools import command_line

_IMAGENET_CLASSES = 1000
# For timm's variants without published weights.
_TIMM_PREPROCESSING = {
  'mean': (0.5, 0.5, 0.5),
  'std': (0.5, 0.5, 0.5),
  'eval_crop_fraction': 0.95,
  'eval_resize': 'timm',
  'interpolation': 'bicubic',
}


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('import_timm', __doc__)
  parser.add_argument(
    '--variant',
    required=True,
    metavar='NAME',
    help='the model that the weights are of, as tools.variants names it',
  )
  command_line.add_path(
    parser, '--weights', required=True, metavar='FILE', help='the file to read'
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
    metavar='N',
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
  weights = read_weights(options.weights)
  description = read_description(weights)
  model_arguments = {'name': options.variant}
  if description is not None:
    check_variant(options.variant, description, options.weights)
    model_arguments = dict(description.model)
    del model_arguments['num_classes']
  with named_as_source(options.weights, description):
    whole = create_model(**model_arguments)
  if description is not None:
    check_size(whole, weights)
  variables = read_variables(whole, weights, report=command_line.show)
  num_classes = count_classes(variables)
  if num_classes is None and options.num_classes is None:
    raise UserError(
      f'{options.weights} has no head, so it classifies nothing: say with'
      ' --num_classes=N for how many classes a newly initialised one is to be,'
      ' and finetune it.'
    )
  new_head = None
  if options.num_classes not in (None, num_classes):
    num_classes = options.num_classes
    new_head = jax.random.key(0)
  class_names = find_class_names(
    options.class_names,
    num_classes,
    description if new_head is None else None,
  )
  model = whole.clone(num_classes=num_classes)
  variables = fit_variables(
    variables,
    model,
    image_size=image_size,
    new_head=new_head,
    report=command_line.show,
    source=options.weights,
  )
  with named_as_source(options.weights, description):
    preprocessing, origin = find_preprocessing(
      options.variant, image_size or model.variant.image_size, description
    )
  terminal.begin('writing the checkpoint')
  write_checkpoint(
    out,
    variables,
    model_arguments=model_arguments,
    class_names=class_names,
    preprocessing=preprocessing,
  )
  command_line.show(
    describe(options.variant, class_names, preprocessing, origin, out)
  )
  return 0


@contextlib.contextmanager
def named_as_source(
  path: pathlib.Path, description: Description | None
) -> Iterator[None]:
  """Names a file in the error of what it says of its model.

  Args:
    path: path of the file.
    description: description that is used; errors stay as they are if None.
  """
  try:
    yield
  except (TypeError, ValueError, LookupError, ArithmeticError) as error:
    if description is None:
      raise
    raise UserError(
      f'{path} says of its model what cannot be: {printable(str(error))} It is'
      ' damaged, or of another version: export it again.'
    ) from error


def check_variant(variant: str, description: Description, path: str) -> None:
  """Raises UserError if a file says that it is of another variant.

  Those of another that has the same shapes would give wrong results.
  """
  found = description.model['name']
  if found != variant:
    raise UserError(
      f'{path} says that it is of {found}; give --variant={found}, or a file of'
      f' {variant}.'
    )


def find_class_names(
  path: pathlib.Path | None, num_classes: int, description: Description | None
) -> tuple[str, ...]:
  """Returns a name for each class.

  Args:
    path: path of a file with a name per line, or None.
    num_classes: number of names that there must be.
    description: weights file's description of itself, if it has one.

  Returns:
    Those of the path; else those of the description; else ImageNet-1k's, in the
    order that all weights of it have, for 1,000 classes; else numbers.

  Raises:
    UserError: the file cannot be read, or has another number of names.
  """
  if path is not None:
    # Some of ImageNet's words are those of two classes.
    found = read_names(path, '--class_names', unique=False)
    if len(found) != num_classes:
      raise UserError(
        f'--class_names={path} has {len(found):,} names; the weights have'
        f' {num_classes:,} classes.'
      )
    return found
  if description is not None:
    if len(description.class_names) != num_classes:
      raise UserError(
        f'The weights have {num_classes:,} classes, and the file has names for'
        f' {len(description.class_names):,}; it is damaged: export it again.'
      )
    return description.class_names
  if num_classes == _IMAGENET_CLASSES:
    package = importlib.resources.files('tensorflow_datasets')
    labels = package / 'datasets' / 'imagenet2012' / 'labels.txt'
    return tuple(labels.read_text(encoding='ascii').split())
  return tuple(str(label) for label in range(num_classes))


def find_preprocessing(
  variant: str,
  image_size: tuple[int, int],
  description: Description | None,
) -> tuple[PreprocessingOptions, str]:
  """Returns what images of a variant's trained weights go through.

  Args:
    variant: name of the variant.
    image_size: (height, width) in pixels of images that it will be used for.
    description: weights file's description of itself, if it has one.

  Returns:
    The preprocessing, and where it is from, in a few words.
  """
  published = list_published_weights(variant)
  of_size = [w for w in published if w.image_size == image_size]
  if description is not None:
    known, origin = description.preprocessing, 'as the file says'
  elif published:
    known = (of_size or published)[0].preprocessing
    origin = 'assumed, as of the published weights: the file does not say'
  else:
    known = _TIMM_PREPROCESSING
    origin = "assumed, as timm's usual: the file does not say"
  options = PreprocessingOptions(**{**known, 'image_size': image_size})
  return options, origin


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
    preprocessing: preprocessing of images.
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
    'finetune       python main.py --config=configs/image_folder.py:finetune'
    f' --config.init_from={quoted} --config.data.data_dir=FOLDER --workdir=NEW'
  )


if __name__ == '__main__':
  command_line.run_tool(main)
