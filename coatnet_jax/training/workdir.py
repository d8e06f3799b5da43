"""A run's directory: that it can be written, and whose run it is."""

import hashlib
import json
import os
import time
from typing import Any

import jax
from etils import epath
from flax.traverse_util import flatten_dict
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from coatnet_jax.errors import UserError, explain_failures, find_reason
from coatnet_jax.models.compute_options import SAME_RESULT_NAMES
from coatnet_jax.paths import CONFIG_KEYS, resolve_path, write_whole
from coatnet_jax.strict_json import read_mapping, to_json

CONFIG_FILE = 'config.json'
SUMMARY_FILE = 'summary.json'
# In what a finished run and the one it is made longer to may differ.
LENGTH_KEYS = ('training.num_epochs', 'training.num_steps')
# A network's file system may show a new file late.
SHARED_WITHIN_SECONDS = 30.0
# What may change when a run is resumed: it does not change what is trained.
FREE_KEYS = (
  'checkpoint.',
  'compiled_train_step',
  'data.cache_mebibytes',
  'data.changed',
  'data.data_dir',
  'data.max_damaged_fraction',
  'data.max_image_pixels',
  'data.num_threads',
  'data.num_workers',
  'data.prefetch_batches',
  'evaluation.',
  # Its effect is in the keys that it names.
  'follow_init_from',
  'logging.',
  *(f'model.{name}' for name in SAME_RESULT_NAMES),
  'sharding.',
  'training.early_stopping_evaluations',
  # What it changes would have ended the run.
  'training.skip_nonfinite_steps',
)
# What runs did before there was a key for it.
BEFORE_THE_KEY = {
  'augmentation.randaugment_probability': 1.0,
  'data.fold': 0,
  'data.group_pattern': '',
  'data.num_folds': 0,
  'data.sampling': 'natural',
  'loss.class_weights': 'none',
  'mixup.group_size': 0,
  'schedule.max_warmup_fraction': 0.0,
  'training.early_stopping_evaluations': 0,
  'training.ema_warmup': True,
}


def resolve_workdir(workdir: str | os.PathLike[str]) -> epath.Path:
  """Returns the workdir's path, before anything is read.

  Args:
    workdir: directory of the run, perhaps gs://...; it need not be there.

  Raises:
    UserError: it is no path, or a file.
  """
  path = resolve_path(workdir, 'the workdir')
  if '://' not in str(path) and path.exists() and not path.is_dir():
    raise UserError(
      f'The workdir {path} is a file; give a directory, new or of a run.'
    )
  return path


def claim_workdir(workdir: str, config: ConfigDict, num_steps: int = 0) -> int:
  """Makes a workdir the one of a config, which it then holds.

  A run that is finished may be made longer: its config may differ in how long
  it is, if that is more than the steps that were taken. What it said of itself
  until then is kept, under names with these steps.

  Args:
    workdir: directory of the run, perhaps gs://...; created where it is
      missing.
    config: config of the run.
    num_steps: steps of the run, as its config resolves; 0 lengthens none.

  Returns:
    The steps of the finished run that is made longer, on the first process; or
    0.

  Raises:
    UserError: no workdir is given, it can't be written, processes do not share
      it, or it has the config of another run (with the difference).
  """
  path = epath.Path(workdir)
  saved = path / CONFIG_FILE
  taken = 0
  text = config_to_json(config) + '\n'
  with explain_failures(f'The workdir {workdir} cannot be written'):
    if jax.process_index() == 0:
      path.mkdir(parents=True, exist_ok=True)
      taken = _read_steps_taken(path)
      if saved.exists():
        before = read_config(workdir)
        if taken and _has_stopped_early(path):
          _check_patience(before, config, workdir)
          if _is_as_long(before, config):
            taken = 0  # It has not become longer.
        is_longer = 0 < taken < num_steps
        check_same_run(before, config, workdir, is_longer=is_longer)
        if is_longer and not is_same_run(before, config):
          kept = path / _name_with_step(CONFIG_FILE, taken)
          kept.write_text(saved.read_text())
      write_whole(saved, text)
      if 0 < taken < num_steps:
        # Not finished any more.
        summary = path / SUMMARY_FILE
        summary.replace(path / _name_with_step(SUMMARY_FILE, taken))
    multihost_utils.sync_global_devices('the workdir is claimed')
    if not _is_shared(saved, text):
      raise UserError(
        f'The workdir {workdir} of process 0 is not that of process'
        f' {jax.process_index()}: it must be a directory which all processes'
        ' share, or gs://...'
      )
    return taken if taken < num_steps else 0


def is_claimed(workdir: str) -> bool:
  """Returns whether a directory is that of a run."""
  return (epath.Path(workdir) / CONFIG_FILE).exists()


def read_config(workdir: str) -> dict[str, Any]:
  """Returns the config of the run that has claimed a workdir.

  Raises:
    UserError: it cannot be read, or is none.
  """
  says = _read_json(epath.Path(workdir) / CONFIG_FILE)
  sections = says.get('model'), says.get('preprocessing')
  if not all(isinstance(section, dict) for section in sections):
    raise _create_damage_error(
      epath.Path(workdir) / CONFIG_FILE, 'has no sections of a config'
    )
  return says


def _read_json(path: epath.Path) -> dict[str, Any]:
  try:
    return read_mapping(path)
  except ValueError as error:
    raise _create_damage_error(path, str(error)) from error
  except Exception as error:  # What reads buckets raises kinds of its own.
    raise UserError(f'{path} cannot be read: {find_reason(error)}.') from error


class DamagedFileError(UserError):
  """A file of a workdir that can be read, and has not what it must have."""


def _create_damage_error(path: epath.Path, problem: str) -> DamagedFileError:
  remedy = ''
  if path.name == CONFIG_FILE:
    remedy = f' {describe_repair(path.parent)}'
  return DamagedFileError(
    f'{path} {problem}; this workdir was damaged, or is not one of this'
    f' program.{remedy}'
  )


def describe_repair(workdir: str | os.PathLike[str]) -> str:
  """Returns a sentence that says how a workdir gets its config back."""
  return (
    'To bring it back from a checkpoint, in a checkout of the project: python'
    f' -m tools.checkpoints --workdir={workdir} --repair.'
  )


def find_config_problem(workdir: epath.Path) -> str:
  """Returns what is wrong with the config of a workdir; '' if nothing is.

  Args:
    workdir: directory of a run.

  Raises:
    UserError: it cannot be read, so that nobody knows.
  """
  if not is_claimed(str(workdir)):
    return f'{workdir / CONFIG_FILE} is missing'
  try:
    read_config(str(workdir))
  except DamagedFileError:
    return f'{workdir / CONFIG_FILE} is damaged'
  return ''


def replace_config(workdir: epath.Path, config: ConfigDict) -> None:
  """Writes the config of a run anew; what was there is kept beside it.

  Args:
    workdir: directory of the run.
    config: whole config of the run.

  Raises:
    UserError: it cannot be written.
  """
  with explain_failures(f'The workdir {workdir} cannot be written'):
    path = workdir / CONFIG_FILE
    if path.exists():
      path.replace(workdir / f'damaged_{CONFIG_FILE}')
    write_whole(path, config_to_json(config) + '\n')


def _is_shared(saved: epath.Path, text: str) -> bool:
  """Returns whether this process finds what the first has just written."""
  wanted = _without_paths(text)
  deadline = time.monotonic() + SHARED_WITHIN_SECONDS
  while time.monotonic() < deadline:
    if saved.exists() and _without_paths(saved.read_text()) == wanted:
      return True
    time.sleep(0.5)
  return False


def _without_paths(text: str) -> dict[str, Any]:
  """Returns a config's values but its paths, which machines may differ in."""
  values = flatten_dict(json.loads(text), sep='.')
  return {k: v for k, v in values.items() if k not in CONFIG_KEYS}


def _read_steps_taken(path: epath.Path) -> int:
  """Returns the steps of the run that was finished in a workdir, or 0."""
  summary = path / SUMMARY_FILE
  if not summary.exists():
    return 0
  steps = _read_json(summary).get('steps')
  if type(steps) is not int or not 0 <= steps < 2**63:
    raise _create_damage_error(summary, 'does not say how many steps it is of')
  return steps


def _has_stopped_early(path: epath.Path) -> bool:
  """Returns whether a finished run ended before its last step."""
  return 'stopped_early' in _read_json(path / SUMMARY_FILE)


def _check_patience(
  saved: dict[str, Any], config: ConfigDict, workdir: str
) -> None:
  """Raises UserError for another length of a run that would stop again."""
  key = 'early_stopping_evaluations'
  patience = config.training[key]
  if _is_as_long(saved, config) or saved['training'].get(key) != patience:
    return
  raise UserError(
    f'The run of {workdir} stopped early, so another length changes nothing:'
    f' to go on, set config.training.{key}, which is {patience}, to a larger'
    ' number, or to 0 for never; or use another --workdir.'
  )


def _is_as_long(saved: dict[str, Any], config: ConfigDict) -> bool:
  """Returns whether a config's run is as long as that of one that was saved."""
  before = flatten_dict(saved, sep='.')
  now = flatten_dict(config.to_dict(), sep='.')
  return all(before.get(key) == now[key] for key in LENGTH_KEYS)


def _name_with_step(name: str, step: int) -> str:
  """Returns 'config_to_step_1000.json' for 'config.json'."""
  return name.replace('.', f'_to_step_{step}.')


def is_same_run(saved: dict[str, Any], config: ConfigDict) -> bool:
  """Returns whether a config is one that was saved, in every key."""
  return saved == json.loads(config_to_json(config))


def check_same_run(
  saved: dict[str, Any],
  config: ConfigDict,
  workdir: str,
  *,
  is_longer: bool = False,
) -> None:
  """Raises UserError if what is trained differs, with every difference.

  Args:
    saved: config that the workdir holds.
    config: config that the run is to be resumed with.
    workdir: directory of the run, for the message.
    is_longer: whether the run is finished, and is to be made longer.
  """
  before = BEFORE_THE_KEY | flatten_dict(saved, sep='.')
  for key in CONFIG_KEYS:
    if before.get(key):  # Relative, as a run once saved it.
      before[key] = str(resolve_path(before[key], f'config.{key}'))
  now = flatten_dict(json.loads(config_to_json(config)), sep='.')
  if not before.get('augmentation.randaugment_layers'):
    # The strength of nothing is the same on any scale.
    scale = 'augmentation.randaugment_scale'
    before[scale] = now.get(scale)
  missing = '(not there)'
  changed = [
    key
    for key in sorted(before.keys() | now.keys())
    if not key.startswith(FREE_KEYS)
    and not (is_longer and key in LENGTH_KEYS)
    and before.get(key, missing) != now.get(key, missing)
  ]
  if changed:
    differences = [
      f'  config.{key}: {before.get(key, missing)} before,'
      f' {now.get(key, missing)} now'
      for key in changed
    ]
    if set(changed) <= set(LENGTH_KEYS):
      differences.append(
        '  A run that is finished can be made longer; not one that is not, and'
        ' none can be made shorter.'
      )
    raise UserError(
      f'{workdir} holds a run with another config; use another --workdir, or'
      ' the config it was started with. The difference:\n'
      + '\n'.join(differences)
    )


def config_to_json(config: ConfigDict) -> str:
  """Returns a config as JSON, with sorted keys."""
  return to_json(config.to_dict(), indent=2, sort_keys=True)


def compute_config_hash(config: ConfigDict) -> str:
  """Returns the first 12 hex digits of the SHA-256 of a config's JSON."""
  return hashlib.sha256(config_to_json(config).encode()).hexdigest()[:12]
