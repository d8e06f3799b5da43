"""Real runs that are disturbed, and promises that are broken."""

import signal
import sys
import time

import pytest

from benchmarks.chaos import faults, rounds, stages
from benchmarks.chaos.started_run import StartedRun

CADENCE = stages.Cadence(num_steps=40, evaluation_steps=10, checkpoint_steps=5)
WORDS = (
  '--config=tests/processes_config.py',
  # The second epoch begins within the run.
  '--config.training.global_batch_size=32',
)


@pytest.fixture(name='plan', scope='module')
def fixture_plan(tmp_path_factory):
  return rounds.Plan(WORDS, CADENCE, tmp_path_factory.mktemp('chaos'))


def _kill_and_go_on_with_workers(played):
  run = played.start()
  assert played.wait_for_checkpoints(run, 1)
  run.send(signal.SIGKILL)
  assert not played.end(run, -signal.SIGKILL)
  played.changes.append('--config.data.num_workers=2')
  run = played.start()
  played.end(run, rounds.FINISHED)
  assert 'Resuming from the checkpoint of step' in run.read_output()
  played.changes.clear()


@pytest.mark.slow
@pytest.mark.rotating
def test_kill_9_changes_nothing(plan):
  played = rounds.run_round(
    _kill_and_go_on_with_workers, plan, 'kill', seed=1, stage='training'
  )
  assert not played.broken
  assert played.num_starts == 2
  assert not played.directory.exists()


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('name', faults.FAULTS)
def test_nothing_is_lost(plan, name):
  # Another stage for each fault, and the same ones each time.
  turn = list(faults.FAULTS).index(name)
  played = rounds.run_round(
    faults.FAULTS[name],
    plan,
    name,
    seed=turn,
    stage=list(stages.STAGES)[turn % len(stages.STAGES)],
  )
  assert not played.broken


# A program in the place of main.py: it writes, and ends as it is told to.
_PRETENDED = """
import pathlib, subprocess, sys, time
status, lines, leaves, *_ = sys.argv[1:]
print(lines, flush=True)
if leaves == 'worker':
  subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
sys.exit(int(status))
"""


@pytest.fixture(name='pretend')
def fixture_pretend(plan, tmp_path, monkeypatch):
  """Returns a round whose starts are a program that ends as it is told to."""

  def start_pretended(status, lines='', leaves=''):
    (tmp_path / 'main.py').write_text(_PRETENDED)
    monkeypatch.setattr('benchmarks.chaos.started_run.ROOT', tmp_path)
    words = [str(status), lines, leaves]
    run = StartedRun(words, tmp_path / 'workdir', tmp_path / 'output')
    run.process.wait(60)
    return run

  return start_pretended


@pytest.mark.parametrize(
  ('ended', 'promise'),
  [
    ({'status': 1}, 'ended with 1 instead of 75 or 0'),
    (
      {'status': 75, 'lines': 'Traceback (most recent call last):'},
      'ended with a traceback',
    ),
    ({'status': 0}, 'which is not what the workdir says'),
    ({'status': 75, 'leaves': 'worker'}, 'left processes behind'),
  ],
)
def test_a_broken_promise_is_written_down(
  plan, pretend, monkeypatch, ended, promise, request
):
  monkeypatch.setattr('benchmarks.chaos.started_run._LAST_SECONDS', 0.2)
  name = request.node.callspec.id.replace('/', '_')
  played = rounds.Round(plan, name, seed=0, stage='training')
  run = pretend(**ended)
  played.end(run, rounds.STOPPED, rounds.FINISHED)
  assert len(played.broken) == 1
  assert promise in played.broken[0]
  assert not run.find_survivors()


def test_a_run_that_stays_kept_its_promises(plan, pretend):
  played = rounds.Round(plan, 'kept', seed=0, stage='training')
  assert not played.end(pretend(75), rounds.STOPPED)
  assert not played.broken


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_no_run_is_disturbed_before_it_can_mind(tmp_path, monkeypatch):
  (tmp_path / 'main.py').write_text(
    'import os, signal, time\n'
    'while not os.path.exists("begin"):\n'
    '  time.sleep(0.01)\n'
    'signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n'
    'print("begun", flush=True)\n'
    'time.sleep(60)\n'
  )
  monkeypatch.setattr('benchmarks.chaos.started_run.ROOT', tmp_path)
  is_reached = stages.STAGES['starting'].is_reached
  with StartedRun([], tmp_path / 'workdir', tmp_path / 'output') as run:
    assert not is_reached(run, CADENCE, 1)
    (tmp_path / 'begin').touch()
    while 'begun' not in run.read_output():
      time.sleep(0.01)
    assert is_reached(run, CADENCE, 1)


@pytest.mark.parametrize(
  ('output', 'stage', 'is_reached'),
  [
    ('Loading JAX ...\n', 'loading', True),
    ('Loading JAX ...\n', 'compiling', False),
    ('\nstep 12/40 (30%)  loss 2.3\n', 'training', True),
    ('\nstep 10/40 (25%)  loss 2.3\n', 'training', False),
    ('\nstep 10/40 (25%)  loss 2.3\n', 'evaluating', True),
    ('\nstep 12/40 (30%)  loss 2.3\n', 'evaluating', False),
    ('\nstep 10/40 (25%)\nstep 10: top-1 3%\n', 'evaluating', False),
    ('\nstep 40/40 (100%)\nstep 40: top-1 3%\n', 'ending', True),
  ],
)
def test_a_stage_is_recognised(output, stage, is_reached):
  class Run:
    def read_output(self):
      return output

  assert stages.STAGES[stage].is_reached(Run(), CADENCE, 12) == is_reached
