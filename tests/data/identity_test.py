"""What says whether a run's data are those it was begun with."""

import gzip
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from coatnet_jax.data import image_source
from coatnet_jax.data.identity import compute_fingerprint
from coatnet_jax.data.sources import DataOptions, create_source
from configs import quickstart
from tests.data.preparation.archive_examples import jpeg, write_folder


@pytest.fixture
def folder(tmp_path):
  return write_folder(tmp_path / 'pictures', train=12, validation=4)


def _fingerprint(directory, split='train', **changes):
  config = quickstart.get_config().data
  config.update(source='folder', data_dir=str(directory), name='')
  config.update(train_split='train', eval_split='validation')
  config.update(changes)
  return compute_fingerprint(create_source(DataOptions(**config), split))


def _rename(folder):
  (folder / 'a' / '0.jpg').rename(folder / 'a' / '1000.jpg')


def _swap_classes(folder):
  (folder / 'a').rename(folder / 'x')
  (folder / 'b').rename(folder / 'a')
  (folder / 'x').rename(folder / 'b')


def _move_to_another_class(folder):
  (folder / 'a' / '0.jpg').rename(folder / 'b' / '0.jpg')


def _add(folder):
  (folder / 'a' / '99.jpg').write_bytes(jpeg(99, 32))


def _remove(folder):
  (folder / 'a' / '0.jpg').unlink()


def _lengthen(folder):
  with (folder / 'a' / '0.jpg').open('ab') as file:
    file.write(b'\0')


@pytest.mark.parametrize(
  'change',
  [_rename, _swap_classes, _move_to_another_class, _add, _remove, _lengthen],
)
@pytest.mark.parametrize('cache_mebibytes', [0, 256])
def test_every_change_of_a_folder_is_seen(folder, change, cache_mebibytes):
  before = _fingerprint(folder, cache_mebibytes=cache_mebibytes)
  change(folder / 'train')
  after = _fingerprint(folder, cache_mebibytes=cache_mebibytes)
  assert after != before
  assert len(before) == 16


def test_where_a_folder_lies_does_not_matter(folder, tmp_path):
  before = _fingerprint(folder), _fingerprint(folder, 'eval')
  assert before[0] != before[1]
  moved = shutil.move(folder, tmp_path / 'elsewhere')
  assert (_fingerprint(moved), _fingerprint(moved, 'eval')) == before


def test_a_file_whose_size_a_bucket_does_not_tell_is_no_error(monkeypatch):
  def fail(path):
    raise KeyError(f'a kind of its own: {path}')

  monkeypatch.setattr(image_source.epath, 'Path', fail)
  assert list(image_source.find_sizes(['gs://bucket/a.jpg'] * 2)) == [-1, -1]


def test_a_prepared_data_set_is_known_by_version_and_shards(tmp_path):
  features = tfds.features.FeaturesDict(
    {
      'image': tfds.features.Image(shape=(None, None, 3)),
      'label': tfds.features.ClassLabel(names=['a', 'b']),
    }
  )

  def write(name, version, number, *others):
    examples = [
      (k, {'image': np.full((8, 8, 3), k, np.uint8), 'label': k % 2})
      for k in range(number)
    ]
    builder = tfds.dataset_builders.store_as_tfds_dataset(
      name='tiny',
      version=version,
      data_dir=tmp_path / name,
      split_datasets=dict.fromkeys(('train', *others), examples),
      features=features,
      file_format='array_record',
    )
    return str(builder.data_path)

  def fingerprint(path, split='train'):
    return _fingerprint(path, source='tfds', train_split=split)

  one = write('one', '1.0.0', 6)
  same = shutil.copytree(one, tmp_path / 'copy' / 'tiny' / '1.0.0')
  assert fingerprint(same) == fingerprint(one)
  more = write('more', '1.0.0', 6, 'test')
  for split in ('train', 'train[:5]'):
    assert fingerprint(more, split) == fingerprint(one, split)
  others = [
    fingerprint(one),
    fingerprint(write('two', '2.0.0', 6)),
    fingerprint(write('three', '1.0.0', 5)),
    fingerprint(one, 'train[:5]'),
    fingerprint(one, 'train[1:]'),
    fingerprint(more, 'train+test'),
  ]
  (same / 'checksums.sha256').write_text(
    ''.join(f'0123  {path.name}\n' for path in same.glob('*array_record*'))
  )
  others.append(fingerprint(same))
  assert len(set(others)) == 7


def test_the_pixels_of_idx_files_count(tmp_path):
  fingerprints = set()
  for value in (1, 2):
    for prefix in ('train', 't10k'):
      images = bytes(
        [0, 0, 8, 3, *(n for d in (4, 8, 8) for n in (0, 0, 0, d))]
      )
      labels = bytes([0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 2, 9])
      for kind, content in (
        ('images-idx3', images + bytes([value]) * 256),
        ('labels-idx1', labels),
      ):
        path = tmp_path / f'{prefix}-{kind}-ubyte.gz'
        path.write_bytes(gzip.compress(content))
    fingerprints.add(
      _fingerprint(
        tmp_path, source='idx', train_split='train', eval_split='test'
      )
    )
  assert len(fingerprints) == 2
