"""What a run starts from: a checkpoint, or a file of weights from elsewhere.

And what it takes over of its config from them. How its state is made of them is
in `initial_state.py`.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from blake3 import blake3
from jax.sharding import Mesh

from coatnet_jax import paths
from coatnet_jax.checkpoints.trained_model import (
  open_saved_model,
  read_metadata,
  restore_variables,
)
from coatnet_jax.distributed import processes
from coatnet_jax.distributed.state_sharding import put_variables
from coatnet_jax.errors import UserError, explain_choice
from coatnet_jax.training import workdir as workdir_lib
from coatnet_jax.weights.imported import open_weights
from coatnet_jax.weights.published import get_published_weights

# Key of `follow_init_from` for the variant, with which its options come.
_NAME = 'model.name'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
  """What a run starts from, of either kind, without its arrays on the mesh.

  Attributes:
    source: words for it in an error.
    lines: lines that say what it is, for people.
    model: module for the variables, with the options they were trained with.
    shapes: {'params', 'batch_stats'} of anything with a shape; of a file that
      lacks modules of the head, without them.
    class_names: name of each class; () without a head.
    preprocessing: fields of `PreprocessingOptions` that it was trained with.
    is_finite: whether its numbers are known to be finite, as those of files
      are, which else are not read.
    read: function that reads the variables onto a mesh.
  """

  source: str
  lines: tuple[str, ...]
  model: nn.Module
  shapes: Any
  class_names: tuple[str, ...]
  preprocessing: Mapping[str, Any]
  is_finite: bool
  read: Callable[[Mesh], Any]


def is_weights_file(path: str) -> bool:
  """Returns whether `init_from` is a file of weights, and no checkpoint.

  Args:
    path: value of the key, not empty: a path, or a name on the hub.

  Raises:
    UserError: there is nothing at the path.
  """
  if paths.find_hub_name(path) is not None:
    return True
  resolved = paths.resolve_path(path, 'config.init_from')
  if not resolved.exists():
    raise UserError(
      f'{path} does not exist: give the workdir of a run that has saved a'
      ' checkpoint, a file of weights, or the name of weights on the Hugging'
      ' Face Hub, such as timm/coatnet_0_rw_224.sw_in1k, by config.init_from.'
    )
  return paths.is_plain_file(resolved)


def open_start(path: str, name: str) -> Start:
  """Opens what a run starts from.

  To be called by all processes.

  Args:
    path: value of `init_from`, not empty.
    name: name of the run's variant, which a file's weights are to be of.

  Raises:
    UserError: it can't be used: see `open_saved_model` and `open_weights`.
  """
  if is_weights_file(path):
    return _open_file(path, name)
  saved = open_saved_model(path)
  kinds = 'averaged parameters' if saved.has_ema else 'parameters'
  return Start(
    source=f'the checkpoint {saved.path} of init_from',
    lines=(
      *saved.notes,
      str(saved.path),
      f'{kinds} and batch statistics of {saved.metadata.model["name"]}',
    ),
    model=saved.model,
    shapes=saved.shapes,
    class_names=saved.metadata.class_names,
    preprocessing=dataclasses.asdict(saved.preprocessing),
    is_finite=False,
    read=lambda mesh: restore_variables(saved, mesh)[1],
  )


def _open_file(path: str, name: str) -> Start:
  """Opens a file of weights."""
  said: list[str] = []
  weights = open_weights(path, name, report=said.append)
  # Each process reads its own copy, perhaps of its own disk.
  processes.check_agreement(
    'weights', {'config.init_from (hash)': _compute_hash(weights.path)}
  )
  known = '' if weights.num_classes else ', without a head'
  return Start(
    source=f'the weights {weights.path} of init_from',
    lines=(
      *said,
      path if os.fspath(weights.path) == path else f'{path}: {weights.path}',
      f'weights of {weights.name}{known}; preprocessing {weights.origin}',
    ),
    model=weights.model,
    shapes=_keep_shapes(weights.variables),
    class_names=weights.class_names,
    preprocessing=weights.preprocessing,
    is_finite=True,
    # Not those read here: they would be held for the whole run.
    read=lambda mesh: put_variables(
      open_weights(path, name, report=lambda change: None).variables, mesh
    ),
  )


def _keep_shapes(variables: Any) -> Any:
  """Returns arrays as `jax.ShapeDtypeStruct`."""
  return jax.tree.map(
    lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), variables
  )


def _compute_hash(path: os.PathLike[str]) -> str:
  if jax.process_count() == 1:
    return ''  # There is none to compare with.
  return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


def follow_init_from(
  config: Mapping[str, Any], workdir: str | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
  """Takes over from what a run starts from, as `follow_init_from` says.

  Args:
    config: config with the keys of `configs/base.py`, its values resolved.
    workdir: directory of the run; where it has a config already, that one is
      followed. None for a run that is only planned: what is known of published
      weights is enough, and they are not fetched.

  Returns:
    A config with the values of what `init_from` means, or the same values where
    that is empty; and what was taken over, in lines.

  Raises:
    UserError: `init_from` is no checkpoint and no file of weights of a known
      variant, or `follow_init_from` has a key that these do not say.
  """
  config = {
    name: dict(value) if isinstance(value, Mapping) else value
    for name, value in config.items()
  }
  keys = _find_followed_keys(config)
  if not config['init_from'] or not keys:
    return config, ()
  source, saved = _read_saved(config, workdir, keys)
  for section in ('model', 'preprocessing'):
    if not isinstance(saved.get(section), dict):
      raise UserError(
        f'{source} has no {section} in its config; it is damaged, or is not'
        ' one of this program.'
      )
  taken = []
  for key in keys:
    section, _, name = key.partition('.')
    # An older checkpoint may lack a key.
    theirs = saved[section].get(name, config[section][name])
    theirs = tuple(theirs) if isinstance(theirs, list) else theirs
    if theirs != config[section][name]:
      taken.append(f'config.{key}: {theirs}, as it was trained')
    config[section][name] = theirs
  if _NAME in keys:
    # Options of the variant, which belong to its name.
    options = {k: v for k, v in saved['model'].items() if k != 'num_classes'}
    config['model'] = options | config['model']
  return config, tuple(taken)


def _read_saved(
  config: Mapping[str, Any], workdir: str | None, keys: list[str]
) -> tuple[str, Mapping[str, Any]]:
  """Returns what is followed, in words, and its sections of a config."""
  path = config['init_from']
  if workdir is None:
    published = get_published_weights(paths.find_hub_name(path) or '')
    if published is not None:
      return path, {
        'model': {'name': published.variant},
        'preprocessing': published.preprocessing,
      }
  elif workdir_lib.is_claimed(workdir):
    # This run's own, as it took them over when it began.
    return workdir, workdir_lib.read_config(workdir)
  if is_weights_file(path):
    processes.begin('reading the weights of init_from')
    name = None if _NAME in keys else config['model']['name']
    weights = open_weights(path, name, report=lambda change: None)
    return path, {
      'model': weights.model_arguments,
      'preprocessing': dict(weights.preprocessing),
    }
  metadata = read_metadata(path)
  return f'The checkpoint of config.init_from, {path},', {
    'model': metadata.model,
    'preprocessing': metadata.preprocessing,
  }


def _find_followed_keys(config: Mapping[str, Any]) -> list[str]:
  """Returns the keys to take over: those that nobody has set.

  Raises:
    UserError: one is not in every checkpoint, or is none.
  """
  allowed = [
    _NAME,
    *(f'preprocessing.{name}' for name in sorted(config['preprocessing'])),
  ]
  keys = []
  for key, value in config['follow_init_from']:
    if key not in allowed:
      raise UserError(
        explain_choice('A key of config.follow_init_from', key, allowed)
      )
    section, _, name = key.partition('.')
    if config[section][name] == value:
      keys.append(key)
  return keys
