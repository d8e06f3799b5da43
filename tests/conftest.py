"""What every test starts from."""

import os
import tempfile
from importlib import metadata
from unittest import mock

# Before jax is imported; subprocesses inherit them.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR',
  os.path.join(tempfile.gettempdir(), 'coatnet_jax_test_cache'),
)
os.environ.setdefault('NO_GCE_CHECK', 'true')
# Compiling takes most of the suite's time; what is compiled runs but briefly.
# Fusion emitters take two thirds of that; later compilers don't know the flag.
os.environ.setdefault(
  'XLA_FLAGS',
  '--xla_backend_optimization_level=0'
  + ' --xla_cpu_use_fusion_emitters=false'
  * metadata.version('jaxlib').startswith('0.10.'),
)

import logging

import pytest
from absl import flags

# Where a checkpoint is damaged, Orbax raises for the first array and leaves the
# others to complain of the event loop that is gone.
logging.getLogger('asyncio').setLevel(logging.CRITICAL)


# Files that take minutes of the slow half. They begin first, so that none of
# them is left running beside an idle worker.
_LONGEST = ('whole_train_step_test.py', 'devices_test.py')


def pytest_addoption(parser):
  parser.addoption(
    '--part',
    metavar='K/N',
    help='run only one of N parts of the tests marked "rotating", number K'
    ' modulo N; all others are run too',
  )


def pytest_collection_modifyitems(config, items):
  items.sort(key=lambda item: item.path.name not in _LONGEST)
  if part := config.getoption('part'):
    number, parts = map(int, part.split('/'))
    rotating = [item for item in items if item.get_closest_marker('rotating')]
    left_out = set(rotating) - set(rotating[number % parts :: parts])
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope='session', autouse=True)
def _parsed_flags():
  """Grain's worker processes read absl flags, which pytest never parses."""
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope='module')
def tiny_variant():
  """Adds the variant 'tiny': a block of each kind, quick to compile."""
  from coatnet_jax.models import variants
  from tests.quick_models import TINY

  with mock.patch.dict(variants.VARIANTS, tiny=TINY):
    yield
