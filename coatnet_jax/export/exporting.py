"""Writing a file whole or not at all, after its own runtime has read it."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

import numpy as np

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.errors import UserError
from coatnet_jax.export.formats import Request, check_format, find_writer
from coatnet_jax.export.parity import Parity, check_file


def check_target(path: pathlib.Path) -> None:
  """Checks that a new file can be made where one is asked for.

  Raises:
    UserError: there is something already, or no directory to put it in.
  """
  if path.exists() or path.is_symlink():
    raise UserError(f'--out={path} exists already: give a new path.')
  if not path.parent.is_dir():
    raise UserError(
      f'--out={path}: there is no directory {path.parent}; make it first.'
    )


def check_model(trained: TrainedModel) -> None:
  """Checks that a model has what an exported file says of it.

  Raises:
    UserError: it has no classes, or other names than classes.
  """
  classes, names = trained.model.num_classes, len(trained.class_names)
  if not classes or trained.model.feature_maps:
    raise UserError(
      f'The model of {trained.path} has no classes; what is exported must have'
      ' some: export a run that was trained on labels.'
    )
  if names != classes:
    raise UserError(
      f'The model of {trained.path} has {classes:,} classes and {names:,} names'
      ' for them; each must have one: train or import it again with its names.'
    )


def export_model(
  request: Request,
  format_name: str,
  path: pathlib.Path,
  images: np.ndarray,
  labels: np.ndarray | None,
) -> Parity:
  """Writes a model in a format, and compares what was written with the model.

  Args:
    request: model, and how it is exported.
    format_name: name of the format, one of `FORMATS`.
    path: path of the new file or directory, from `check_target`.
    images: images to compare on, [N, H, W, 3] uint8.
    labels: classes of the images, [N], or None.

  Returns:
    What the comparison found.

  Raises:
    UserError: the format does not take the model, or what was written does not
      say what the model says; nothing is left of it.
  """
  check_format(format_name, request.precision)
  check_model(request.trained)
  with _open_partial(path) as partial:
    find_writer(format_name)(request, partial)
    parity = check_file(
      partial,
      format_name,
      request.trained,
      images,
      labels,
      with_preprocessing=request.with_preprocessing,
    )
    if fault := parity.find_fault(request.precision):
      advice = (
        'Export it as float32 or float16'
        if request.precision == 'int8'
        else 'Give another --format or --precision'
      )
      raise UserError(
        f'What was written as {format_name} is not kept: {fault}. {advice}.'
      )
    check_target(path)
    partial.rename(path)
  return parity


@contextlib.contextmanager
def _open_partial(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a path beside another, of which nothing is left in the end.

  What an export left that was killed goes, too.
  """
  directory = path.parent / f'.{path.name}.partial'
  shutil.rmtree(directory, ignore_errors=True)
  directory.mkdir()
  try:
    yield directory / path.name
  finally:
    shutil.rmtree(directory)


def find_size(path: pathlib.Path) -> int:
  """Returns the bytes of a file, or of all files of a directory."""
  if path.is_file():
    return path.stat().st_size
  return sum(
    os.path.getsize(file) for file in path.rglob('*') if file.is_file()
  )
