"""What is written as JSON is JSON, wherever it is written."""

import ast
import json
import math
import pathlib

import numpy as np
import pytest

from coatnet_jax.strict_json import to_json

ROOT = pathlib.Path(__file__).parents[1]
# The last two run where the project is not at hand, and write texts and times.
ALLOWED = (
  'coatnet_jax/strict_json.py',
  'coatnet_jax/distributed/last_words.py',
  'coatnet_jax/export/reading.py',
)
FILES = [
  *ROOT.glob('*.py'),
  *(
    p
    for d in ('coatnet_jax', 'tools', 'benchmarks')
    for p in sorted((ROOT / d).rglob('*.py'))
  ),
]


def _refuse(token):
  raise AssertionError(f'{token} is no JSON')


@pytest.mark.parametrize(
  ('tree', 'expected'),
  [
    (math.nan, None),
    ({'loss': math.inf, 'top1': 0.5}, {'loss': None, 'top1': 0.5}),
    ([(1, -math.inf), {'a': [math.nan]}], [[1, None], {'a': [None]}]),
    (
      {'x': np.float64('nan'), 'y': True, 'z': 'NaN'},
      {'x': None, 'y': True, 'z': 'NaN'},
    ),
  ],
)
def test_what_is_not_finite_is_null(tree, expected):
  assert json.loads(to_json(tree), parse_constant=_refuse) == expected


def test_nothing_is_written_past_it():
  """`json.dumps` writes NaN, which most programs cannot read."""
  found = []
  for path in FILES:
    if path.relative_to(ROOT).as_posix() in ALLOWED:
      continue
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Attribute) and ast.unparse(node) in (
        'json.dump',
        'json.dumps',
      ):
        found.append(f'{path.relative_to(ROOT)}:{node.lineno}')
  assert not found, f'Use coatnet_jax.strict_json.to_json: {found}'
