import types

import pytest

from coatnet_jax import arguments
from coatnet_jax.errors import UserError
from tools import command_line, evaluate


@pytest.mark.parametrize(
  ('batch_size', 'num_devices', 'expected'),
  [(50, 1, 50), (1, 8, 8), (8, 8, 8), (9, 8, 16)],
)
def test_batches_are_rounded_up_to_divide_over_the_devices(
  batch_size, num_devices, expected
):
  mesh = types.SimpleNamespace(size=num_devices)
  assert command_line.resolve_batch_size(batch_size, mesh) == expected


def test_a_batch_of_nothing_is_refused():
  mesh = types.SimpleNamespace(size=8)
  with pytest.raises(UserError, match='--batch_size is -8'):
    command_line.resolve_batch_size(-8, mesh)


def test_a_flag_is_not_guessed_from_its_beginning(capsys):
  parser = command_line.create_parser('predict', 'Predicts.')
  with pytest.raises(SystemExit):
    parser.parse_args(['--check=/tmp/run'])
  assert '--checkpoint' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('words', 'end'),
  [
    (['--prt=80'], '--prt is none of its flags; did you mean --port?'),
    (['push', '--prvate'], '--prvate is none of its flags; did you mean'),
    (['push', '--zzz'], '--zzz is none of its flags'),
  ],
)
def test_a_misspelt_flag_is_a_line_that_names_one_like_it(words, end, capsys):
  parser = arguments.create_parser('tool', 'Does nothing.')
  parser.add_argument('--port')
  commands = parser.add_subparsers()
  commands.add_parser('push').add_argument('--private', action='store_true')
  with pytest.raises(SystemExit) as info:
    parser.parse_args(words)
  assert info.value.code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith(f'tool: error: {end}')
  assert line.endswith('(--help lists the flags).')


def test_every_key_of_the_data_that_is_one_value_can_be_given():
  values = {
    'source': 'folder',
    'eval_split': 'test',
    'eval_fraction': '0.2',
    'num_workers': '2',
    'synthetic_examples': '3',
  }
  arguments = [f'--data.{name}={value}' for name, value in values.items()]
  options = evaluate.create_parser().parse_args(['--checkpoint=D', *arguments])
  found = {name: str(vars(options)[f'data.{name}']) for name in values}
  assert found == values
