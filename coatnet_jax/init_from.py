"""What a run takes over of its config from the weights that it starts from."""

from collections.abc import Mapping
from typing import Any

from coatnet_jax.checkpoints.trained_model import read_metadata
from coatnet_jax.errors import UserError, explain_choice
from coatnet_jax.training import workdir as workdir_lib


def follow_init_from(
  config: Mapping[str, Any], workdir: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
  """Takes over from what a run starts from, as `follow_init_from` says.

  Args:
    config: config with the keys of `configs/base.py`, its values resolved.
    workdir: directory of the run; where it has a config already, that one is
      followed.

  Returns:
    A config with the values of the checkpoint that `init_from` means, or the
    same values where that is empty; and what was taken over, in lines.

  Raises:
    UserError: `init_from` is no checkpoint, or `follow_init_from` has a key
      that a checkpoint does not say.
  """
  config = {
    name: dict(value) if isinstance(value, Mapping) else value
    for name, value in config.items()
  }
  keys = _find_followed_keys(config)
  if not config['init_from'] or not keys:
    return config, ()
  if workdir_lib.is_claimed(workdir):
    # This run's own, as it took them over when it began.
    source = workdir
    saved = workdir_lib.read_config(workdir)
  else:
    source = f'The checkpoint of config.init_from, {config["init_from"]},'
    metadata = read_metadata(config['init_from'])
    saved = {'model': metadata.model, 'preprocessing': metadata.preprocessing}
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
  if 'model.name' in keys:
    # Options of the variant, which belong to its name.
    options = {k: v for k, v in saved['model'].items() if k != 'num_classes'}
    config['model'] = options | config['model']
  return config, tuple(taken)


def _find_followed_keys(config: Mapping[str, Any]) -> list[str]:
  """Returns the keys to take over: those that nobody has set.

  Raises:
    UserError: one is not in every checkpoint, or is none.
  """
  allowed = [
    'model.name',
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
