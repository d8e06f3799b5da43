"""This project's side of the comparison, and the comparison itself."""

import dataclasses
import json

import pytest

from benchmarks import versus_timm
from tests.benchmarks.refusing import MISSING, run_refusing
from tests.benchmarks.versus.tasks import TASK

LACKING = (*MISSING, 'ml_collections')


def test_it_needs_nothing_that_reads_data_or_configs():
  program = 'import benchmarks.versus.ours, benchmarks.versus_timm as command'
  end = "; print(command.stand_ins.is_installed('torch'))"
  assert run_refusing(LACKING, program + end).split() == ['False']


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('mode', ['train', 'inference'])
def test_steps_are_taken(mode):
  task = dataclasses.replace(TASK, mode=mode)
  questions = [['prepare', {}], ['compile', {}], ['turn', {'steps': 2}]]
  questions.append(['peak_bytes', {}])
  answers = run_refusing(
    LACKING,
    'from benchmarks.versus import ours; ours.main(sys.argv[1])',
    task.to_json(),
    said=''.join(f'{json.dumps(question)}\n' for question in questions),
  )
  prepared, compiled, turn, peak = (
    json.loads(line)['answer'] for line in answers.splitlines()
  )
  assert prepared['num_parameters'] == 575_480
  assert compiled['first_call_seconds'] > compiled['seconds'] > 0
  assert turn['seconds'] > 0
  assert 1e8 < peak < 1e11


@pytest.mark.parity
@pytest.mark.timeout(1200)
def test_this_project_and_timm(tmp_path, capsys):
  path = tmp_path / 'figures.json'
  status = versus_timm.main(
    [
      *('--models=test_coatnet', '--batch=2', '--device=cpu', '--rounds=2'),
      *('--inference', '--minutes=15', f'--json={path}'),
    ]
  )
  assert status == 0
  [comparison] = json.loads(path.read_text())['comparisons']
  ours, eager, compiled = comparison['results']
  assert [row['error'] for row in (ours, eager, compiled)] == [None] * 3
  assert ours['num_parameters'] == eager['num_parameters'] == 575_480
  assert all(row['ratio'] > 0 for row in (eager, compiled))
  assert 'this project is' in capsys.readouterr().out
