"""The command line of the comparison with timm."""

import json
import os
import sys

import pytest

from benchmarks import stand_ins, versus_timm
from benchmarks.versus import turns
from coatnet_jax.errors import UserError


@pytest.fixture(name='contestants')
def fixture_contestants(monkeypatch):
  """Puts contestants that answer at once in the place of the real ones."""
  monkeypatch.setattr(stand_ins, 'is_installed', lambda package: True)
  tasks = []

  def create(task, folder, *, with_onnx):
    tasks.append(task)
    words = [sys.executable, '-m', 'tests.benchmarks.versus.stand_in', 'quick']
    return [
      turns.Contestant(name, [*words, seconds], os.environ, folder / name)
      for name, seconds in (('this project', '0.5'), ('timm', '0.25'))
    ]

  monkeypatch.setattr(versus_timm, 'create_contestants', create)
  return tasks


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    ('--models=coatnet_0', "--models is 'coatnet_0'; it must be one of"),
    ('--batch=8,', "--batch is ''; it must be a whole number, at least 1"),
    ('--batch=0', '--batch is 0; it must be'),
    (
      '--onnx',
      '--onnx is for inference on a CPU in float32, and this is train',
    ),
    ('--rounds=0', '--rounds is 0; it must be a whole number, at least 1'),
    ('--json=no/such/file.json', 'is in no directory; give a new file in a'),
    ('--json=/', "'/', which is a directory; give a new file"),
  ],
)
def test_what_cannot_be_compared_is_said(words, message):
  with pytest.raises(UserError, match=message):
    versus_timm.main([words])


@pytest.mark.parametrize(
  ('missing', 'message'),
  [
    (('torch', 'timm'), 'torch and timm are not installed'),
    (('timm',), 'timm is not installed'),
  ],
)
def test_what_is_missing_is_said_with_what_to_install(
  missing, message, monkeypatch
):
  monkeypatch.setattr(
    stand_ins, 'is_installed', lambda package: package not in missing
  )
  with pytest.raises(UserError, match=f'{message}.*requirements-parity.txt'):
    versus_timm.main([])


def test_a_table_and_a_file(contestants, tmp_path, capsys):
  path = tmp_path / 'figures.json'
  status = versus_timm.main(
    [
      '--models=coatnet_0_224,coatnet_rmlp_2_rw_384',
      *('--device=cpu', '--batch=4', '--inference', '--rounds=2'),
      *('--dtype=bfloat16', f'--json={path}'),
    ]
  )
  assert status == 0
  assert [(task.model, task.image_size) for task in contestants] == [
    ('coatnet_0_224', (224, 224)),
    ('coatnet_rmlp_2_rw_384', (384, 384)),
  ]
  assert {(t.batch_size, t.mode, t.dtype) for t in contestants} == {
    (4, 'inference', 'bfloat16')
  }
  shown = capsys.readouterr().out
  assert 'coatnet_0_224, inference, 4 images of 224x224 px, bfloat16' in shown
  assert shown.count('this project is 0.50 times as fast (0.50 to 0.50)') == 2
  figures = json.loads(path.read_text())
  assert '--inference' in figures['command']
  first, second = figures['comparisons']
  assert second['task']['model'] == 'coatnet_rmlp_2_rw_384'
  assert [row['name'] for row in first['results']] == ['this project', 'timm']
  assert first['results'][1]['ratio'] == pytest.approx(0.5)
  assert len(first['results'][1]['seconds_per_step']) == 2


@pytest.mark.parametrize(
  ('words', 'has_file', 'device'),
  # In WSL2 a GPU has no such file.
  [([], False, 'cpu'), ([], True, 'gpu'), (['--device=gpu'], False, 'gpu')],
)
def test_the_frameworks_find_a_gpu_that_is_asked_for(
  contestants, monkeypatch, tmp_path, words, has_file, device
):
  file = tmp_path / 'nvidiactl'
  monkeypatch.setattr(versus_timm, '_GPU', file)
  if has_file:
    file.touch()
  options = versus_timm._create_parser().parse_args(words)
  [task] = versus_timm.create_tasks(options)
  assert task.device == device


def test_a_step_of_training_is_what_is_compared_at_first(contestants):
  versus_timm.main(['--device=cpu', '--rounds=1'])
  [task] = contestants
  assert (task.mode, task.dtype, task.batch_size) == ('train', 'float32', 8)
