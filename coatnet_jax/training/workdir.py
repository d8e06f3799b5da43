"""A run's directory: that it can be written, and whose run it is."""

import hashlib
import json
import time
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from coatnet_jax.errors import UserError
from coatnet_jax.paths import CONFIG_KEYS

CONFIG_FILE = 'config.json'
# A network's file system may show a new file late.
SHARED_WITHIN_SECONDS = 30.0
# What may change when a run goes on: it does not change what is trained.
FREE_KEYS = (
  'checkpoint.',
  'compiled_train_step',
  'data.cache_mebibytes',
  'data.data_dir',
  'data.max_damaged_fraction',
  'data.num_threads',
  'data.num_workers',
  'data.prefetch_batches',
  'evaluation.',
  # Its effect is in the keys that it names.
  'follow_init_from',
  'logging.',
  'model.attention',
  'model.remat',
  'model.scan_blocks',
  'sharding.',
)
# What runs did before there was a key for it.
BEFORE_THE_KEY = {
  'augmentation.randaugment_probability': 1.0,
  'training.ema_warmup': True,
}


def claim_workdir(workdir: str, config: ConfigDict) -> None:
  """Makes a workdir the one of a config, which it then holds.

  Args:
    workdir: created where it is missing; a path, or gs://...
    config: of the run.

  Raises:
    UserError: no workdir is given, it can't be written, processes do not share
      it, or it has the config of another run (with the difference).
  """
  path = epath.Path(workdir)
  saved = path / CONFIG_FILE
  text = config_to_json(config) + '\n'
  try:
    if jax.process_index() == 0:
      path.mkdir(parents=True, exist_ok=True)
      if saved.exists():
        check_same_run(json.loads(saved.read_text()), config, workdir)
      # Written whole or not at all, also when killed here.
      partial = path / (CONFIG_FILE + '.partial')
      partial.write_text(text)
      partial.replace(saved)
    multihost_utils.sync_global_devices('the workdir is claimed')
    if not _is_shared(saved, text):
      raise UserError(
        f'The workdir {workdir} of process 0 is not that of process'
        f' {jax.process_index()}: it must be a directory which all processes'
        ' share, or gs://...'
      )
  except UserError:
    raise
  except json.JSONDecodeError as error:
    raise UserError(
      f'{saved} is no JSON ({error}); this workdir was damaged, or is not one'
      ' of this program.'
    ) from error
  except Exception as error:  # What reads buckets raises kinds of its own.
    reason = getattr(error, 'strerror', None) or error
    raise UserError(
      f'The workdir {workdir} cannot be written: {reason}.'
    ) from error


def is_claimed(workdir: str) -> bool:
  """Returns whether a directory is that of a run."""
  return (epath.Path(workdir) / CONFIG_FILE).exists()


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
  values = flatten(json.loads(text))
  return {k: v for k, v in values.items() if k not in CONFIG_KEYS}


def check_same_run(
  saved: dict[str, Any], config: ConfigDict, workdir: str
) -> None:
  """Raises UserError if what is trained differs, with every difference."""
  before = BEFORE_THE_KEY | flatten(saved)
  now = flatten(json.loads(config_to_json(config)))
  if not before.get('augmentation.randaugment_layers'):
    # The strength of nothing is the same on any scale.
    scale = 'augmentation.randaugment_scale'
    before[scale] = now.get(scale)
  missing = '(not there)'
  differences = [
    f'  {key}: {before.get(key, missing)} before, {now.get(key, missing)} now'
    for key in sorted(before.keys() | now.keys())
    if not key.startswith(FREE_KEYS)
    and before.get(key, missing) != now.get(key, missing)
  ]
  if differences:
    raise UserError(
      f'{workdir} holds a run with another config; use another --workdir, or'
      ' the config it was started with. The difference:\n'
      + '\n'.join(differences)
    )


def config_to_json(config: ConfigDict) -> str:
  """Returns a config as JSON, with sorted keys."""
  return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def compute_config_hash(config: ConfigDict) -> str:
  """Returns the first 12 hex digits of the SHA-256 of a config's JSON."""
  return hashlib.sha256(config_to_json(config).encode()).hexdigest()[:12]


def flatten(tree: Any, prefix: str = '') -> dict[str, Any]:
  """Returns the leaves of nested dictionaries by their dotted names."""
  if not isinstance(tree, dict):
    return {prefix: tree}
  flat = {}
  for key, value in tree.items():
    flat.update(flatten(value, f'{prefix}.{key}' if prefix else key))
  return flat
