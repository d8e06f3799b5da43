import numpy as np
import pytest

from coatnet_jax.data.cache import CachedSource, cache_if_small
from coatnet_jax.data.decoding import CorruptImageError, decode_example
from coatnet_jax.data.folder import FolderSource
from coatnet_jax.data.folder_listing import list_classes
from coatnet_jax.data.image_source import format_count
from coatnet_jax.data.sources import SyntheticSource, create_source
from coatnet_jax.errors import UserError
from configs import base


@pytest.fixture
def synthetic(data_options):
  def create(split='train', **changes):
    settings = {
      'source': 'synthetic',
      'synthetic_examples': 50,
      'synthetic_classes': 7,
      'synthetic_image_size': (16, 24),
      **changes,
    }
    return create_source(data_options(**settings), split)

  return create


@pytest.fixture
def folder(tmp_path, picture, encode):
  """Forty PNG files of 10x10, of which number 7 is truncated."""
  (tmp_path / 'ape').mkdir()
  for i in range(40):
    data = encode('.png', picture(10, 10, seed=i))
    data = data[:-20] if i == 7 else data
    (tmp_path / 'ape' / f'{i:02}.png').write_bytes(data)
  return FolderSource(list_classes(tmp_path), 'all')


class CountingSource(FolderSource):
  reads = 0

  def __getitem__(self, index):
    type(self).reads += 1
    return super().__getitem__(index)


def test_synthetic_images_are_noise_and_say_so(synthetic):
  source = synthetic()
  assert len(source) == 50
  assert source.num_classes == 7
  assert source.description == (
    'synthetic, train: 50 random images of noise, 7 classes; the results mean '
    'nothing'
  )
  images = np.stack([source[index]['image'] for index in range(50)])
  assert images.shape == (50, 16, 24, 3)
  assert images.dtype == np.uint8
  assert abs(images.mean() - 127.5) < 2
  assert len({image.tobytes() for image in images}) == 50
  assert {source[index]['label'] for index in range(50)} == set(range(7))


def test_synthetic_images_are_the_same_every_time(synthetic):
  first, second = synthetic(), synthetic(cache_mebibytes=0)
  assert isinstance(first, CachedSource)
  assert isinstance(second, SyntheticSource)
  for index in (0, 49):
    assert first[index]['label'] == second[index]['label']
    np.testing.assert_array_equal(first[index]['image'], second[index]['image'])
  evaluation = synthetic('eval')
  assert not np.array_equal(first[0]['image'], evaluation[0]['image'])


def test_small_source_is_decoded_once(folder):
  cached = cache_if_small(folder, max_mebibytes=1)
  assert isinstance(cached, CachedSource)
  assert cached.in_memory
  assert len(cached) == 40
  assert cached.class_names == folder.class_names
  assert cached.description == folder.description
  assert cached.describe(3) == folder.describe(3)
  for index in set(range(40)) - {7}:
    assert isinstance(cached[index]['image'], np.ndarray)
    np.testing.assert_array_equal(
      cached[index]['image'], decode_example(folder, index)[0]
    )
  with pytest.raises(CorruptImageError):
    decode_example(cached, 7)


def test_cache_limit_is_the_decoded_size(folder):
  # Forty times 300 bytes, but for the truncated file, kept as it is.
  assert cache_if_small(folder, 13_000 / 2**20) is not folder
  assert cache_if_small(folder, 11_000 / 2**20) is folder
  assert cache_if_small(folder, 0) is folder


def test_one_large_image_counts(tmp_path, folder, picture, encode):
  # Number 1 is not among those that the size is estimated from.
  large = encode('.png', picture(100, 100))
  (tmp_path / 'ape' / '01.png').write_bytes(large)
  assert cache_if_small(folder, 20_000 / 2**20) is folder
  assert cache_if_small(folder, 50_000 / 2**20) is not folder


def test_large_source_is_not_read_to_find_out(tmp_path, folder):
  source = CountingSource(list_classes(tmp_path), 'all')
  CountingSource.reads = 0
  assert cache_if_small(source, 5000 / 2**20) is source
  assert CountingSource.reads <= 20


def test_source_in_memory_is_not_copied(folder):
  cached = cache_if_small(folder, max_mebibytes=1)
  assert cache_if_small(cached, max_mebibytes=1) is cached


def test_base_config_is_accepted(data_options):
  assert data_options().source == base.get_config().data.source


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('source', 'webdataset', "'webdataset'.* tfds, folder, idx, synthetic"),
    ('eval_fraction', 0.0, 'above 0'),
    ('eval_fraction', 1.01, 'at most 1: .* 1 to evaluate on all'),
    ('synthetic_examples', 0, 'at least 1'),
    ('synthetic_classes', 0, 'at least 1'),
    ('synthetic_image_size', (0, 3), 'height, width'),
    ('synthetic_image_size', (3,), 'height, width'),
    ('prefetch_batches', 0, 'at least 1'),
    ('num_workers', -1, 'at least 0'),
    ('num_threads', -1, 'at least 0'),
    ('cache_mebibytes', -1, 'at least 0'),
  ],
)
def test_impossible_options_are_refused(data_options, key, value, message):
  with pytest.raises(UserError, match=f'config.data.{key} is .*{message}'):
    data_options(**{key: value})


def test_unknown_key_is_a_type_error(data_options):
  with pytest.raises(TypeError, match='num_worker'):
    data_options(num_worker=3)


def test_split_is_train_or_eval(data_options):
  with pytest.raises(ValueError, match="split is 'validation'"):
    create_source(data_options(source='synthetic'), 'validation')


def test_count_of():
  assert format_count(1, 'class') == '1 class'
  assert format_count(1000, 'class') == '1,000 classes'
  assert format_count(0, 'image') == '0 images'
