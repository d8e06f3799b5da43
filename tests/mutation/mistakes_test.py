"""The lists of mistakes: each can be made, and says what it does."""

import ast
import collections
import pathlib

import pytest

from tests.mutation.mistake import ROOMS
from tests.mutation.mistakes import MISTAKES

ROOT = pathlib.Path(__file__).parents[2]
# Part of the mistakes that may have a reason why no test notices them.
_MAX_UNNOTICED = 0.03


@pytest.mark.parametrize('mistake', MISTAKES, ids=lambda mistake: mistake.name)
def test_it_can_be_made(mistake):
  mistake.apply((ROOT / mistake.file).read_text(encoding='utf-8'))
  assert len(mistake.sentence.split()) > 2
  assert mistake.sentence.endswith('.')
  assert mistake.tests
  for test in mistake.tests:
    _check_is_of_the_default_suite(test)


def _check_is_of_the_default_suite(test):
  name, _, function = test.partition('::')
  path = ROOT / 'tests' / name
  assert path.exists(), test
  assert 'mutation' not in path.parts[-2:], test
  if not function:
    return
  tests = {
    node.name: ast.unparse(node.decorator_list)
    for node in ast.parse(path.read_text(encoding='utf-8')).body
    if isinstance(node, ast.FunctionDef)
  }
  assert function in tests, test
  assert 'pytest.mark.slow' not in tests[function], test


def test_there_are_many_of_every_room():
  assert len(MISTAKES) >= 200
  counts = collections.Counter(mistake.room for mistake in MISTAKES)
  assert set(counts) == set(ROOMS)
  folders = {
    str(path.parent.relative_to(ROOT))
    for name in ('coatnet_jax', 'configs', 'tools')
    for path in (ROOT / name).rglob('*.py')
  }
  assert folders <= set(ROOMS)


def test_each_has_a_name_and_a_change_of_its_own():
  names = collections.Counter(mistake.name for mistake in MISTAKES)
  changes = collections.Counter((m.file, m.old, m.new) for m in MISTAKES)
  assert max(names.values()) == max(changes.values()) == 1


def test_few_have_a_reason_why_none_notices_them():
  excused = [mistake for mistake in MISTAKES if mistake.unnoticed]
  assert len(excused) <= _MAX_UNNOTICED * len(MISTAKES)
