"""Turns, and what becomes of a contestant that fails."""

import dataclasses
import itertools
import os
import sys
import types

import pytest

from benchmarks.versus import contestant, tables, turns
from benchmarks.versus.task import Task
from tests.benchmarks.versus import tasks

TASK = dataclasses.replace(tasks.TASK, batch_size=8)
WORDS = [sys.executable, '-m', 'tests.benchmarks.versus.stand_in']


@pytest.fixture(name='compare')
def fixture_compare(tmp_path):
  """Returns a function of behaviours and seconds per step, to rows."""

  def compare(*contestants, max_rounds=3, max_seconds=30.0, said=None):
    return turns.compare(
      [
        turns.Contestant(
          name, [*WORDS, name, str(seconds)], os.environ, tmp_path / name
        )
        for name, seconds in contestants
      ],
      max_rounds=max_rounds,
      max_seconds=max_seconds,
      report=(said if said is not None else []).append,
    )

  return compare


def test_a_ratio_is_of_one_round(compare):
  rows = compare(('first', 0.1), ('second', 0.25))
  assert [row.error for row in rows] == ['', '']
  assert rows[0].seconds == pytest.approx([0.1, 0.2, 0.3])
  assert rows[1].steps == 4
  assert rows[0].steps == 10
  first, second = tables.summarise(rows, TASK)
  assert 'ratio' not in first
  # By medians of all rounds it would be no other, by neighbours it would.
  assert second['ratio'] == pytest.approx(2.5)
  assert second['ratio_quartiles'] == pytest.approx([2.5, 2.5])
  assert first['images_per_second'] == pytest.approx(40)
  assert second['peak_bytes'] == 1 << 30
  table = tables.format_table([first, second])
  assert '| second | 16.0 | 500.0 | 2.00 | 2.50 times as fast |' in table
  assert 'the others, second, this project is 2.50 times as fast (2.50' in table


@pytest.mark.parametrize(
  ('behaviour', 'rounds', 'reason'),
  [
    (
      'does not compile',
      0,
      'compile: RuntimeError: last dimension must be contiguous',
    ),
    (
      'dies',
      1,
      'turn: the process ended with status 3, after "out of memory"',
    ),
    (
      'another model',
      0,
      'another model: 1,001 parameters, and 1,000 of first',
    ),
  ],
)
def test_who_fails_is_said_and_the_others_go_on(
  compare, behaviour, rounds, reason
):
  said = []
  rows = compare(('first', 0.1), (behaviour, 0.1), ('third', 0.2), said=said)
  assert [row.error for row in rows] == ['', reason, '']
  assert [len(row.seconds) for row in rows] == [3, rounds, 3]
  assert f'{behaviour}: {reason}' in said
  results = tables.summarise(rows, TASK)
  assert reason in tables.format_table(results)
  # It stays among those compared with as far as it came.
  assert tables.find_best(results)['name'] == (behaviour if rounds else 'third')


def test_who_takes_too_long_is_not_waited_for(compare):
  rows = compare(
    ('first', 0.1), ('compiles for ever', 0.1), ('third', 0.1), max_seconds=5.0
  )
  assert rows[1].error.startswith('compile: no answer within')
  assert rows[2].error == 'not started: the others took all of the time'
  assert len(rows[0].seconds) == 3


def test_no_round_begins_that_would_take_too_long(compare, monkeypatch):
  # A second passes with each look at the clock.
  clock = itertools.count()
  monkeypatch.setattr(
    turns, 'time', types.SimpleNamespace(monotonic=lambda: next(clock))
  )
  said = []
  [row] = compare(('first', 0.1), max_rounds=5, max_seconds=12, said=said)
  assert len(row.seconds) == 3
  assert said[-1] == 'the time is over after 3 of 5 rounds'


@pytest.mark.parametrize(
  ('max_seconds', 'waited'),
  # Four looks at the clock come before the first round, three are of a round.
  [(60, [55, 52, 49]), (12, [10.0, 4, 1])],
)
def test_a_turn_is_waited_for_as_long_as_there_is_time(
  monkeypatch, tmp_path, max_seconds, waited
):
  clock = itertools.count()
  monkeypatch.setattr(
    turns, 'time', types.SimpleNamespace(monotonic=lambda: next(clock))
  )
  monkeypatch.setattr(turns.Contestant, 'start', lambda self: None)
  asked = []

  def ask(self, question, seconds, **arguments):
    if question == 'turn':
      asked.append(seconds)
    return {
      'num_parameters': 1,
      'first_call_seconds': 1.0,
      'notes': [],
      'seconds': 1.0,
      'processor_seconds': 1.0,
    }

  monkeypatch.setattr(turns.Contestant, 'ask', ask)
  contestant = turns.Contestant('first', [], {}, tmp_path / 'log')
  turns.compare([contestant], max_rounds=3, max_seconds=max_seconds)
  assert asked == waited


def test_nobody_is_started_when_the_time_is_over(compare):
  rows = compare(('first', 0.1), max_seconds=0.0)
  assert rows[0].error == 'not started: the others took all of the time'
  table = tables.format_table(tables.summarise(rows, TASK))
  assert table.endswith('There is nothing to compare.')


def test_the_order_is_reversed_from_round_to_round(compare, monkeypatch):
  asked = []
  ask = turns.Contestant.ask

  def ask_and_note(self, question, seconds, **arguments):
    if question == 'turn':
      asked.append(self.row.name)
    return ask(self, question, seconds, **arguments)

  monkeypatch.setattr(turns.Contestant, 'ask', ask_and_note)
  compare(('first', 0.1), ('second', 0.1), max_rounds=3)
  assert asked == ['first', 'second', 'second', 'first', 'first', 'second']


def test_a_turn_begins_with_a_step_that_does_not_count(monkeypatch):
  clock = 0.0

  def take_step():
    nonlocal clock
    clock += 2.0 if clock else 100.0  # The first one finds nothing in caches.

  fake = types.SimpleNamespace(
    perf_counter=lambda: clock, process_time=lambda: 3 * clock
  )
  monkeypatch.setattr(contestant, 'time', fake)
  assert contestant.time_steps(take_step, lambda: None, 5) == {
    'seconds': 2.0,
    'processor_seconds': 6.0,
  }


def test_everybody_is_ended(compare, monkeypatch):
  started = []
  start = turns.Contestant.start

  def start_and_keep(self):
    start(self)
    started.append(self._process)

  monkeypatch.setattr(turns.Contestant, 'start', start_and_keep)
  compare(('first', 0.1), ('dies', 0.1), max_rounds=2)
  assert len(started) == 2
  assert all(process.returncode is not None for process in started)


def test_a_task_is_read_as_it_was_written():
  assert Task.from_json(TASK.to_json()) == TASK
