"""Each argument of a tool that is a number has a type and a range."""

import argparse
import ast
import pathlib

import pytest

from coatnet_jax.arguments import add_number
from coatnet_jax.errors import UserError
from tools import (
  benchmark_attention,
  command_line,
  evaluate,
  explain,
  import_timm,
  plan,
  predict,
  prepare,
)

TOOLS = pathlib.Path(command_line.__file__).parent
PARSERS = {
  'benchmark_attention': (benchmark_attention.create_parser, []),
  'evaluate': (evaluate.create_parser, ['--checkpoint=x']),
  'explain': (explain.create_parser, ['--checkpoint=x', 'image.png']),
  'import_timm': (
    import_timm.create_parser,
    ['--variant=x', '--weights=x', '--out=x'],
  ),
  'plan': (plan.create_parser, ['--topology=v5e-4']),
  'predict': (predict.create_parser, ['--checkpoint=x', 'image.png']),
  'prepare': (
    prepare.create_parser,
    ['folder', '--output_dir=x', '--source_dir=x', '--name=x'],
  ),
}
NUMBERS = {
  'benchmark_attention': ('batch', 'heads', 'head_dim', 'repeats'),
  'evaluate': ('batch_size', 'fewshot_seeds'),
  'explain': ('steps',),
  'import_timm': ('num_classes',),
  'plan': ('slices', 'train_examples', 'num_classes'),
  'predict': ('top', 'batch_size'),
  'prepare': (
    'num_workers',
    'shard_mebibytes',
    'max_pixels',
    'eval_fraction',
  ),
}
FRACTIONS = ('shard_mebibytes', 'eval_fraction')


@pytest.mark.parametrize(
  ('tool', 'name'), [(tool, n) for tool in NUMBERS for n in NUMBERS[tool]]
)
def test_what_is_no_such_number_is_refused(tool, name):
  create, needed = PARSERS[tool]
  wrong = ['-1', 'nan', 'inf', 'two', '', '1e400', '9' * 30]
  wrong += [] if name in FRACTIONS else ['0', '1.5']
  for text in wrong:
    with pytest.raises(UserError, match=f'^--{name} is .*; it must be a '):
      create().parse_args([*needed, f'--{name}={text}'])
  text = '0.5' if name in FRACTIONS else '2'
  parsed = create().parse_args([*needed, f'--{name}={text}'])
  assert getattr(parsed, name) == float(text)


def test_no_tool_has_a_number_without_a_range():
  """By `type=int` argparse takes any."""
  found = []
  for path in sorted(TOOLS.glob('*.py')):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.keyword) and node.arg == 'type':
        kind = ast.unparse(node.value)
        found += [f'{path.name}:{node.value.lineno}'] * (
          kind in ('int', 'float')
        )
  assert not found, f'Use add_number: {found}'


def test_a_default_stays_what_it_is():
  parser = argparse.ArgumentParser()
  add_number(parser, '--n', default=None)
  assert parser.parse_args([]).n is None
