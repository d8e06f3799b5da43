"""Whether growth is seen."""

import sys

import pytest

from benchmarks import steady_run
from coatnet_jax.errors import UserError

# A program in the place of main.py, which keeps what it is told to.
_PROGRAM = """
import sys, time
grows, kept, files = 'name=grows' in sys.argv[2], [], []
for step in range(1, 41):
  if grows:
    kept.append(bytearray(b'1' * 8_000_000))
    files.append(open(sys.argv[0]))
  print(f'step {step}/40', flush=True)
  time.sleep(0.05)
"""


@pytest.fixture(name='measure')
def fixture_measure(tmp_path, monkeypatch, capsys):
  """Returns what is said of a program in the place of main.py, and status."""
  (tmp_path / 'main.py').write_text(_PROGRAM)
  monkeypatch.setattr('benchmarks.chaos.started_run.ROOT', tmp_path)
  monkeypatch.setattr(steady_run, '_EVERY_SECONDS', 0.04)

  def measure(word):
    words = ['--config=configs/quickstart.py', f'--config.data.name={word}']
    status = steady_run.main(words)
    lines = capsys.readouterr().out.splitlines()
    # By the beginning of a line, with the numbers after it.
    return status, {line[:30].strip(): line[30:].split() for line in lines}

  return measure


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_what_grows_is_seen(measure):
  status, rows = measure('grows')
  assert status == 1
  then, now, _ = rows['memory of the run, MiB']
  assert float(now) > float(then) + 100
  then, now, _ = rows['open files']
  assert float(now) > float(then) + 20
  assert rows['processes'] == ['1', '1', '0.0%']


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_what_stays_is_steady(measure):
  status, rows = measure('stays')
  assert status == 0
  assert rows['threads'] == ['1', '1', '0.0%']


def test_a_run_that_fails_is_no_measurement(measure, tmp_path):
  (tmp_path / 'main.py').write_text('raise SystemExit(3)')
  with pytest.raises(UserError, match='ended with status 3'):
    measure('grows')
