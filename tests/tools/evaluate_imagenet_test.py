"""A model of ImageNet's classes, on all of its test sets, in one call."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

import train
from coatnet_jax.evaluation.corruptions import ALEXNET_ERRORS
from configs import quickstart
from tests.evaluation.painted_images import store, store_corruptions
from tools import evaluate

NAMES = tuple(
  tfds.core.tfds_path('datasets/imagenet2012/labels.txt').read_text().split()
)
SETS = (
  'imagenet2012',
  'imagenet2012_real',
  'imagenet_a',
  'imagenet_r',
  'imagenet2012_corrupted',
)


def _examples(labels, **features):
  rng = np.random.default_rng(0)
  return [
    {
      'image': rng.integers(0, 256, (40, 36, 3), np.uint8),
      'label': NAMES[label],
      'file_name': f'{label}_{i}.JPEG',
      **features,
    }
    for i, label in enumerate(labels)
  ]


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  data_dir = tmp_path_factory.mktemp('imagenet')
  store(data_dir, 'imagenet2012', 'validation', _examples(range(64)))
  real = [
    {
      'image': one['image'],
      'original_label': one['label'],
      'real_label': list(range(i, 2 * i)),
      'file_name': one['file_name'],
    }
    for i, one in enumerate(_examples(range(6)))
  ]
  store(data_dir, 'imagenet2012_real', 'validation', real)
  store(data_dir, 'imagenet_a', 'test', _examples(range(0, 1000, 5)))
  store(data_dir, 'imagenet_r', 'test', _examples(range(300, 500)))
  store_corruptions(data_dir, NAMES)
  return data_dir


@pytest.fixture(scope='module')
def workdir(data_dir, tmp_path_factory):
  config = quickstart.get_config()
  config.logging.report = False
  config.data.name = 'imagenet2012'
  config.data.data_dir = str(data_dir)
  config.data.train_split = config.data.eval_split = 'validation'
  config.schedule.warmup_epochs = 0.0
  config.training.num_steps = 2
  config.training.global_batch_size = 32
  config.evaluation.every_steps = 2
  config.evaluation.global_batch_size = 32
  workdir = tmp_path_factory.mktemp('runs') / 'run'
  train.train_and_evaluate(config, str(workdir))
  return workdir


@pytest.mark.slow
@pytest.mark.rotating
def test_all_test_sets_of_imagenet_in_one_call(workdir, data_dir, tmp_path):
  status = evaluate.main(
    [
      f'--checkpoint={workdir}',
      f'--data.name={",".join(SETS)}',
      f'--data.data_dir={data_dir}',
      f'--results={tmp_path}/out',
    ]
  )
  assert status == 0
  record = json.loads((tmp_path / 'out.json').read_text())
  plain, real, a, r, corrupted = record['evaluations']
  summary = json.loads((workdir / 'summary.json').read_text())['final']
  assert plain['count'] == 64
  assert plain['top1'] == summary['top1']
  assert plain['loss'] == pytest.approx(summary['loss'], rel=1e-5)
  # Of six images the first has no label: range(0, 0).
  assert (real['count'], real['without_labels']) == (5, 1)
  assert 'ReaL' in real['rules'][0]
  for one in (a, r):
    assert one['count'] == 200
    assert one['split'] == 'test'
    assert '200 classes' in one['rules'][0]
    # A guess among 200 costs log(200) = 5.3; among 1,000 6.9.
    assert one['loss'] < 6.2
  assert plain['loss'] > 6.2
  # Nothing was learnt.
  assert corrupted['kind'] == 'corruptions'
  assert corrupted['count'] == 75 * 5
  assert corrupted['corruptions'].keys() == ALEXNET_ERRORS.keys()
  assert corrupted['mean_corruption_error'] > 1
  page = (tmp_path / 'out.md').read_text()
  for name in SETS:
    assert f'| {name}' in page
