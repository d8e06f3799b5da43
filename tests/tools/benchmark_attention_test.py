import itertools
import json

import jax
import pytest

from benchmarks.attention import figures
from benchmarks.attention.cases import CASES
from coatnet_jax.errors import UserError
from coatnet_jax.tpu_compiler import topologies
from coatnet_jax.tpu_compiler.compiled_text import Array
from coatnet_jax.tpu_compiler.compiler_report import (
  Operation,
  OutOfMemoryError,
  Report,
)
from tools import benchmark_attention

SMALL = ['--grid=3x2', '--batch=2', '--heads=2', '--head_dim=8']


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--chips=v3'], "--chips is 'v3'; it must be one of"),
    (
      ['--implementations=cuda', '--measure'],
      "'cuda'; it must be one of pallas, xla",
    ),
    (['--implementations=pallas', '--measure'], "'pallas' runs on TPUs"),
    (['--directions=backward'], 'one of forward, forward.backward'),
    (['--grid=14'], 'must be HEIGHTxWIDTH'),
    (['--grid=0x14'], 'must be HEIGHTxWIDTH'),
    (['--heads=12'], '--heads needs --grid'),
    (['--grid=7x7', '--batch=0'], '--batch is 0'),
    (['--measure', '--repeats=0'], '--repeats is 0'),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(UserError, match=message):
    benchmark_attention.main(arguments)


def test_it_times_what_there_is(capsys):
  arguments = [*SMALL, '--dtype=float32', '--measure', '--repeats=2', '--json']
  assert benchmark_attention.main(arguments) == 0
  rows = json.loads(capsys.readouterr().out)
  assert [(row['direction'], row['implementation']) for row in rows] == [
    *itertools.product(('forward', 'forward+backward'), ('xla', 'reference'))
  ]
  for row in rows:
    assert row['device'] == jax.devices()[0].device_kind
    assert (row['grid'], row['head_dim']) == ([3, 2], 8)
    assert row['milliseconds'] > 0
  for pair in (rows[:2], rows[2:]):
    assert min(row['of_xla'] for row in pair) == 1


@pytest.fixture
def compiler(monkeypatch):
  """A compiler that says at once what each implementation costs."""
  cycles = {'pallas': 500_000, 'xla': 2_000_000, 'reference': None}

  def compile_report(traced, chip):
    del chip
    number = cycles[traced]
    if number is None:
      raise OutOfMemoryError(int(25.8e9), 2**34)
    operation = Operation(
      name='x',
      op_name='relative_attention',
      is_kernel=traced == 'pallas',
      cycles=number,
      hbm_bytes=7_000_000,
    )
    return Report(
      operations=(operation,),
      temporary_bytes=3_000_000,
      argument_bytes=0,
      output_bytes=0,
      largest_array=Array('u8', (0,), in_hbm=True),
      collectives=(),
    )

  monkeypatch.setattr(benchmark_attention, 'has_tpu', lambda: False)
  monkeypatch.setattr(
    figures, 'trace_program', lambda case, implementation, *_: implementation
  )
  monkeypatch.setattr(
    figures, 'trace_train_step', lambda device, attention: attention
  )
  monkeypatch.setattr(figures.compiler_report, 'compile_report', compile_report)
  monkeypatch.setattr(
    topologies, 'create_abstract_devices', lambda name: [None]
  )
  monkeypatch.setattr(topologies, 'describe_compiler', lambda: 'libtpu 1.2')
  return cycles


def test_the_table_says_that_it_is_an_estimate(compiler, capsys):
  arguments = ['--grid=14x14', '--directions=forward']
  assert benchmark_attention.main(arguments) == 0
  header, titles, *rows = capsys.readouterr().out.splitlines()
  assert header == 'Compiler estimate (libtpu 1.2), not measured on a TPU.'
  assert titles.split()[:3] == ['chip', 'grid', 'batch']
  assert ' '.join(rows[0].split()) == (
    'v5e 14x14 128 12 32 forward pallas 0.500 0.500 0.333 0.250 7 3 0.230 0.141'
  )
  assert rows[1].split()[6:11] == ['xla', '2.000', '0.000', '1.331', '1.000']
  assert rows[2].endswith('0.230   0.141  does not fit: needs 25.8 GB')


def test_json_has_every_chip_and_case(compiler, capsys):
  assert benchmark_attention.main(['--chips=v4,v6e', '--json']) == 0
  rows = json.loads(capsys.readouterr().out)
  assert len(rows) == 2 * len(CASES) * 2 * 3
  pallas, xla, reference = rows[:3]
  assert (pallas['chip'], pallas['of_xla']) == ('v4', 0.25)
  assert xla['of_xla'] == 1
  assert reference['cycles'] is None
  assert reference['needed_bytes'] == int(25.8e9)
  assert {row['chip'] for row in rows} == {'v4', 'v6e'}


def test_the_train_steps_share_of_attention(compiler, capsys):
  compiler['auto'] = 80_000
  arguments = ['--train_step', '--implementations=pallas,xla']
  assert benchmark_attention.main(arguments) == 0
  _, titles, *rows = capsys.readouterr().out.splitlines()
  assert 'share' in titles
  assert rows[0].split()[:6] == [
    'v5e',
    'pallas',
    '0.080',
    '0.053',
    '0.080',
    '100.0%',
  ]
  assert rows[1].split()[1:3] == ['xla', '2.000']
