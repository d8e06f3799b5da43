"""Docstrings that can be read alone: entries, and the shapes of arrays."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
FILES = [
  ROOT / 'main.py',
  ROOT / 'train.py',
  *(
    file
    for name in ('coatnet_jax', 'configs', 'tools', 'benchmarks')
    for file in (ROOT / name).rglob('*.py')
  ),
]
# What an entry cannot begin with, as it then needs its name to be read.
DEPENDENT = re.compile(r'(of|as|from|to|likewise|the same)\b', re.IGNORECASE)
SHAPE = re.compile(r'\[[\w., *+\-/()]+\]|scalar')
ARRAY = re.compile(r'((tuple|list)\[)?(jax\.Array|np\.ndarray)')


def test_an_entry_is_a_phrase_that_reads_alone():
  entries = [entry for file in FILES for entry in _find_entries(file)]
  assert len(entries) > 1000
  assert [e for e in entries if DEPENDENT.match(e[-1])] == []
  short = [e for e in entries if len(e[-1].split()) <= 3]
  assert len(short) <= 0.1 * len(entries), short


def test_functions_of_arrays_give_shapes():
  functions = [f for file in FILES for f in _find_array_functions(file)]
  assert len(functions) > 100
  silent = [name for name, text in functions if not SHAPE.search(text)]
  assert len(silent) <= 0.1 * len(functions), silent


def _find_entries(file):
  """Yields file, owner, name and text of what Args and Attributes list."""
  for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
      continue
    text = (ast.get_docstring(node) or '') + '\n'
    for section in re.findall(
      r'^(?:Args|Attributes):\n((?:  .*\n|\n)+)', text, re.MULTILINE
    ):
      for entry in re.split(r'\n(?=  \S)', section.rstrip()):
        name, _, words = entry.partition(':')
        yield file.name, node.name, name.strip(), ' '.join(words.split())


def _find_array_functions(file):
  """Yields name and docstring of public functions that take or give arrays."""
  for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
    if not isinstance(node, ast.FunctionDef) or (
      node.name.startswith('_') and node.name != '__call__'
    ):
      continue
    arguments = node.args.args + node.args.kwonlyargs
    hints = [argument.annotation for argument in arguments] + [node.returns]
    if any(hint and ARRAY.match(ast.unparse(hint)) for hint in hints):
      yield f'{file.name}:{node.name}', ast.get_docstring(node) or ''
