import json
import os

import numpy as np
import pytest

from coatnet_jax.data.decoding import decode_image
from coatnet_jax.data.idx import IdxSource
from coatnet_jax.data.preparation.files import (
  FolderPreparationSource,
  IdxPreparationSource,
)
from coatnet_jax.data.preparation.preparation import (
  PreparationOptions,
  prepare,
)
from coatnet_jax.data.tfds_source import create_tfds_source
from coatnet_jax.errors import UserError
from tests.data.preparation.archive_examples import jpeg, other_format


def write_classes(root, classes=('ant', 'bee'), count=3):
  for i, name in enumerate(classes):
    (root / name).mkdir(parents=True)
    for j in range(count):
      (root / name / f'{j}.jpg').write_bytes(jpeg(10 * i + j))


def prepare_and_open(source, tmp_path, split):
  prepare(source, PreparationOptions(output_dir=tmp_path / 'out'))
  return create_tfds_source(source.name, str(tmp_path / 'out'), split)


def test_a_folder_with_splits(tmp_path):
  write_classes(tmp_path / 'in' / 'train')
  write_classes(tmp_path / 'in' / 'val', count=1)
  (tmp_path / 'in/train/bee/odd.png').write_bytes(other_format('PNG', 'RGBA'))
  source = FolderPreparationSource('insects', tmp_path / 'in')
  train = prepare_and_open(source, tmp_path, 'train')
  assert train.class_names == ('ant', 'bee')
  found = {train.describe(i).split('(')[1][:-1]: train[i] for i in range(7)}
  for name, example in found.items():
    assert example['image'] == (tmp_path / 'in' / name).read_bytes()
    assert example['label'] == ['ant', 'bee'].index(name.split('/')[1])
  assert len(train) == 7
  validation = create_tfds_source('insects', str(tmp_path / 'out'), 'val')
  assert len(validation) == 2


def test_a_folder_without_splits_is_divided(tmp_path):
  write_classes(tmp_path / 'in', count=40)
  source = FolderPreparationSource(
    'insects', tmp_path / 'in', eval_fraction=0.25
  )
  sizes = {split: len(part) for split, part in source.splits.items()}
  assert sum(sizes.values()) == 80
  assert 10 < sizes['validation'] < 30


def test_names_that_are_not_ascii(tmp_path):
  write_classes(tmp_path / 'in' / 'train', classes=('ä', 'b c'))
  write_classes(tmp_path / 'in' / 'test', classes=('ä', 'b c'))
  (tmp_path / 'in/train/ä/\udcff.jpg').write_bytes(b'broken')
  source = FolderPreparationSource('names', tmp_path / 'in')
  assert len(prepare_and_open(source, tmp_path, 'train')) == 6
  report = (tmp_path / 'out/names/1.0.0/report.txt').read_text()
  assert r'dropped train/ä/\xff.jpg: not an image' in report


def test_classes_that_training_has_not(tmp_path):
  write_classes(tmp_path / 'in' / 'train')
  write_classes(tmp_path / 'in' / 'val', classes=('ant', 'cat'))
  with pytest.raises(UserError, match=r'not classes of .*train: cat'):
    FolderPreparationSource('insects', tmp_path / 'in')


def test_a_class_list_gives_the_labels(tmp_path):
  write_classes(tmp_path / 'in', classes=('10', '9'))
  classes = tmp_path / 'classes.txt'
  classes.write_text('\n'.join(str(i) for i in range(12)))
  source = FolderPreparationSource(
    'v2', tmp_path / 'in', classes=classes, only_split='test'
  )
  found = prepare_and_open(source, tmp_path, 'test')
  assert found.num_classes == 12
  assert sorted(found[i]['label'] for i in range(6)) == [9] * 3 + [10] * 3
  classes.write_text('9')
  with pytest.raises(UserError, match=r'not classes of .*classes.txt: 10'):
    FolderPreparationSource('v2', tmp_path / 'in', classes=classes)


@pytest.mark.parametrize('name', ['training', 'val', 'images'])
def test_a_split_of_another_name_is_no_class(tmp_path, name):
  write_classes(tmp_path / 'in' / name)
  with pytest.raises(UserError, match=f'{name} has no images of its own, only'):
    FolderPreparationSource('insects', tmp_path / 'in')


def test_a_class_called_train_hides_no_other(tmp_path):
  write_classes(tmp_path / 'in', classes=('bus', 'train', '10', '9'))
  source = FolderPreparationSource('things', tmp_path / 'in')
  assert source.class_names == ('10', '9', 'bus', 'train')
  assert sum(len(part) for part in source.splits.values()) == 12
  (tmp_path / 'in/train/0.jpg').rename(tmp_path / 'in/train/0.heic')
  again = FolderPreparationSource('things', tmp_path / 'in', only_split='test')
  assert len(again.splits['test']) == 11
  assert again.notes == (
    'all: left out: 1 to convert to JPEG or PNG (train/0.heic)',
  )


def test_classes_by_number_are_in_their_order(tmp_path):
  write_classes(tmp_path / 'in', classes=('10', '9', '007', '0'))
  source = FolderPreparationSource(
    'numbers', tmp_path / 'in', only_split='test'
  )
  assert source.class_names == ('0', '007', '9', '10')
  examples = source.splits['test']
  for name, label in zip(examples.names, examples.labels):
    assert name.decode().split('/')[0] == source.class_names[label]


def test_a_split_that_tfds_could_not_read(tmp_path):
  write_classes(tmp_path / 'in')
  with pytest.raises(UserError, match="only_split is 'all'"):
    FolderPreparationSource('insects', tmp_path / 'in', only_split='all')


def test_a_folder_that_is_not_there(tmp_path):
  with pytest.raises(UserError, match='There is no folder'):
    FolderPreparationSource('insects', tmp_path / 'none')
  with pytest.raises(UserError, match='There are no images in'):
    FolderPreparationSource('insects', tmp_path)


@pytest.fixture
def idx_dir(tmp_path, write_idx):
  rng = np.random.default_rng(0)
  for prefix, count in (('train', 9), ('t10k', 5)):
    images = rng.integers(0, 256, (count, 8, 6), np.uint8)
    write_idx(tmp_path, images, np.arange(count) % 3, prefix, compress=True)
  return tmp_path


def test_other_idx_files_are_told_apart(idx_dir, write_idx):
  before = IdxPreparationSource('digits', idx_dir)
  for path in idx_dir.glob('t10k*'):
    path.unlink()
  write_idx(idx_dir, np.zeros((5, 8, 6)), np.arange(5) % 3, 't10k')
  after = IdxPreparationSource('digits', idx_dir)
  assert before.content != after.content
  assert before.splits['test'].sizes.sum() == after.splits['test'].sizes.sum()


def test_a_label_that_training_has_not(idx_dir, write_idx):
  for path in idx_dir.glob('t10k*'):
    path.unlink()
  write_idx(idx_dir, np.zeros((2, 8, 6)), np.array([0, 3]), 't10k')
  with pytest.raises(UserError, match=r"label 3 in 'test' and 3 classes"):
    IdxPreparationSource('digits', idx_dir)


def test_idx_files_become_png(idx_dir, tmp_path):
  found = prepare_and_open(
    IdxPreparationSource('digits', idx_dir), tmp_path, 'test'
  )
  features = (tmp_path / 'out/digits/1.0.0/features.json').read_text('utf-8')
  assert (
    json.loads(features)['featuresDict']['features']['image']['image']['shape'][
      'dimensions'
    ][-1]
    == '1'
  )
  original = IdxSource(idx_dir, 'test')
  assert found.class_names == original.class_names
  assert len(found) == len(original)
  for i in range(len(found)):
    number = int(found.describe(i).split('/')[-1][:-1])
    assert found[i]['image'].startswith(b'\x89PNG')
    np.testing.assert_array_equal(
      decode_image(found[i]['image']), original[number]['image']
    )
    assert found[i]['label'] == original[number]['label']


@pytest.mark.parametrize(
  'encode',
  [
    lambda text: b'\xef\xbb\xbf' + text.encode(),
    lambda text: text.replace('\n', '\r\n').encode() + b'\r\n\r\n',
    lambda text: b'\xef\xbb\xbf' + text.replace('\n', '\r\n').encode(),
  ],
  ids=['mark', 'CRLF', 'both'],
)
def test_lists_of_labels_that_were_edited(tmp_path, encode):
  write_classes(tmp_path / 'in', classes=('Löwe', 'ant', 'honey bee'))
  source = FolderPreparationSource(
    'animals', tmp_path / 'in', only_split='test'
  )
  names = prepare_and_open(source, tmp_path, 'test').class_names
  assert names == ('Löwe', 'ant', 'honey bee')
  path = tmp_path / 'out/animals/1.0.0/label.labels.txt'
  path.write_bytes(encode('\n'.join(names)))
  again = create_tfds_source('animals', str(tmp_path / 'out'), 'test')
  assert again.class_names == names
  path.write_bytes('\n'.join(names).encode('latin-1'))
  again = create_tfds_source('animals', str(tmp_path / 'out'), 'test')
  assert again.class_names == (r'L\xf6we', 'ant', 'honey bee')


def test_names_that_are_not_utf8(tmp_path):
  root = os.fsencode(tmp_path / 'in')
  for folder in (b'caf\xe9', b'bar'):
    os.makedirs(root + b'/' + folder)
    for name in (b'\xfc', b'u'):
      with open(root + b'/' + folder + b'/' + name + b'.jpg', 'wb') as file:
        file.write(jpeg(1))
      with open(root + b'/' + folder + b'/' + name + b'.png', 'wb') as file:
        file.write(b'broken')
  source = FolderPreparationSource('bars', tmp_path / 'in', only_split='test')
  found = prepare_and_open(source, tmp_path, 'test')
  assert found.class_names == ('bar', r'caf\xe9')
  described = {found.describe(i).split('(')[1] for i in range(len(found))}
  assert described == {
    *('bar/u.jpg)', r'bar/\xfc.jpg)'),
    *(r'caf\xe9/u.jpg)', r'caf\xe9/\xfc.jpg)'),
  }
  written = (tmp_path / 'out/bars/1.0.0/report.json').read_text('utf-8')
  dropped = json.loads(written)['splits']['test']['dropped']
  assert [r'caf\xe9/\xfc.png', dropped[0][1]] in dropped
  classes = tmp_path / 'classes.txt'
  classes.write_bytes(b'caf\xe9\r\nbar\r\n')
  listed = FolderPreparationSource(
    'bars', tmp_path / 'in', only_split='test', classes=classes
  )
  assert listed.class_names == (r'caf\xe9', 'bar')
