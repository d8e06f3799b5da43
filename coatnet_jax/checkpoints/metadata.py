"""What a checkpoint has beside the state, and reading it."""

import dataclasses
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from coatnet_jax.checkpoints import checksums
from coatnet_jax.checkpoints.folder import find_steps
from coatnet_jax.checkpoints.reading import try_again
from coatnet_jax.errors import UserError, cite_line
from coatnet_jax.models.compute_options import COMPUTE_NAMES
from coatnet_jax.strict_json import read_mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
  """How far a run has come, over all the processes it took.

  Attributes:
    examples_seen: data position: number of examples read for training.
    seconds: time since the start of training.
    seconds_in_steps: part of that time, without evaluation and saving.
    skipped_steps: number of steps that changed nothing, as they were not
      finite.
    best_metric: name of the measure that decides which evaluation is best. This
      and the following is `EarlyStopping`'s.
    best_step: step of the first of the best evaluations before this step's own;
      0 where there is none.
    best_measure: measure of that evaluation.
    stale_evaluations: number of evaluations since then, without this step's.
  """

  examples_seen: int = 0
  seconds: float = 0.0
  seconds_in_steps: float = 0.0
  skipped_steps: int = 0
  best_metric: str = ''
  best_step: int = 0
  best_measure: float = 0.0
  stale_evaluations: int = 0

  def __post_init__(self):
    """Raises ValueError for what is no progress, as a damaged file has it."""
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name == 'best_metric':
        if not isinstance(value, str):
          raise ValueError('best_metric is no name')
        continue
      if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f'{field.name} is no number')
      if not 0 <= value < 2**63:
        raise ValueError(f'{field.name} is {value:g}')

  def after(
    self,
    *,
    examples: int,
    seconds: float,
    seconds_in_steps: float,
    skipped_steps: int = 0,
  ) -> 'Progress':
    """Returns the progress after so much more."""
    return Progress(
      examples_seen=self.examples_seen + examples,
      seconds=self.seconds + seconds,
      seconds_in_steps=self.seconds_in_steps + seconds_in_steps,
      skipped_steps=self.skipped_steps + skipped_steps,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
  """What it takes to use the variables of a checkpoint, as JSON values.

  Attributes:
    model: arguments of `create_model`: `find_model_arguments`.
    preprocessing: fields of `PreprocessingOptions`: image size, mean, standard
      deviation, crop, interpolation.
    class_names: name of each class.
    config: config of the run, whole.
    data: 'examples', number of images, and 'fingerprint', from
      `identity.compute_fingerprint`, of 'train' and 'eval'; empty in
      checkpoints of older versions.
  """

  model: dict[str, Any]
  preprocessing: dict[str, Any]
  class_names: tuple[str, ...]
  config: dict[str, Any]
  data: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    """Raises ValueError for values of other types, as a damaged file has."""
    for name in ('model', 'preprocessing', 'config', 'data'):
      if not isinstance(getattr(self, name), dict):
        raise ValueError(f'{name} is no mapping')
    if not all(isinstance(entry, dict) for entry in self.data.values()):
      raise ValueError('data has no mappings')
    if not isinstance(self.class_names, tuple | list) or not all(
      isinstance(name, str) for name in self.class_names
    ):
      raise ValueError('class_names are no names')


def find_model_arguments(
  config: ConfigDict, num_classes: int
) -> dict[str, Any]:
  """Returns the arguments of `create_model` that make a run's model again.

  Args:
    config: `config.model` of the run.
    num_classes: number of classes of its data.
  """
  arguments = {**config.to_dict(), 'num_classes': num_classes}
  # How the model is computed is up to the machine that loads it.
  for name in COMPUTE_NAMES:
    arguments.pop(name, None)
  return arguments


def read_json_item(directory: epath.Path) -> dict[str, Any]:
  """Returns an item of a checkpoint that is JSON: its progress or metadata.

  Args:
    directory: directory of the item.
  """
  # As Orbax names it.
  return try_again(lambda: read_mapping(directory / 'metadata'))


def restore_metadata(directory: epath.Path) -> Metadata:
  """Reads what it takes to use a checkpoint.

  Args:
    directory: directory of the checkpoint.

  Returns:
    The metadata; its sequences are tuples, as in a config, not JSON's lists.

  Raises:
    UserError: it cannot be read.
  """
  if damage := checksums.find_damage(directory, ('metadata',)):
    raise create_damage_error(directory, damage)
  try:
    metadata = read_json_item(directory / 'metadata')
    return Metadata(**tuples_for_lists(metadata))
  except Exception as error:  # Orbax raises many kinds for missing files.
    raise create_read_error(directory, error) from error


def tuples_for_lists(tree: Any) -> Any:
  """Returns a tree of JSON with tuples, as a config has them."""
  if isinstance(tree, dict):
    return {key: tuples_for_lists(value) for key, value in tree.items()}
  if isinstance(tree, list):
    return tuple(tuples_for_lists(value) for value in tree)
  return tree


class DamageError(UserError):
  """A checkpoint that is damaged; another one may not be."""


def create_read_error(directory: epath.Path, error: Exception) -> DamageError:
  """Returns the error of a checkpoint that cannot be read.

  Args:
    directory: directory of the checkpoint.
    error: error that Orbax raised.
  """
  return _create_error(directory, describe_failure(error))


def create_damage_error(
  directory: epath.Path, damage: dict[str, str]
) -> DamageError:
  """Returns the error of a checkpoint whose checksums do not fit.

  Args:
    directory: directory of the checkpoint.
    damage: what is wrong by the name of a file: `checksums.find_damage`.
  """
  return _create_error(directory, checksums.describe_damage(damage))


def _create_error(directory: epath.Path, reason: str) -> DamageError:
  names = _other_steps(directory)
  others = f' Others are beside it: {", ".join(names)}.' if names else ''
  if directory.parent.name == 'checkpoints':
    others += (
      ' To put right what can be, in a checkout of the project: python -m'
      f' tools.checkpoints --workdir={directory.parent.parent} --repair.'
    )
  return DamageError(
    f'The checkpoint {directory} cannot be read: {reason}.{others}'
  )


def _other_steps(directory: epath.Path) -> list[str]:
  if not directory.name.isdigit():
    return []
  steps = find_steps(directory.parent)
  return [str(step) for step in sorted(steps) if str(step) != directory.name]


def describe_failure(error: BaseException) -> str:
  """Returns what was first wrong, briefly, to be part of a sentence."""
  while error.__cause__ is not None:
    error = error.__cause__
  return cite_line(str(error).strip() or type(error).__name__)
