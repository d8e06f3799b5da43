"""tools.chaos: what it says; rounds_test.py disturbs real runs."""

import json

import pytest

from benchmarks.chaos import faults, rounds
from coatnet_jax.errors import UserError
from tools import chaos

WORDS = ['--config=configs/quickstart.py']


class _Played:
  num_starts, seconds_to_end, events, directory = 2, 1.25, ['an event'], 'DIR'

  def __init__(self, broken):
    self.broken = broken


@pytest.fixture(name='run')
def fixture_run(monkeypatch, tmp_path, capsys):
  """Returns a function that runs the tool; rounds that are named break."""

  def run(*words, breaks=()):
    def play(fault, plan, name, seed, stage):
      return _Played(['it was lost'] if name in breaks else [])

    undisturbed = rounds.Undisturbed({}, 3.0)
    monkeypatch.setattr(rounds, 'run_round', play)
    monkeypatch.setattr(rounds.Plan, 'find_undisturbed', lambda *_: undisturbed)
    status = chaos.main([*WORDS, f'--directory={tmp_path}', *words])
    return status, capsys.readouterr()

  return run


def test_a_fault_that_is_not_known_is_named(run):
  with pytest.raises(UserError, match=r"--faults is 'kil'.*kill, term"):
    run('--faults=kil')


def test_a_directory_with_something_in_it_is_left_alone(run, tmp_path):
  (tmp_path / 'mine').touch()
  with pytest.raises(UserError, match='is not empty; name a new one'):
    run()


def test_a_row_counts_what_was_survived(run):
  status, said = run('--faults=kill,nan', '--rounds=3', breaks=['nan_1'])
  assert status == 1
  rows = {line.split()[0]: line.split() for line in said.out.splitlines()}
  assert rows['kill'] == ['kill', '3', '6', '3', '0', '1.2', 's']
  assert rows['nan'] == ['nan', '3', '6', '2', '1', '1.2', 's']
  assert 'BROKEN, see DIR\n  it was lost' in said.err


def test_survived_by_all_it_ends_with_0_and_every_stage_has_its_turn(run):
  status, said = run('--json', '--rounds=8', '--faults=kill')
  assert status == 0
  rows = json.loads(said.out)
  assert len({row['stage'] for row in rows}) == 8
  assert rows[0]['events'] == ['an event']
  assert rows[0]['starts'] == 2


def test_all_faults_are_tried_if_none_are_named(run):
  _, said = run('--json')
  assert [row['fault'] for row in json.loads(said.out)] == list(faults.FAULTS)
  # Not all in the same stage.
  assert len({row['stage'] for row in json.loads(said.out)}) > 4
