"""Whether what checksums take is seen."""

import re
import time

import pytest

from benchmarks import saving_cost
from coatnet_jax.checkpoints import checksums


@pytest.mark.slow
def test_the_time_of_checksums_is_seen(monkeypatch, capsys):
  written = []

  def write_slowly(directory, write=checksums.write_checksums):
    time.sleep(1.5)
    write(directory)
    written.append(checksums.has_checksums(directory))

  monkeypatch.setattr(checksums, 'write_checksums', write_slowly)
  words = ['--config=tests/processes_config.py', '--saves=2']
  assert saving_cost.main(words) == 0
  said = capsys.readouterr().out
  seconds, without = map(
    float, re.findall(r'^(?:checksums|without) +([\d.]+) s$', said, re.M)
  )
  assert seconds > without + 1
  # One pair more than is counted; those without were left alone.
  assert written == [True] * 3
