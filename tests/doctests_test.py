"""The examples in docstrings run, and give what they say."""

import doctest
import importlib
import pathlib
import types

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# Long results may be broken into lines, and what varies left out.
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
MODULES = [
  '.'.join(path.relative_to(ROOT).with_suffix('').parts)
  for folder in ('coatnet_jax', 'benchmarks')
  for path in sorted((ROOT / folder).rglob('*.py'))
  if '>>> ' in path.read_text(encoding='utf-8')
]


def find_examples(module: types.ModuleType) -> list[doctest.DocTest]:
  return [
    test for test in doctest.DocTestFinder().find(module) if test.examples
  ]


@pytest.mark.parametrize('name', MODULES)
def test_the_examples_of_a_module(name, capsys):
  module = importlib.import_module(name)
  results = doctest.testmod(module, optionflags=OPTIONS)
  assert results.attempted
  assert not results.failed, capsys.readouterr().out


def test_there_are_many_examples():
  lines = [
    line
    for name in MODULES
    for test in find_examples(importlib.import_module(name))
    for example in test.examples
    for line in example.source.splitlines()
  ]
  assert len(lines) >= 120


def test_an_example_that_is_wrong_is_noticed(capsys):
  module = types.ModuleType('wrong')
  module.__doc__ = '>>> 1 + 1\n3\n'
  assert doctest.testmod(module, optionflags=OPTIONS).failed == 1
  assert 'Expected:' in capsys.readouterr().out
