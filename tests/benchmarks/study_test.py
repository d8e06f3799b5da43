import json
import pathlib
import re

import pytest

from benchmarks import study
from configs import layout_study, transfer_study

MEASURED = {'loss': 0.5, 'top1': 0.25}
FEW_SHOT = {'shots': [{'shots': 1, 'top1': 0.1}, {'shots': 5, 'top1': 0.3}]}


@pytest.fixture(name='commands')
def fixture_commands(monkeypatch):
  """Stands in for training and evaluation; what they were asked for."""
  commands = []

  def run_python(*arguments):
    commands.append(arguments)
    if arguments[0] == 'main.py':
      [workdir] = [a for a in arguments if a.startswith('--workdir=')]
      workdir = pathlib.Path(workdir.removeprefix('--workdir='))
      workdir.mkdir(parents=True)
      summary = {'steps': 7, 'num_parameters': 1234}
      (workdir / 'summary.json').write_text(json.dumps(summary))
      return ''
    if any(argument.startswith('--fewshot') for argument in arguments):
      return json.dumps(FEW_SHOT)
    sizes = '--image_size=48,64' in arguments
    return json.dumps(
      [MEASURED, MEASURED | {'top1': 0.5}] if sizes else MEASURED
    )

  monkeypatch.setattr(study, 'run_python', run_python)
  return commands


def _trained(commands):
  found = [a[1] for a in commands if a[0] == 'main.py']
  return [re.sub(r'.*:', '', name) for name in found]


def test_layouts(commands, tmp_path, capsys):
  arguments = ['layouts', f'--directory={tmp_path}', '--seeds=2']
  study.main(arguments)
  assert _trained(commands) == [
    p for p in layout_study.PHASES for _ in range(2)
  ]
  checkpoint = f'--checkpoint={tmp_path}/layouts/ccct_1/checkpoints/7'
  assert (
    *('-m', 'tools.evaluate', '--json', '--data.eval_split=train'),
    checkpoint,
  ) in commands
  table = capsys.readouterr().out
  assert (
    '| `ccct` | 1,234 | 0.500 ± 0.000 | 0.500 ± 0.000 | 25.00 ± 0.00 |'
    ' 25.00 ± 0.00 |\n'
  ) in table
  # What is there is not done again.
  commands.clear()
  study.main(arguments)
  assert commands == []
  assert capsys.readouterr().out == table


def test_transfer(commands, tmp_path, capsys):
  study.main(
    ['transfer', f'--directory={tmp_path}', '--data_dir=DATA', '--seeds=1']
  )
  assert _trained(commands) == list(transfer_study.PHASES)
  for arguments in commands:
    started = f'--config.init_from={tmp_path}/transfer/pretrain_0' in arguments
    assert started == (
      '--config=configs/transfer_study.py:finetune' in arguments
    )
  printed = capsys.readouterr().out
  for line in (
    '| its own artist | 25.0 ± 0.0 | 50.0 ± 0.0 |',
    '| finetune | 25.0 ± 0.0 | 0.500 ± 0.000 |',
    '| 5 of each class | 30.0 ± 0.0 |',
  ):
    assert line in printed.splitlines()


def test_transfer_needs_the_emoji(tmp_path, capsys):
  with pytest.raises(SystemExit):
    study.main(['transfer', f'--directory={tmp_path}'])
  assert 'transfer needs --data_dir' in capsys.readouterr().err


def test_the_spread_is_that_of_a_sample():
  assert study.show([1.0, 2.0, 3.0], 1) == '2.0 ± 1.0'
  assert study.show([1.0]) == '1.000 ± 0.000'
