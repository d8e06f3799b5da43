"""What the arguments of `tools.prepare` mean, with files that are empty."""

import os

import pytest

from tools import prepare


@pytest.fixture
def folder(tmp_path):
  for name in ('cat', 'dog'):
    (tmp_path / 'animals' / name).mkdir(parents=True)
    for number in range(200):
      (tmp_path / 'animals' / name / f'{number}.png').touch()
  (tmp_path / 'animals' / 'cat' / 'notes.txt').touch()
  return tmp_path


def _arguments(folder, *others):
  return [
    'folder',
    f'--source_dir={folder / "animals"}',
    f'--output_dir={folder / "out"}',
    *others,
  ]


@pytest.mark.parametrize('fraction', [0.1, 0.3, 0.6])
def test_the_fraction_of_a_folder_is_held_out(folder, fraction):
  arguments = _arguments(folder, f'--eval_fraction={fraction}')
  source = prepare._create_source(prepare.create_parser().parse_args(arguments))
  held_out = len(source.splits['validation'])
  assert held_out + len(source.splits['train']) == 400
  assert abs(held_out / 400 - fraction) < 5 * (0.25 / 400) ** 0.5
  assert abs(held_out / 400 - fraction) < 0.1


def test_a_dry_run_says_what_is_left_out_and_writes_nothing(folder, capsys):
  assert prepare.main(_arguments(folder, '--dry_run')) == 0
  told = capsys.readouterr().err
  assert 'notes.txt' in told
  assert 'will have' in told
  assert os.listdir(folder) == ['animals']
