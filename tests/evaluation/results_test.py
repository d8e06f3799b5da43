import dataclasses
import json

import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.evaluation import results
from configs import base

_CLASSIFICATION = {
  'kind': 'classification',
  'data': 'imagenet_a/0.1.0, test: 200 images, 1,000 classes',
  'image_size': (8, 8),
  'changes': ['resized 2 tables'],
  'rules': ['only some compete'],
  'preprocessing': {'eval_resize': 'cover'},
  'top1': 0.5,
  'top5': 0.75,
  'loss': float('nan'),
  'calibration_error': 0.125,
  'count': 200,
  'undecodable': 1,
  'without_labels': 3,
  'most_confused': [
    {'true': 'a|b', 'predicted': 'c', 'count': 3, 'share': 0.25}
  ],
  'per_class': [{'class': 'a|b', 'count': 12, 'top1': 0.5}],
}
_PLAIN = {
  'image_size': (8, 8),
  'changes': [],
  'rules': [],
  'preprocessing': {},
}
_CORRUPTIONS = {
  **_PLAIN,
  'kind': 'corruptions',
  'data': 'imagenet2012_corrupted',
  'mean_corruption_error': 0.7,
  'count': 75,
  'corruptions': {
    'fog': {
      'corruption_error': 0.6,
      'top1': 0.4,
      'top1_by_severity': [0.5, 0.3],
    }
  },
}
_FEW_SHOT = {
  **_PLAIN,
  'kind': 'few_shot',
  'data': 'cifar10',
  'count': 100,
  'seeds': [0, 1, 2],
  'shots': [{'shots': 5, 'top1': 0.25, 'top1_std': 0.01, 'top1_by_seed': []}],
}


def test_a_run_says_exactly_what_it_is(trained):
  run = results.describe_trained_model(trained)
  assert run['model'] == 'reads_colour'
  assert run['step'] == 7
  assert run['checkpoint'] == '/nowhere/checkpoints/7'
  assert run['classes'] == 1000
  assert len(run['config_hash']) == 12
  assert run['date'].endswith('+00:00')
  assert run['code']['jax']
  assert len(run['code']['the code (hash of its files)']) == 12
  assert run['devices'] == '1 x cpu'


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    ({'data.source': 'folder', 'data.data_dir': '/d/cats'}, 'folder /d/cats t'),
    ({'data.source': 'idx', 'data.data_dir': '/mnist'}, 'idx /mnist t'),
    ({'data.source': 'synthetic'}, 'synthetic, 1,024 random images'),
    ({'data.data_dir': '/data'}, 'tfds imagenet2012 t'),
    ({'data.name': '', 'data.data_dir': '/d/set/1.0.0'}, 'tfds /d/set/1.0.0 t'),
    (
      {'data.name': 'cifar100', 'init_from': '/runs/c0'},
      'tfds cifar100 t, starting from /runs/c0',
    ),
  ],
)
def test_what_it_was_trained_on_is_true(trained, changes, expected):
  config = base.get_config()
  config.data.train_split = 't'
  config.update_from_flattened_dict(changes)
  of_run = dataclasses.replace(trained, config=config)
  assert results.describe_trained_model(of_run)['trained_on'] == expected


def test_imported_weights_do_not_say_what_they_were_trained_on(trained):
  imported = dataclasses.replace(trained, step=0, config=base.get_config())
  said = results.describe_trained_model(imported)['trained_on']
  assert said == 'not known: imported weights'


def test_both_files_say_the_same(tmp_path, trained):
  base = results.check_results_path(str(tmp_path / 'made' / 'v1.2'))
  paths = results.write_results(
    base,
    results.describe_trained_model(trained),
    [_CLASSIFICATION, _CORRUPTIONS, _FEW_SHOT],
  )
  assert [path.name for path in paths] == ['v1.2.json', 'v1.2.md']
  assert sorted(p.name for p in base.parent.iterdir()) == [
    'v1.2.json',
    'v1.2.md',
  ]
  record = json.loads(paths[0].read_text())
  assert record['run']['step'] == 7
  first, second, third = record['evaluations']
  assert first == {**_CLASSIFICATION, 'loss': None, 'image_size': [8, 8]}
  assert second['corruptions'] == _CORRUPTIONS['corruptions']
  assert third['shots'] == _FEW_SHOT['shots']
  page = paths[1].read_text()
  for line in (
    '# reads_colour at step 7',
    f'| config_hash | {record["run"]["config_hash"]} |',
    '| classification | imagenet_a/0.1.0, test: 200 images, 1,000 classes |'
    ' 8x8 | 50.00% | 75.00% | nan | 0.1250 |  | 200 | 1 |',
    '- weights: resized 2 tables',
    '- only some compete',
    '- 3 images have no label and do not count',
    '| a\\|b | c | 3 | 25.0% |',
    '| a\\|b | 50.00% | 12 |',
    '| fog | 60.00% | 40.00% | 50.00%, 30.00% |',
    '| 5 | 25.00% | 1.00% |',
  ):
    assert line in page
  # Tables of as many cells in every line.
  for block in page.split('\n\n'):
    cells = {
      line.replace('\\|', '').count('|')
      for line in block.splitlines()
      if line.startswith('|')
    }
    assert len(cells) <= 1


@pytest.mark.parametrize('name', ['best', 'best.json', 'best.md'])
def test_a_suffix_may_be_given(tmp_path, name):
  assert results.check_results_path(str(tmp_path / name)).name == 'best'


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match=r'file/best cannot be written'):
    results.check_results_path(str(tmp_path / 'file' / 'best'))
