"""Folders of images are evaluated by the names of their classes, and whole."""

import cv2
import numpy as np
import pytest

from coatnet_jax.data.sources import DataOptions
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation import data_sets, tasks
from coatnet_jax.evaluation.label_spaces import match_classes
from tests.evaluation.painted_images import paint

NUMBERS = tuple(str(number) for number in range(12))


def write_folder(root, label_of, count=2):
  """Writes pictures of a class in each folder: its label, by its name."""
  for name, label in label_of.items():
    (root / name).mkdir(parents=True)
    for number in range(count):
      path = str(root / name / f'{number}.png')
      cv2.imwrite(path, np.ascontiguousarray(paint(label)[..., ::-1]))


@pytest.fixture
def evaluate(data_options):
  """Returns a function: a folder and a model to figures and what was said."""

  def evaluate(folder, trained, **options):
    said = []
    data = data_options(source='folder', data_dir=str(folder), **options)
    own = DataOptions(**trained.config.data)
    data = data_sets.hold_nothing_out(data, own)
    task = tasks.open_classification(data, trained, said.append)
    result = task.run(trained, batch_size=8, report_undecodable=pytest.fail)
    return task, result, said

  return evaluate


@pytest.fixture
def create_model(create_trained):
  """Returns a function: class names to a model trained on a folder."""

  def create(class_names, own_dir='/nowhere'):
    trained = create_trained(class_names)
    trained.config.data.update(source='folder', data_dir=str(own_dir))
    return trained

  return create


@pytest.mark.parametrize(
  'class_names',
  [
    NUMBERS,
    tuple(sorted(NUMBERS)),  # An earlier run's: '10' before '2'.
    tuple(f'{number:03}' for number in range(12)),
    tuple(reversed(NUMBERS)),
  ],
)
def test_numbered_folders_are_found_by_name(
  tmp_path, create_model, evaluate, class_names
):
  label_of = {str(int(name)): i for i, name in enumerate(class_names)}
  write_folder(tmp_path, label_of)
  _, result, said = evaluate(tmp_path, create_model(class_names))
  assert (result['top1'], result['count']) == (1, 24)
  assert said == []


@pytest.mark.parametrize('names', [NUMBERS, tuple(sorted(NUMBERS))])
def test_numbers_stand_for_the_classes_of_a_model_with_names(names):
  said = []
  words = tuple('abcdefghijkl')
  space = match_classes(names, words, report=said.append)
  expected = [int(name) for name in names]
  np.testing.assert_array_equal(space.positions, expected)
  assert "taken for those of the same number, '0' for 'a'" in said[0]


def test_numbers_that_begin_at_one_are_refused():
  with pytest.raises(UserError, match="'1' is 0 in the data and 1 in the"):
    match_classes(
      tuple(str(i) for i in range(1, 13)), NUMBERS, report=pytest.fail
    )


def test_a_few_numbers_are_some_of_the_classes(
  tmp_path, create_model, evaluate
):
  write_folder(tmp_path, {'9': 9, '10': 10, '2': 2})
  _, result, _ = evaluate(tmp_path, create_model(NUMBERS))
  assert (result['top1'], result['count']) == (1, 6)


def test_a_flat_folder_is_evaluated_whole_and_its_own_in_part(
  tmp_path, create_model, evaluate
):
  write_folder(tmp_path / 'own', {'ape': 0, 'bee': 1}, count=20)
  write_folder(tmp_path / 'new', {'ape': 0, 'bee': 1}, count=20)
  (tmp_path / 'link').symlink_to(tmp_path / 'own')
  trained = create_model(('ape', 'bee'), tmp_path / 'own')
  for name, count, words in (
    ('new', 40, ', all: 40 images'),
    ('own', 4, ', held-out 0.1: 4 images'),
    ('link', 4, ', held-out 0.1: 4 images'),
  ):
    task, result, _ = evaluate(tmp_path / name, trained)
    assert (result['top1'], result['count']) == (1, count)
    assert words in task.data


def test_a_folder_is_whole_for_a_model_of_other_data(tmp_path, data_options):
  write_folder(tmp_path, {'ape': 0, 'bee': 1}, count=10)
  own = data_options(source='tfds', data_dir=str(tmp_path))
  data = data_options(source='folder', data_dir=str(tmp_path))
  assert data_sets.hold_nothing_out(data, own).eval_fraction == 1
  assert data_sets.hold_nothing_out(own, own) == own


def test_a_fold_is_that_of_its_own_folder(tmp_path, evaluate, create_model):
  for name in ('own', 'new'):
    write_folder(tmp_path / name, {'ape': 0, 'bee': 1}, count=10)
  trained = create_model(('ape', 'bee'), tmp_path / 'own')
  folds = {'num_folds': 5, 'fold': 2, 'group_pattern': r'\d'}
  for name, count in (('own', 4), ('new', 20)):
    _, result, _ = evaluate(tmp_path / name, trained, **folds)
    assert result['count'] == count


@pytest.mark.parametrize('name', ['own', 'link'])
def test_what_was_trained_on_is_said(tmp_path, evaluate, create_model, name):
  write_folder(tmp_path / 'own', {'ape': 0, 'bee': 1}, count=20)
  (tmp_path / 'link').symlink_to(tmp_path / 'own')
  trained = create_model(('ape', 'bee'), tmp_path / 'own')
  assert evaluate(tmp_path / name, trained)[0].rules == ()
  for options, words in (
    ({'eval_fraction': 0.5}, 'of these 20 images were trained on'),
    ({'num_folds': 5, 'fold': 1}, 'of these 8 images were trained on'),
    ({'eval_fraction': 1.0}, '36 of these 40 images were trained on'),
  ):
    (rule,) = evaluate(tmp_path / name, trained, **options)[0].rules
    assert words in rule
  trained.config.data.update(num_folds=50)  # It had more images then.
  assert not evaluate(tmp_path / name, trained, eval_fraction=1.0)[0].rules


def test_a_list_is_evaluated(tmp_path, evaluate, create_model):
  write_folder(tmp_path, {'one': 0, 'other': 1}, count=4)
  trained = create_model(('ape', 'bee'))
  lines = [
    f'{path.relative_to(tmp_path)},{name},{split}'
    for split, numbers in (('train', '12'), ('validation', '03'))
    for folder, name in (('one', 'ape'), ('other', 'bee'))
    for path in sorted((tmp_path / folder).glob(f'[{numbers}].png'))
  ]
  path = tmp_path / 'labels.csv'
  path.write_text('\n'.join(['file,class,part', *lines]))
  assert evaluate(path, trained)[1]['count'] == 8
  path.write_text('\n'.join(['file,class,split', *lines]))
  result = evaluate(path, trained)[1]
  assert (result['top1'], result['count']) == (1, 4)


@pytest.mark.parametrize('name', ['train', 'test', 'val'])
def test_a_class_called_as_a_split_is_evaluated_with_the_others(
  tmp_path, create_model, evaluate, name
):
  names = ('bus', 'car', name)
  write_folder(tmp_path, {folder: i for i, folder in enumerate(names)})
  _, result, _ = evaluate(tmp_path, create_model(names))
  assert (result['top1'], result['count']) == (1, 6)


def test_a_split_beside_no_other_is_evaluated(tmp_path, create_model, evaluate):
  write_folder(tmp_path / 'test', {'ape': 0, 'bee': 1}, count=3)
  task, result, _ = evaluate(
    tmp_path, create_model(('ape', 'bee')), eval_split='test'
  )
  assert (result['top1'], result['count']) == (1, 6)
  assert 'test: 6 images' in task.data


DAMAGED = (b'', b'<!DOCTYPE html>404', b'\x89PNG\r\n\x1a\ncut off')


@pytest.fixture(params=DAMAGED, ids=['empty', 'html', 'truncated'])
def damaged_data(tmp_path, data_options, request):
  """Sixty pictures of three classes, of which one to train on is damaged."""
  label_of = {'ape': 0, 'bee': 1, 'cow': 2}
  write_folder(tmp_path / 'train', label_of, count=16)
  write_folder(tmp_path / 'validation', label_of, count=4)
  (tmp_path / 'train' / 'bee' / '5.png').write_bytes(request.param)
  return data_options(source='folder', data_dir=str(tmp_path))


def test_few_shot_replaces_a_damaged_image(damaged_data, create_model):
  trained = create_model(('ape', 'bee', 'cow'))
  task = tasks.open_few_shot(damaged_data, trained, (2, 15), range(2))
  named = []
  result = task.run(trained, batch_size=16, report_undecodable=named.append)
  # Fifteen of fifteen whole bees: the damaged one was chosen, and replaced.
  assert len(named) > 0
  assert all('bee/5.png: ' in name for name in named)
  assert result['count'] == 12
  assert [row['shots'] for row in result['shots']] == [2, 15]
  with pytest.raises(UserError, match="class 'bee' has 15 images"):
    tasks.open_few_shot(damaged_data, trained, (16,), (0,)).run(
      trained, batch_size=16, report_undecodable=named.append
    )


def test_the_linear_probe_leaves_a_damaged_image_out(
  damaged_data, create_model
):
  trained = create_model(('ape', 'bee', 'cow'))
  task = tasks.open_linear_probe(damaged_data, trained)
  named = []
  result = task.run(trained, batch_size=16, report_undecodable=named.append)
  assert result['train_count'] == 47
  assert result['count'] == 12
  assert len(named) == 1
  assert 'bee/5.png: ' in named[0]
