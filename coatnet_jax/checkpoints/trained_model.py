"""Reading a checkpoint to use its model: evaluation, prediction, finetuning.

    trained = load_trained_model('/tmp/quickstart')
    logits = trained.model.apply(trained.variables, images, train=False)

with images from `crop_for_evaluation` and `normalize_images`, as in
`inference.py`.
The checkpoint says itself what model it is of and what preprocessing its images
need. With `image_size` it is used at another one. Resuming a run is
`resuming.py`'s; `saving.py` describes the format.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from coatnet_jax.checkpoints import checksums, published_folder
from coatnet_jax.checkpoints.folder import DAMAGED_DIRECTORY, find_steps
from coatnet_jax.checkpoints.metadata import (
  DamageError,
  Metadata,
  create_damage_error,
  create_read_error,
  describe_failure,
  restore_metadata,
)
from coatnet_jax.checkpoints.quality import (
  compute_quality,
  find_best_evaluation,
  find_evaluations,
)
from coatnet_jax.checkpoints.reading import try_again
from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.distributed.first_process import ask_first_process
from coatnet_jax.distributed.state_sharding import (
  add_shardings,
  put_variables,
)
from coatnet_jax.errors import UserError
from coatnet_jax.models.factory import create_model
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.paths import resolve_path
from coatnet_jax.training.finite import describe_names, find_not_finite
from coatnet_jax.training.losses import LossOptions
from coatnet_jax.weights.adaptation import adapt_variables, check_variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedModel:
  """A model with its variables, and what its images need.

  Attributes:
    model: module for `model.apply(variables, images, train=False)`.
    variables: {'params', 'batch_stats'} on `mesh`; the averages where the
      run kept any.
    preprocessing: preprocessing of the images, with the size they are used at.
    loss: loss it was trained with; its kind says what the logits mean.
    class_names: name of each class.
    config: config of the run, whole.
    step: number of optimizer steps taken.
    path: directory of the checkpoint.
    mesh: devices that hold the variables.
    changes: sentences about checkpoints that were damaged and passed over,
      about variables that are not finite, and about what was done to them for
      another image size.
  """

  model: nn.Module
  variables: Any
  preprocessing: PreprocessingOptions
  loss: LossOptions
  class_names: tuple[str, ...]
  config: ConfigDict
  step: int
  path: epath.Path
  mesh: Mesh
  changes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedModel:
  """What a checkpoint says of itself; its arrays are not read yet.

  Attributes:
    path: directory of the checkpoint.
    model: module for the variables, at the image size of `preprocessing`.
    preprocessing: preprocessing of the images.
    loss: loss it was trained with.
    metadata: all that was saved beside the state.
    shapes: {'params', 'batch_stats'} of `jax.ShapeDtypeStruct`: the averages
      where the run kept any.
    has_ema: whether the checkpoint has averaged parameters.
    notes: sentences about checkpoints that were damaged and passed over.
    read_published: function that reads step and variables of a published model;
      None for what a run saved.
  """

  path: epath.Path
  model: nn.Module
  preprocessing: PreprocessingOptions
  loss: LossOptions
  metadata: Metadata
  shapes: Any
  has_ema: bool
  notes: tuple[str, ...] = ()
  read_published: Callable[[], tuple[int, Any]] | None = None


def load_trained_model(
  path: str | os.PathLike[str],
  mesh: Mesh | None = None,
  *,
  image_size: tuple[int, int] | None = None,
) -> TrainedModel:
  """Reads the model of a checkpoint.

  Args:
    path: path of a checkpoint, as `find_checkpoint` takes it.
    mesh: devices for the variables; all there are, each with the whole model,
      if None.
    image_size: (height, width) in pixels to use it at; as it was saved if
      None. At another size its relative position tables are resized.

  Raises:
    UserError: there is no checkpoint, it is damaged, or it is of another
      version of the code; or the image size does not fit the model.
  """
  saved = open_saved_model(path)
  preprocessing = saved.preprocessing
  if image_size is not None:
    preprocessing = dataclasses.replace(preprocessing, image_size=image_size)
  mesh = mesh or mesh_lib.create_mesh(replica=-1, data=-1, fsdp=1, tensor=1)
  target = add_shardings(
    abstract_variables(saved.model, preprocessing.image_size), mesh
  )
  source = f'the checkpoint {saved.path}'
  check_variables(saved.shapes, target, source=source)
  step, variables = restore_variables(saved, mesh)
  notes = saved.notes
  if names := find_not_finite(variables):
    notes += (
      f'{describe_names(names)} in {saved.path}: this model has diverged, and'
      ' what it computes is worth nothing.',
    )
  variables, changes = adapt_variables(variables, target, source=source)
  return TrainedModel(
    model=saved.model,
    variables=jax.device_put(
      variables, jax.tree.map(lambda leaf: leaf.sharding, target)
    ),
    preprocessing=preprocessing,
    loss=saved.loss,
    class_names=saved.metadata.class_names,
    config=ConfigDict(saved.metadata.config),
    step=step,
    path=saved.path,
    mesh=mesh,
    changes=(*notes, *changes),
  )


def open_saved_model(path: str | os.PathLike[str]) -> SavedModel:
  """Reads all of a checkpoint but its arrays, whose files are verified.

  Where the path is a workdir, that is its best checkpoint that is whole. To be
  called by all processes.

  Args:
    path: path of a checkpoint, as `find_checkpoint` takes it.

  Raises:
    UserError: there is no checkpoint, it is damaged, or it is of another
      version of the code.
  """
  candidates, notes = _rank_checkpoints(path)
  failures = []
  for directory in candidates:
    damage = checksums.find_damage_together(directory, ('state', 'metadata'))
    failure = create_damage_error(directory, damage) if damage else None
    if failure is None:
      try:
        saved = _open_checkpoint(directory)
      except DamageError as error:
        failure = error
    if not checksums.is_good_everywhere(failure is None):
      damage = checksums.DAMAGE_ELSEWHERE
      failures.append(failure or create_damage_error(directory, damage))
      continue
    notes += [f'{error} Step {directory.name} is used.' for error in failures]
    return dataclasses.replace(saved, notes=tuple(notes))
  raise failures[0]


def _open_published(directory: epath.Path) -> SavedModel:
  published = published_folder.read_published_model(directory)
  described = _describe_model(directory, published.metadata)

  def read() -> Any:
    return published_folder.read_published_variables(
      directory, described['model'], published.weights_sha256
    )

  return SavedModel(
    **described,
    shapes=jax.eval_shape(lambda tree: tree, read()),
    has_ema=published.is_averaged,
    read_published=lambda: (published.step, read()),
  )


def _describe_model(directory: epath.Path, metadata: Metadata) -> dict:
  """Returns those fields of a `SavedModel` that its metadata say."""
  try:
    model = create_model(**metadata.model)
    preprocessing = PreprocessingOptions(**metadata.preprocessing)
    loss = LossOptions(**metadata.config['loss'])
  except (KeyError, TypeError, UserError) as error:
    raise UserError(
      f'The checkpoint {directory} is of another version of the code:'
      f' {describe_failure(error)}'
    ) from error
  return {
    'path': directory,
    'model': model,
    'preprocessing': preprocessing,
    'loss': loss,
    'metadata': metadata,
  }


def _open_checkpoint(directory: epath.Path) -> SavedModel:
  if published_folder.is_published(directory):
    return _open_published(directory)
  described = _describe_model(directory, restore_metadata(directory))
  try:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
      state = try_again(
        lambda: checkpointer.metadata(directory / 'state').item_metadata
      )
    if state is None:  # Orbax logs why.
      raise ValueError('the list of its arrays is missing or damaged')
    has_ema = state.tree.get('ema') is not None
    variables = state.tree['ema'] if has_ema else state.tree
    shapes = {
      name: jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        variables[name],
      )
      for name in ('params', 'batch_stats')
    }
  except Exception as error:  # Orbax raises many kinds for missing files.
    raise create_read_error(directory, error) from error
  return SavedModel(**described, shapes=shapes, has_ema=has_ema)


def read_metadata(path: str | os.PathLike[str]) -> Metadata:
  """Reads what a checkpoint says of itself; of a workdir, the best that can.

  Args:
    path: path of a checkpoint, as `find_checkpoint` takes it.

  Raises:
    UserError: there is no checkpoint, or none that says it.
  """
  failures = []
  for directory in _rank_checkpoints(path)[0]:
    try:
      if published_folder.is_published(directory):
        return published_folder.read_published_model(directory).metadata
      return restore_metadata(directory)
    except DamageError as error:
      failures.append(error)
  raise failures[0]


def find_checkpoint(path: str | os.PathLike[str]) -> epath.Path:
  """Finds the directory of the checkpoint that a path means.

  Args:
    path: workdir, for its best checkpoint, or the newest where none was
      evaluated; the directory of one step, which may be a copy; or a published
      model.

  Raises:
    UserError: there is no checkpoint.
  """
  return _rank_checkpoints(path)[0][0]


def _rank_checkpoints(
  path: str | os.PathLike[str],
) -> tuple[list[epath.Path], list[str]]:
  """Returns the directories that a path means, best first, and warnings.

  After the steps that were evaluated, the latest of equals first, come the
  others, newest first. To be called by all processes, which get the order of
  the first: a run that is still training adds and removes some.

  Raises:
    UserError: there is no checkpoint.
  """
  path = resolve_path(path, 'the checkpoint')
  if (path / 'state').is_dir() or (path / checksums.CHECKSUMS_FILE).exists():
    return [path], []
  if published_folder.is_published(path):
    return [path], []
  directory = path if path.name == 'checkpoints' else path / 'checkpoints'
  steps = sorted(find_steps(directory), reverse=True)
  if not steps:
    problem = 'does not exist' if not path.exists() else 'has no checkpoint'
    aside = directory.parent / DAMAGED_DIRECTORY
    if aside.is_dir():
      problem += f' but what was damaged and put aside in {aside}'
    raise UserError(
      f'{path} {problem}: give the workdir of a run that has saved one, or a'
      ' directory of one step, WORKDIR/checkpoints/STEP.'
    )
  notes = []
  if len(steps) > 1:
    evaluations = find_evaluations(directory, steps, notes.append)
    best_metric = _read_best_metric(directory, steps)
    best = find_best_evaluation(evaluations, best_metric)
    if evaluations and best is None:
      raise UserError(
        f'None of the checkpoints in {directory} is the best: no evaluation'
        ' gave finite numbers. Give the directory of one of them, such as'
        f' {directory / str(steps[0])}.'
      )
    quality = {
      step: compute_quality(metrics, best_metric)
      for step, metrics in evaluations.items()
    }
    steps.sort(
      key=lambda step: (step in quality, quality.get(step, 0.0), step),
      reverse=True,
    )
  order = ask_first_process(lambda: ' '.join(map(str, steps)))
  return [directory / step for step in order.split()], notes


def _read_best_metric(directory: epath.Path, steps: list[int]) -> str:
  """Returns the measure that says which is best, of the newest that does."""
  failure = None
  for step in steps:
    try:
      metadata = restore_metadata(directory / str(step))
      return metadata.config['checkpoint']['best_metric']
    except (UserError, KeyError, TypeError) as error:
      failure = failure or error
  raise UserError(
    f'None of the checkpoints in {directory} can be read: {failure}'
  )


def restore_variables(saved: SavedModel, mesh: Mesh) -> tuple[int, Any]:
  """Reads the variables to evaluate with: averages where there are any.

  Optimizer state is not read.

  Args:
    saved: checkpoint without its arrays, from `open_saved_model`.
    mesh: devices to put them on.

  Returns:
    The number of optimizer steps taken, and {'params', 'batch_stats'} as they
    were saved.

  Raises:
    UserError: they cannot be read.
  """
  if saved.read_published is not None:
    step, variables = saved.read_published()
    return step, put_variables(variables, mesh)
  item = add_shardings(saved.shapes, mesh)
  item = {'ema': item} if saved.has_ema else item
  item = {'step': jax.ShapeDtypeStruct((), jnp.int32), **item}
  try:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
      restored = try_again(
        lambda: checkpointer.restore(
          saved.path / 'state',
          args=ocp.args.PyTreeRestore(
            item=item,
            restore_args=ocp.checkpoint_utils.construct_restore_args(item),
            partial_restore=True,
          ),
        )
      )
  except Exception as error:  # Orbax raises many kinds for missing files.
    raise create_read_error(saved.path, error) from error
  step = int(restored.pop('step'))
  return step, restored['ema'] if saved.has_ema else restored
