"""Takes out of a config what is of the machine that a run was on."""

import re
from collections.abc import Mapping
from typing import Any

from coatnet_jax.paths import CONFIG_KEYS, find_hub_name

# An absolute path, one of a home, of a bucket, or of a Windows drive.
_PATH = re.compile(r'(/|~|\w+:[/\\])')


def scrub_config(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a config whose paths are empty.

  >>> scrub_config({'seed': 1, 'data': {'data_dir': 'pictures', 'name': ''}})
  {'seed': 1, 'data': {'data_dir': '', 'name': ''}}

  Args:
    config: config of a run. What it started from is kept where that is a name
      on the Hugging Face Hub.
  """
  return _scrub(config, '')


def _scrub(value: Any, key: str) -> Any:
  if isinstance(value, Mapping):
    return {
      name: _scrub(child, f'{key}.{name}' if key else name)
      for name, child in value.items()
    }
  if isinstance(value, tuple | list):
    return type(value)(_scrub(child, key) for child in value)
  if not isinstance(value, str):
    return value
  if key == 'init_from' and find_hub_name(value):
    return value
  is_path = key in CONFIG_KEYS or _PATH.match(value)
  return '' if is_path else value
