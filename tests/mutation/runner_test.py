"""The runner, on a project of two lines: what it calls noticed is noticed."""

import subprocess
import time

import pytest

from tests.mutation import __main__ as command_line
from tests.mutation import runner
from tests.mutation.mistake import Mistake, MistakeError, in_file

_CODE = 'def add(a, b):\n  return a + b\n'
_TESTS = """
import calculator

def test_sum():
  assert calculator.add(2, 3) == 5
"""
_BROKEN = """
import calculator

def test_what_is_wrong_anyway():
  assert calculator.add(2, 2) == 5
"""
_HANGING = """
import os, pathlib, time

def test_for_ever():
  pathlib.Path('../started').write_text(str(os.getpid()))
  time.sleep(600)
"""


@pytest.fixture
def project(tmp_path):
  root = tmp_path / 'project'
  for name, text in {
    'calculator.py': _CODE,
    'conftest.py': '',
    'tests/sum_test.py': _TESTS,
    'tests/broken_test.py': _BROKEN,
    'tests/hanging_test.py': _HANGING,
  }.items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
  subprocess.run(['git', 'init', '-q'], cwd=root, check=True)
  return root


def _mistake(name, old, new, test, unnoticed=''):
  return Mistake(name, 'calculator.py', old, new, '', (test,), unnoticed)


def _run(project, *mistakes, timeout_seconds=120.0):
  reported = []
  results = runner.run(
    project,
    mistakes,
    jobs=1,
    timeout_seconds=timeout_seconds,
    report=reported.append,
  )
  assert [r.mistake for r in reported] == [r.mistake for r in results]
  return {result.mistake.name: result for result in results}


def test_only_a_test_that_fails_by_the_mistake_notices_it(project):
  found = _run(
    project,
    _mistake('noticed', 'a + b', 'a - b', 'sum_test.py'),
    _mistake('survivor', 'a + b', 'b + a', 'sum_test.py::test_sum'),
    _mistake('expected', 'a + b', 'b + a', 'sum_test.py', 'sums commute'),
    _mistake('reason', 'a + b', 'a - b', 'sum_test.py', 'nobody can tell'),
    _mistake('fails anyway', 'a + b', 'a - b', 'broken_test.py'),
    _mistake('gone', 'a * b', 'a - b', 'sum_test.py'),
    _mistake('no test', 'a + b', 'a - b', 'product_test.py'),
  )
  assert {name: result.outcome.name for name, result in found.items()} == {
    'noticed': 'NOTICED',
    'survivor': 'SURVIVED',
    'expected': 'EXPECTED',
    'reason': 'STALE_REASON',
    'fails anyway': 'FAILS_ANYWAY',
    'gone': 'NOT_APPLIED',
    'no test': 'NOT_RUN',
  }
  good = {name for name, result in found.items() if result.outcome.is_good}
  assert good == {'noticed', 'expected'}
  assert found['noticed'].noticed_by == 'tests/sum_test.py::test_sum'
  assert (project / 'calculator.py').read_text() == _CODE


def test_what_takes_too_long_is_ended_and_not_noticed(project):
  folder = runner.copy_tree(project, project.parent / 'copy')
  mistake = _mistake('hangs', 'a + b', 'a - b', 'hanging_test.py')
  start = time.monotonic()
  result = runner.try_mistake(folder, mistake, 2.0)
  assert result.outcome is runner.Outcome.TOO_LONG
  assert not result.outcome.is_good
  assert time.monotonic() - start < 60
  started = project.parent / 'started'
  if started.exists():
    left = subprocess.run(
      ['ps', '-o', 'stat=', '-p', started.read_text()],
      capture_output=True,
      text=True,
      check=False,
    )
    assert left.stdout.strip()[:1] in ('', 'Z')
  assert (folder / 'calculator.py').read_text() == _CODE


@pytest.mark.parametrize('outcome', runner.Outcome)
def test_the_exit_status_is_0_only_where_all_is_noticed(
  monkeypatch, capsys, outcome
):
  def run(root, mistakes, **options):
    return [
      runner.Result(mistake, outcome if i == 1 else runner.Outcome.NOTICED)
      for i, mistake in enumerate(mistakes)
    ]

  monkeypatch.setattr(runner, 'run', run)
  status = command_line.main(['--part=1/20'])
  assert status == (0 if outcome.is_good else 1)
  shown = capsys.readouterr().out
  assert ('Not as it should be' in shown) != outcome.is_good


@pytest.mark.parametrize(
  ('old', 'new'),
  [
    ('return a', 'return a'),
    ('a', 'c'),
    ('a + b', 'a +'),
    ('a + b', '(a + b)'),
    ('nothing', 'a'),
  ],
)
def test_what_is_no_mistake_is_refused(old, new):
  with pytest.raises(MistakeError):
    _mistake('none', old, new, 'sum_test.py').apply(_CODE)


def test_parts_have_every_mistake_once():
  everything = command_line.choose('*', '1/1')
  parts = [command_line.choose('*', f'{k}/10') for k in range(1, 11)]
  assert sorted(m.name for part in parts for m in part) == sorted(
    m.name for m in everything
  )
  assert max(map(len, parts)) - min(map(len, parts)) <= 1
  assert command_line.choose('*', '13/10') == parts[2]


def test_mistakes_are_chosen_by_name_file_and_room():
  chosen = command_line.choose('end_that_is_left,coatnet_jax/ops', '1/1')
  assert {mistake.room for mistake in chosen} == {'train.py', 'coatnet_jax/ops'}
  assert len([m for m in chosen if m.room == 'train.py']) == 1


def test_rows_are_mistakes_of_their_file():
  rows = in_file(
    'coatnet_jax/ops/x.py', ('a', 'b', 'c', 'D.', 'e_test.py f_test.py', 'why')
  )
  assert rows == (
    Mistake(
      *('a', 'coatnet_jax/ops/x.py', 'b', 'c', 'D.'),
      ('e_test.py', 'f_test.py'),
      'why',
    ),
  )
  assert rows[0].room == 'coatnet_jax/ops'
