"""Runs as a notebook makes them: one after the other, in one process."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]

# No flags are parsed, nothing is silenced, paths are pathlib's.
CELLS = """
import pathlib
import sys
import logging

import train
from tests import processes_config

for name, worker_count in (('one', 0), ('two', 1)):
  config = processes_config.get_config()
  config.training.num_steps = 2
  config.augmentation.randaugment_layers = 0
  config.mixup.mixup_alpha = config.mixup.cutmix_alpha = 0.0
  config.data.num_workers = worker_count
  config.data.eval_split = 'test[:24]'
  train.train_and_evaluate(config, pathlib.Path(sys.argv[1], name))
assert logging.getLogger().level == logging.WARNING
logging.warning('as before')
"""


def test_two_runs_in_one_process(tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', CELLS, str(tmp_path)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  # What is on the screen is ours.
  assert done.stderr.splitlines()[0] == 'WARNING:root:as before'
  lines = done.stdout.splitlines()
  for line in ('Compiling the train step ...', 'Finished 2 steps'):
    assert sum(shown.startswith(line) for shown in lines) == 2
  assert len(lines) < 60
  logs = {
    name: (tmp_path / name / 'train.log').read_text() for name in ('one', 'two')
  }
  for name, other in (('one', 'two'), ('two', 'one')):
    assert logs[name].count('INFO absl: Finished 2 steps') == 1
    assert f'{tmp_path}/{other}/' not in logs[name]
