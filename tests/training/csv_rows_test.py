"""Rows of CSV files: a column for each name, and no step twice."""

import csv

import pytest

from coatnet_jax.training import csv_rows


def _read(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def test_training_and_evaluations_are_tables_of_their_own(tmp_path):
  rows = csv_rows.CsvRows(tmp_path)
  rows.write(5, {'train/loss': 0.1 + 0.2, 'speed/images_per_second': 7.0})
  rows.write(10, {'train/loss': 2.0, 'speed/images_per_second': 8.0})
  rows.write(10, {'eval/top1': 0.5})
  assert _read(tmp_path / csv_rows.TRAIN_FILE) == [
    {
      'step': '5',
      'train/loss': '0.30000000000000004',
      'speed/images_per_second': '7.0',
    },
    {'step': '10', 'train/loss': '2.0', 'speed/images_per_second': '8.0'},
  ]
  assert _read(tmp_path / csv_rows.EVAL_FILE) == [
    {'step': '10', 'eval/top1': '0.5'}
  ]


def test_a_name_that_comes_later_is_a_column_behind_the_others(tmp_path):
  csv_rows.CsvRows(tmp_path).write(1, {'a': 1.0})
  # As another process writes on.
  rows = csv_rows.CsvRows(tmp_path)
  rows.write(2, {'b': 2.0, 'a': 3.0})
  rows.write(3, {'b': 4.0})
  assert (tmp_path / csv_rows.TRAIN_FILE).read_text() == (
    'step,a,b\n1,1.0,\n2,3.0,2.0\n3,,4.0\n'
  )


@pytest.mark.parametrize('cut', [0, 1, 4])
def test_rows_of_later_steps_go_and_no_half_row_stays(tmp_path, cut):
  rows = csv_rows.CsvRows(tmp_path)
  for step in (10, 20, 30):
    rows.write(step, {'train/loss': float(step)})
    rows.write(step, {'eval/top1': step / 100})
  path = tmp_path / csv_rows.TRAIN_FILE
  path.write_bytes(path.read_bytes()[: -cut or None])
  csv_rows.remove_rows_after(tmp_path, 20)
  rows = csv_rows.CsvRows(tmp_path)
  rows.write(30, {'train/loss': 3.5})
  assert [row['step'] for row in _read(path)] == ['10', '20', '30']
  assert _read(path)[-1]['train/loss'] == '3.5'
  evaluations = _read(tmp_path / csv_rows.EVAL_FILE)
  assert [row['step'] for row in evaluations] == ['10', '20']


def test_a_row_that_was_cut_is_no_part_of_the_next(tmp_path):
  csv_rows.CsvRows(tmp_path).write(10, {'a': 1.0})
  path = tmp_path / csv_rows.TRAIN_FILE
  with path.open('a') as file:
    file.write('20,2')
  csv_rows.remove_rows_after(tmp_path, 20)
  csv_rows.CsvRows(tmp_path).write(20, {'a': 2.5})
  assert path.read_text() == 'step,a\n10,1.0\n20,2.5\n'


def test_half_a_row_is_no_part_of_the_next_without_a_restart(tmp_path):
  csv_rows.CsvRows(tmp_path).write(10, {'a': 1.0})
  path = tmp_path / csv_rows.TRAIN_FILE
  with path.open('a') as file:
    file.write('15')  # The disk was full.
  csv_rows.CsvRows(tmp_path).write(200, {'a': 0.5})
  assert list(csv_rows.read_numbers(tmp_path)) == [
    ('a', 10, 1.0),
    ('a', 200, 0.5),
  ]


@pytest.mark.parametrize(
  'text', ['date;a\n2026;1\n', '\nstep,a\n50,1\n', 'name,a\n50,1\n']
)
def test_a_file_of_the_users_own_is_left_alone(tmp_path, text):
  path = tmp_path / csv_rows.EVAL_FILE
  path.write_text(text)
  csv_rows.remove_rows_after(tmp_path, 0)
  assert path.read_text() == text


def test_a_damaged_row_hides_no_other(tmp_path):
  (tmp_path / csv_rows.TRAIN_FILE).write_text(
    'step,a,b\n10,1.0,2.0\n\nx,1.0,2.0\n20,?,3.0\n30,4.0\n'
  )
  csv_rows.remove_rows_after(tmp_path, 25)
  assert list(csv_rows.read_numbers(tmp_path)) == [
    ('a', 10, 1.0),
    ('b', 10, 2.0),
    ('b', 20, 3.0),
  ]


def test_without_files_there_is_nothing_to_remove(tmp_path):
  csv_rows.remove_rows_after(tmp_path / 'none', 0)
  assert not (tmp_path / 'none').exists()
