import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from coatnet_jax.data.idx import read_idx
from coatnet_jax.data.sources import create_source
from coatnet_jax.errors import UserError

IMAGES = np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4)
LABELS = np.array([0, 2, 1, 2, 0], np.uint8)


@pytest.fixture
def open_idx(tmp_path, data_options):
  def open_split(split='train', **changes):
    settings = {'source': 'idx', 'data_dir': str(tmp_path), **changes}
    return create_source(data_options(eval_split='test', **settings), split)

  return open_split


@pytest.mark.parametrize('compress', [False, True])
def test_grey_images_become_rgb(tmp_path, write_idx, open_idx, compress):
  write_idx(tmp_path, IMAGES, LABELS, compress=compress)
  write_idx(tmp_path, IMAGES[3:], LABELS[3:], 't10k', compress=compress)
  source = open_idx()
  assert len(source) == 5
  assert source[3]['image'].shape == (3, 4, 3)
  assert source[3]['image'].dtype == np.uint8
  for channel in range(3):
    np.testing.assert_array_equal(source[3]['image'][..., channel], IMAGES[3])
  assert [source[index]['label'] for index in range(5)] == LABELS.tolist()
  assert source.class_names == ('0', '1', '2')
  assert source.in_memory
  assert source.description == f'{tmp_path}, train: 5 images, 3 classes'
  assert source.describe(3).startswith(f'{tmp_path}/train-images-idx3-ubyte')
  assert source.describe(3).endswith(', image 3')
  evaluation = open_idx('eval')
  assert evaluation[0]['label'] == 2
  assert evaluation.num_classes == 3


def test_class_names_may_be_given(tmp_path, write_idx, open_idx):
  write_idx(tmp_path, IMAGES, LABELS)
  (tmp_path / 'class_names.txt').write_text('T-shirt\nboot\nbag', 'utf-8')
  assert open_idx().class_names == ('T-shirt', 'boot', 'bag')


def test_missing_file_is_named(tmp_path, write_idx, open_idx):
  message = f'no train-images-idx3-ubyte or .*gz in {tmp_path}'
  with pytest.raises(UserError, match=message):
    open_idx()
  write_idx(tmp_path, IMAGES, LABELS)
  (tmp_path / 'train-labels-idx1-ubyte').unlink()
  with pytest.raises(UserError, match='no train-labels-idx1-ubyte'):
    open_idx()
  with pytest.raises(UserError, match='data_dir is empty'):
    open_idx(data_dir='')


def test_unknown_split_is_refused(tmp_path, write_idx, open_idx):
  write_idx(tmp_path, IMAGES, LABELS)
  with pytest.raises(
    UserError, match=r"is 'valid'; it must be one of train, test"
  ):
    open_idx(train_split='valid')


@pytest.mark.parametrize('cut', [0, 3, 10, 16, 40, 75])
def test_truncated_file_is_named(tmp_path, write_idx, open_idx, cut):
  write_idx(tmp_path, IMAGES, LABELS)
  path = tmp_path / 'train-images-idx3-ubyte'
  path.write_bytes(path.read_bytes()[:cut])
  with pytest.raises(
    UserError, match=f'{path} (is not an idx|has {cut} bytes)'
  ):
    open_idx()


@pytest.mark.parametrize('cut', [0, 1, 8, 30, -9, -1])
def test_truncated_gzip_file_is_named(tmp_path, write_idx, open_idx, cut):
  write_idx(tmp_path, IMAGES, LABELS, compress=True)
  path = tmp_path / 'train-images-idx3-ubyte.gz'
  path.write_bytes(path.read_bytes()[:cut])
  with pytest.raises(UserError, match=f'{path} (cannot be read|is not an idx)'):
    open_idx()


def test_damaged_gzip_file_is_named(tmp_path, write_idx, open_idx):
  write_idx(tmp_path, IMAGES, LABELS, compress=True)
  path = tmp_path / 'train-images-idx3-ubyte.gz'
  data = bytearray(path.read_bytes())
  data[10] = 0xFF  # The first byte of the compressed stream.
  path.write_bytes(bytes(data))
  with pytest.raises(UserError, match=f'{path} cannot be read'):
    open_idx()


def test_foreign_and_damaged_files_are_named(tmp_path, write_idx, open_idx):
  write_idx(tmp_path, IMAGES, LABELS)
  path = tmp_path / 'train-images-idx3-ubyte'
  data = path.read_bytes()
  path.write_bytes(b'\x89PNG' + data[4:])
  with pytest.raises(UserError, match='is not an idx file of 3 dimensions'):
    open_idx()
  path.write_bytes(data + b'x')
  with pytest.raises(
    UserError, match=r'has 77 or more bytes .*\(5, 3, 4\).* 76;'
  ):
    open_idx()
  path.write_bytes((tmp_path / 'train-labels-idx1-ubyte').read_bytes())
  with pytest.raises(UserError, match='is not an idx file of 3 dimensions'):
    open_idx()


def test_files_of_different_sets_are_refused(tmp_path, write_idx, open_idx):
  write_idx(tmp_path, IMAGES, LABELS[:4])
  with pytest.raises(UserError, match=r'5 images and .* has 4 labels'):
    open_idx()


def test_file_without_images_is_refused(tmp_path, write_idx, open_idx):
  write_idx(tmp_path, IMAGES[:0], LABELS[:0])
  with pytest.raises(UserError, match='truncated or damaged'):
    open_idx()


def test_class_names_are_a_list_in_any_encoding(tmp_path, write_idx, open_idx):
  write_idx(tmp_path, np.zeros((2, 4, 4)), np.arange(2))
  path = tmp_path / 'class_names.txt'
  for text, encoding in (
    ('T-shirt/top\r\nankle boot\r\n\r\n', 'utf-8-sig'),
    ('T-shirt/top\rankle boot', 'utf-8'),
    ('T-shirt/top\nankle boot\n', 'utf-16'),
  ):
    path.write_bytes(text.encode(encoding))
    source = open_idx('train', data_dir=str(tmp_path))
    assert source.class_names == ('T-shirt/top', 'ankle boot')


@pytest.mark.parametrize(
  ('shape', 'message'),
  [
    ((1, 28, 28), r'has 801 or more bytes where its header, .* implies 800'),
    ((2**20, 2**6, 2**6), r'has 4,294,967,296 bytes, by its header.*at most'),
    ((2**31, 2**31, 2**31), 'at most'),
  ],
)
def test_what_inflates_is_not_read_whole(tmp_path, shape, message):
  header = bytes((0, 0, 8, 3)) + struct.pack('>3I', *shape)
  path = tmp_path / 'train-images-idx3-ubyte.gz'
  path.write_bytes(gzip.compress(header + bytes(30_000_000), compresslevel=1))
  tracemalloc.start()
  with pytest.raises(UserError, match=message):
    read_idx(path, 3)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 10_000_000
