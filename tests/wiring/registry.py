"""Which test shows that a key of the config reaches what it names.

    @proves('optimizer.weight_decay')
    def test_kernels_lose_a_part_of_themselves(): ...

`registry_test.py` compares the keys that tests are registered for with those
of configs/base.py. A registered test has to build configs (`runs.py`) with two
values of its keys at least, or it fails: nothing is proved by one.
"""

import collections
import functools
from collections.abc import Callable
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from configs import base

KEYS = frozenset(flatten_dict(base.get_config().to_dict(), sep='.'))

# key -> names of the tests that show its effect.
PROVEN: dict[str, list[str]] = collections.defaultdict(list)

# Of the running test: key -> the values that configs had.
_values: dict[str, set[str]] = collections.defaultdict(set)


def proves(*keys: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
  """Registers a test for keys, and checks that it tries two values of each."""
  if unknown := set(keys) - KEYS:
    raise ValueError(f'configs/base.py has no {", ".join(sorted(unknown))}.')

  def register(test):
    for key in keys:
      PROVEN[key].append(f'{test.__module__}.{test.__name__}')

    @functools.wraps(test)
    def checked(*args, **kwargs):
      _values.clear()
      test(*args, **kwargs)
      for key in keys:
        assert len(_values[key]) > 1, f'{key} was {_values[key]} alone.'

    return checked

  return register


def record(config: ConfigDict) -> None:
  """Notes the values of a config that a test works with."""
  for key, value in flatten_dict(config.to_dict(), sep='.').items():
    _values[key].add(repr(value))
