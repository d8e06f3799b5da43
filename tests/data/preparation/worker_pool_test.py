import os
import subprocess
import sys

import pytest

from coatnet_jax.data.preparation.worker_pool import map_in_processes
from coatnet_jax.errors import UserError


def test_one_worker_is_this_process():
  assert list(map_in_processes(abs, [-3, 2], 1)) == [3, 2]


@pytest.mark.slow
def test_a_worker_that_is_ended_is_one_sentence():
  # Exits with status 1, as if killed for want of memory.
  with pytest.raises(UserError, match='A worker process was ended'):
    list(map_in_processes(os._exit, [1], 2))


def test_workers_load_neither_jax_nor_tensorflow():
  # It takes each of them seconds to start.
  code = """
import coatnet_jax.data.preparation.worker_pool, sys
sys.exit(str({'jax', 'tensorflow'} & set(sys.modules) or ''))
"""
  run = subprocess.run([sys.executable, '-c', code], stderr=subprocess.PIPE)
  assert run.stderr.decode().strip() == ''
