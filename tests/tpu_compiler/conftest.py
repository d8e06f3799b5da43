"""Runs what loads libtpu in processes of their own.

The tests' process has flags for quick compilation and a cache, which neither
the TPU's compiler nor its estimates should see.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='session')
def run_python():
  """Returns a function that runs Python and reads the JSON it prints."""

  def run(*arguments):
    env = {
      name: value
      for name, value in os.environ.items()
      if name not in ('XLA_FLAGS', 'JAX_COMPILATION_CACHE_DIR')
    }
    process = subprocess.run(
      [sys.executable, *arguments],
      cwd=ROOT,
      env={**env, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
      capture_output=True,
      text=True,
      check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout)

  return run


@pytest.fixture(scope='session')
def run_benchmark(run_python):
  """Returns a function that runs tools.benchmark_attention with --json."""

  def run(*arguments):
    return run_python('-m', 'tools.benchmark_attention', '--json', *arguments)

  return run
