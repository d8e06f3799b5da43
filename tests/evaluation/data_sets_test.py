import dataclasses

import cv2
import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.evaluation import corruptions, data_sets, tasks
from coatnet_jax.evaluation.classification import evaluate_classification
from tests.evaluation.painted_images import paint, store, store_corruptions


def _open(data, trained):
  said = []
  evaluation = data_sets.open_evaluation_data(
    data,
    class_names=trained.class_names,
    preprocessing=trained.preprocessing,
    report=said.append,
  )
  assert said == []
  return evaluation


def _evaluate(evaluation, trained):
  return evaluate_classification(
    trained, evaluation, batch_size=64, report_undecodable=print
  )


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('imagenet_a', ('imagenet_a', '')),
    ('imagenet_r:0.2.0', ('imagenet_r', '')),
    ('imagenet_r/0.2.0', ('imagenet_r', '')),
    ('imagenet_v2/top-images:3.0.0', ('imagenet_v2', 'top-images')),
    ('imagenet_v2/top-images/3.0.0', ('imagenet_v2', 'top-images')),
  ],
)
def test_a_data_set_is_known_by_its_name(data_options, name, expected):
  assert data_sets.identify(data_options(name=name)) == expected


def test_what_is_not_of_tfds_is_unknown(data_options):
  data = data_options(source='folder', name='imagenet_a', data_dir='/none')
  assert data_sets.identify(data) == ('', '')
  data = data_options(name='', data_dir='/none')
  assert data_sets.identify(data) == ('', '')


def test_the_usual_split_is_taken(data_options):
  data = data_options(name='imagenet_sketch', eval_split='validation')
  assert data_sets.add_usual_split(data).eval_split == 'test'
  data = data_options(name='cifar10', eval_split='mine')
  assert data_sets.add_usual_split(data) == data


# Label, labels of ReaL and what is painted: which class is predicted.
REAL = [
  (1, [1], 1),
  (2, [5, 3], 3),  # Right by ReaL only.
  (4, [5], 4),  # Right by the original label only.
  (7, [], 7),  # Counts for nothing.
  (8, [6], 9),
]


@pytest.fixture(scope='module')
def real_dir(tmp_path_factory, imagenet_names):
  data_dir = tmp_path_factory.mktemp('real')
  store(
    data_dir,
    data_sets.REAL,
    'validation',
    [
      {
        'image': paint(painted),
        'original_label': label,
        'real_label': labels,
        'file_name': f'ILSVRC2012_val_{i:08}.JPEG',
      }
      for i, (label, labels, painted) in enumerate(REAL)
    ],
  )
  return data_dir


def test_real_counts_any_label_and_no_image_without(
  real_dir, trained, data_options
):
  data = data_options(
    name=data_sets.REAL, data_dir=str(real_dir), eval_split='validation'
  )
  evaluation = _open(data, trained)
  result = _evaluate(evaluation, trained)
  assert result['count'] == 4
  assert result['without_labels'] == 1
  assert result['top1'] == 2 / 4
  # Next to 4 is 5, to 9 not far is 6 (9, 10, 8, 11, 7): only the first.
  assert result['top5'] == 3 / 4
  assert [pair['count'] for pair in result['most_confused']] == [1, 1]
  assert 'ReaL' in evaluation.rules[0]
  assert '(ILSVRC2012_val_00000001.JPEG)' in evaluation.source.describe(1)


def test_a_prepared_directory_is_known_by_what_it_says(
  real_dir, trained, data_options
):
  (info,) = real_dir.rglob('dataset_info.json')
  data = data_options(
    name='', data_dir=str(info.parent), eval_split='validation[:2]'
  )
  assert data_sets.identify(data) == (data_sets.REAL, '')
  task = tasks.open_classification(data, trained, print)
  assert task.kind == 'classification'
  assert task.split == 'validation[:2]'
  result = task.run(trained, batch_size=8, report_undecodable=print)
  assert (result['top1'], result['count']) == (1, 2)


@pytest.fixture(scope='module')
def subset_dir(tmp_path_factory, imagenet_names):
  """imagenet_a, of 200 classes: 0, 5, 10, ...

  Every image is painted as the class after its own, which no image has: among
  the 200 the nearest is its own.
  """
  data_dir = tmp_path_factory.mktemp('imagenet_a')
  store(
    data_dir,
    'imagenet_a',
    'test',
    [
      {
        'image': paint(label + 1),
        'label': imagenet_names[label],
        'file_name': f'{label}.jpg',
      }
      for label in range(0, 1000, 5)
    ],
  )
  return data_dir


def test_only_the_200_classes_of_imagenet_a_compete(
  subset_dir, trained, data_options
):
  data = data_options(
    name='imagenet_a', data_dir=str(subset_dir), eval_split='test'
  )
  evaluation = _open(data, trained)
  assert evaluation.space.candidates == tuple(range(0, 1000, 5))
  result = _evaluate(evaluation, trained)
  assert result['top1'] == 1
  assert result['count'] == 200
  assert '200 classes' in evaluation.rules[0]
  everything = dataclasses.replace(
    evaluation,
    space=data_sets.match_classes(
      trained.class_names, trained.class_names, report=print
    ),
  )
  assert _evaluate(everything, trained)['top1'] == 0


def test_a_part_of_the_split_has_the_rule_of_the_whole(
  subset_dir, trained, data_options
):
  data = data_options(
    name='imagenet_a', data_dir=str(subset_dir), eval_split='test[:7]'
  )
  evaluation = _open(data, trained)
  assert len(evaluation.space.candidates) == 200
  assert _evaluate(evaluation, trained)['count'] == 7


def test_a_set_that_lost_a_class_is_refused(subset_dir, data_options):
  data = data_options(
    name='imagenet_a', data_dir=str(subset_dir), eval_split='test'
  )
  with pytest.raises(UserError, match=r'of 200 classes, not of the 201 that'):
    data_sets.find_occurring_classes(data, 201)


def test_a_folder_of_some_classes_is_found_by_name(
  tmp_path, trained, data_options, imagenet_names
):
  for label in (3, 998):
    directory = tmp_path / 'imagenet-r' / imagenet_names[label]
    directory.mkdir(parents=True)
    cv2.imwrite(str(directory / 'one.png'), paint(label)[..., ::-1])
  # All of a folder that has no training images, as docs/evaluation.md says.
  data = data_options(
    source='folder',
    data_dir=str(tmp_path),
    train_split='imagenet-r',
    eval_split='imagenet-r',
  )
  evaluation = _open(data, trained)
  assert evaluation.space.candidates == (3, 998)
  result = _evaluate(evaluation, trained)
  assert result['top1'] == 1
  assert [one['class'] for one in result['per_class']] == [
    imagenet_names[3],
    imagenet_names[998],
  ]


@pytest.fixture(scope='module')
def corrupted_dir(tmp_path_factory, imagenet_names):
  data_dir = tmp_path_factory.mktemp('imagenet_c')
  store_corruptions(data_dir, imagenet_names)
  return data_dir


def test_alexnets_errors_are_those_that_others_give_one_by_one():
  # Mean over the five severities of figures with five digits.
  each = {
    'gaussian_noise': (0.69528, 0.82542, 0.93554, 0.98138, 0.99452),
    'brightness': (0.4514, 0.48502, 0.54048, 0.62166, 0.7244),
    'jpeg_compression': (0.51002, 0.54718, 0.57294, 0.65458, 0.74778),
  }
  for name, errors in each.items():
    assert corruptions.ALEXNET_ERRORS[name] == pytest.approx(np.mean(errors))
  found = list(corruptions.ALEXNET_ERRORS.values())
  assert len(set(found)) == 15
  # The sum of all, so that none is that of another.
  assert np.mean(found) == pytest.approx(0.788993, abs=1e-6)


def test_imagenet_c_is_compared_with_alexnet(
  corrupted_dir, trained, data_options
):
  data = data_options(
    name=data_sets.CORRUPTED,
    data_dir=str(corrupted_dir),
    eval_split='validation',
  )
  lines = []
  task = tasks.open_classification(data, trained, lines.append)
  assert task.kind == 'corruptions'
  assert task.data == (
    'imagenet2012_corrupted, 75 parts as'
    ' imagenet2012_corrupted/gaussian_noise_1/3.1.0, validation: 5 images,'
    ' 1,000 classes'
  )
  assert task.preprocessing.eval_crop_fraction == 1
  result = task.run(trained, batch_size=8, report_undecodable=print)
  # 1 to 5 of 5 wrong: 0.6 in the mean, of every corruption.
  assert result['top1'] == pytest.approx(0.4)
  fog = result['corruptions']['fog']
  assert fog['top1_by_severity'] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0])
  assert fog['corruption_error'] == pytest.approx(0.6 / 0.819324)
  assert result['mean_corruption_error'] == pytest.approx(
    np.mean([0.6 / error for error in corruptions.ALEXNET_ERRORS.values()])
  )
  assert result['count'] == 375
  assert lines[0] == 'gaussian_noise 1: top-1 80.00%'
  assert len(lines) == 75


def test_parts_of_imagenet_c_that_are_missing_are_named(
  corrupted_dir, trained, data_options, tmp_path
):
  for part in (corrupted_dir / data_sets.CORRUPTED).iterdir():
    if part.name not in ('fog_2', 'snow_5'):
      link = tmp_path / data_sets.CORRUPTED / part.name
      link.parent.mkdir(exist_ok=True)
      link.symlink_to(part)
  data = data_options(
    name=data_sets.CORRUPTED, data_dir=str(tmp_path), eval_split='validation'
  )
  with pytest.raises(UserError, match=r'2 of the 75 parts .*: snow_5, fog_2'):
    corruptions.open_corruptions(
      data,
      class_names=trained.class_names,
      preprocessing=trained.preprocessing,
      report=print,
    )
