"""The quick start as a newcomer runs it, to its end."""

import json
import os
import time

import pytest

from tests.main_process import run_main


@pytest.mark.slow
def test_learns_real_pictures_to_88_percent(tmp_path):
  start = time.monotonic()
  process = run_main(
    '--config=configs/quickstart.py',
    f'--workdir={tmp_path / "run"}',
    env={
      name: value
      for name, value in os.environ.items()
      # As a user has it, not as the other tests.
      if name not in ('XLA_FLAGS', 'JAX_COMPILATION_CACHE_DIR')
    }
    | {'XDG_CACHE_HOME': str(tmp_path / 'cache')},
  )
  print(process.stdout)
  print(f'{time.monotonic() - start:.0f} s from the typed line to the end')
  assert process.returncode == 0, process.stderr
  assert process.stderr == ''
  summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
  assert summary['final']['count'] == 2000
  assert summary['final']['top1'] >= 0.88
