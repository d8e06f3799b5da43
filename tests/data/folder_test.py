import os
import pickle

import numpy as np
import pytest

from coatnet_jax.data.decoding import CorruptImageError, decode_example
from coatnet_jax.data.sources import create_source
from coatnet_jax.errors import UserError


@pytest.fixture
def write_classes(picture, encode):
  """Returns a function: a directory and images per class to PNG files."""

  def write(directory, **counts):
    for name, count in counts.items():
      (directory / name).mkdir(parents=True)
      for i in range(count):
        data = encode('.png', picture(6, 9, seed=i))
        (directory / name / f'{i:03}.png').write_bytes(data)

  return write


@pytest.fixture
def open_folder(tmp_path, data_options):
  """Returns a function that opens a split of tmp_path."""

  def open_split(split, **changes):
    settings = {
      'source': 'folder',
      'data_dir': str(tmp_path),
      'cache_mebibytes': 0,
      **changes,
    }
    return create_source(data_options(**settings), split)

  return open_split


def names_of(source, directory):
  prefix = f'{directory}/'
  return [
    source.describe(index).removeprefix(prefix) for index in range(len(source))
  ]


def test_classes_are_the_sorted_folders(tmp_path, write_classes, open_folder):
  write_classes(tmp_path / 'train', zebra=2, ape=1, Cat=1)
  write_classes(tmp_path / 'validation', Cat=1, ape=2, zebra=1)
  source = open_folder('train')
  assert source.class_names == ('Cat', 'ape', 'zebra')
  assert names_of(source, tmp_path / 'train') == [
    'Cat/000.png',
    'ape/000.png',
    'zebra/000.png',
    'zebra/001.png',
  ]
  assert [source[index]['label'] for index in range(4)] == [0, 1, 2, 2]
  assert source.description == f'{tmp_path}/train, train: 4 images, 3 classes'
  evaluation = open_folder('eval')
  assert evaluation.class_names == source.class_names
  assert names_of(evaluation, tmp_path / 'validation')[1] == 'ape/000.png'


def test_images_are_the_files(tmp_path, write_classes, open_folder, picture):
  write_classes(tmp_path / 'train', ape=3)
  source = pickle.loads(pickle.dumps(open_folder('train')))
  image, label = decode_example(source, 2)
  np.testing.assert_array_equal(image, picture(6, 9, seed=2))
  assert label == 0


def test_every_image_is_used_and_the_rest_is_counted(tmp_path, open_folder):
  folder = tmp_path / 'train' / 'ape'
  (folder / 'deeper' / 'still').mkdir(parents=True)
  (folder / '.cache').mkdir()
  (folder / 'deeper' / 'back').symlink_to(folder)
  images = [
    *('a.jpg', 'b.JPEG', 'c.Png', 'd.bmp', 'deeper/g.jpg'),
    *('deeper/still/h.tif', 'e.webp', 'f.JPG', 'i.gif', 'j.TIFF', 'k.jfif'),
    *('l.jpe', 'm.jpg_large'),
  ]
  others = [
    *('notes.txt', '.hidden.jpg', 'jpg', '.DS_Store', '.cache/n.jpg'),
    *('deeper/o.HEIC', 'p.avif', '../outside.jpg', '../list.csv'),
  ]
  for name in images + others:
    (folder / name).write_bytes(b'')
  source = open_folder('train')
  assert names_of(source, folder) == images
  assert '13 images' in source.description
  assert source.description.endswith(
    '13 images, 1 class; left out: 3 not named as an image (list.csv, ...), 1'
    ' in no class folder (outside.jpg), 2 hidden (ape/.hidden.jpg, ...), 2 to'
    ' convert to JPEG or PNG (ape/p.avif, ...)'
  )


def test_nothing_left_out_is_not_mentioned(
  tmp_path, write_classes, open_folder
):
  write_classes(tmp_path / 'train', ape=1)
  assert 'left out' not in open_folder('train').description


@pytest.mark.parametrize(
  ('names', 'order'),
  [
    (['10', '9', '2', '0'], ['0', '2', '9', '10']),
    (['007', '11', '8', '0012'], ['007', '8', '11', '0012']),
    (['1', '01', '0'], ['0', '01', '1']),
    (['10', '9', 'x'], ['10', '9', 'x']),
    (['class_10', 'class_9'], ['class_10', 'class_9']),
  ],
)
def test_classes_called_by_numbers_are_in_their_order(
  tmp_path, write_classes, open_folder, names, order
):
  write_classes(tmp_path, **dict.fromkeys(names, 2))
  for split in ('train', 'eval'):
    source = open_folder(split)
    assert source.class_names == tuple(order)
    labels = [source[index]['label'] for index in range(len(source))]
    assert [order[label] for label in labels] == [
      name.split('/')[0] for name in names_of(source, tmp_path)
    ]


@pytest.mark.parametrize('name', ['train', 'val', 'test', 'validation'])
def test_a_class_called_as_a_split_hides_no_other(
  tmp_path, write_classes, open_folder, name
):
  write_classes(tmp_path, bus=3, car=3, **{name: 3})
  (tmp_path / name / 'old').mkdir()
  (tmp_path / name / '000.png').rename(tmp_path / name / 'old' / 'x.png')
  source = open_folder('eval', eval_fraction=1)
  assert source.class_names == tuple(sorted(['bus', 'car', name]))
  assert len(source) == 9
  assert len(open_folder('train', eval_fraction=0.4)) == 6


def test_a_folder_that_may_be_class_or_split_is_refused(
  tmp_path, write_classes, open_folder
):
  write_classes(tmp_path, bus=2, car=2)
  write_classes(tmp_path / 'train', freight=2, express=2)
  message = "train may be a split, .* or a class, like 'bus' beside it"
  with pytest.raises(UserError, match=message):
    open_folder('train')
  flat = open_folder('eval', train_split='', eval_fraction=1)
  assert flat.class_names == ('bus', 'car', 'train')
  assert len(flat) == 8
  write_classes(tmp_path / 'fold', freight=1, express=1)
  assert open_folder('train', eval_split='fold').class_names == (
    'express',
    'freight',
  )


def test_images_without_class_folders_are_refused(
  tmp_path, write_classes, open_folder
):
  write_classes(tmp_path, train=2, validation=2)
  message = 'no images in .*train: expected one folder per class.*; left out: 2'
  with pytest.raises(UserError, match=message):
    open_folder('train')


def test_all_of_a_directory_can_be_evaluated(
  tmp_path, write_classes, open_folder
):
  write_classes(tmp_path, ape=1, bee=3)
  source = open_folder('eval', eval_fraction=1)
  assert len(source) == source.data_set_size == 4
  assert ', all: 4 images' in source.description
  with pytest.raises(UserError, match=r'none is left in .* to train on'):
    open_folder('train', eval_fraction=1)


def test_a_test_split_alone_can_be_evaluated(
  tmp_path, write_classes, open_folder
):
  write_classes(tmp_path / 'test', ape=1, bee=3)
  source = open_folder('eval', eval_split='test')
  assert source.class_names == ('ape', 'bee')
  assert len(source) == 4
  with pytest.raises(UserError, match='test has no images of its own, only in'):
    open_folder('train', eval_split='test')


def test_the_size_of_the_whole_is_known_to_its_parts(
  tmp_path, write_classes, open_folder
):
  write_classes(tmp_path / 'flat', ape=10, bee=20)
  write_classes(tmp_path / 'split' / 'train', ape=5, bee=3)
  write_classes(tmp_path / 'split' / 'validation', ape=1, bee=1)
  for split in ('train', 'eval'):
    flat = open_folder(split, data_dir=str(tmp_path / 'flat'))
    assert flat.data_set_size == 30
    divided = open_folder(split, data_dir=str(tmp_path / 'split'))
    assert divided.data_set_size == 10


@pytest.mark.parametrize(
  ('raw', 'shown'),
  [
    (b'caf\xe9', r'caf\xe9'),
    ('größe'.encode(), 'größe'),
    (b'\xff\xfe end', r'\xff\xfe end'),
    (b'two\nlines', r'two\x0alines'),
  ],
)
def test_names_in_any_encoding(
  tmp_path, encode, picture, open_folder, raw, shown
):
  folder = os.fsencode(tmp_path) + b'/' + raw
  os.mkdir(folder)
  (tmp_path / 'other').mkdir()
  for number in range(4):
    data = encode('.png', picture(6, 9, seed=number))
    for path in (folder, os.fsencode(tmp_path / 'other')):
      with open(path + b'/%d\xe4.png' % number, 'wb') as file:
        file.write(data)
  source = pickle.loads(pickle.dumps(open_folder('train', eval_fraction=0.25)))
  assert set(source.class_names) == {shown, 'other'}
  index = 3 * source.class_names.index(shown)
  assert source.describe(index).startswith(f'{tmp_path}/{shown}/')
  assert source.describe(index).endswith(r'\xe4.png')
  source.describe(index).encode('utf-8')
  assert decode_example(source, index)[0].shape == (6, 9, 3)


def test_held_out_part_is_a_part_of_each_class(
  tmp_path, write_classes, open_folder
):
  write_classes(tmp_path, ape=40, bee=10, cat=2)
  parts = {
    split: names_of(open_folder(split, eval_fraction=0.2), tmp_path)
    for split in ('train', 'eval')
  }
  assert not set(parts['train']) & set(parts['eval'])
  assert len(parts['train']) + len(parts['eval']) == 52
  held_out = [name.split('/')[0] for name in parts['eval']]
  assert [held_out.count(name) for name in ('ape', 'bee', 'cat')] == [8, 2, 1]
  assert parts['eval'] == sorted(parts['eval'])
  # The choice is by a hash of class and name: the same on any machine.
  known = ['bee/007.png', 'bee/008.png', 'cat/000.png']
  assert parts['eval'][8:] == known
  source = open_folder('eval', eval_fraction=0.2)
  assert source.class_names == ('ape', 'bee', 'cat')
  assert 'held-out 0.2: 11 images, 3 classes' in source.description
  assert source.data_set_size == 52


def test_held_out_files_stay_so_when_files_are_added(
  tmp_path, write_classes, open_folder, picture, encode
):
  write_classes(tmp_path, ape=20)
  before = set(names_of(open_folder('eval'), tmp_path))
  data = encode('.png', picture(6, 9))
  (tmp_path / 'ape' / 'new.png').write_bytes(data)
  after = set(names_of(open_folder('eval'), tmp_path))
  assert len(before) == len(after) == 2
  assert before & after


def test_empty_class_folder_is_named(tmp_path, write_classes, open_folder):
  write_classes(tmp_path / 'train', ape=1, bee=0)
  with pytest.raises(UserError, match=f'{tmp_path}/train/bee has no images'):
    open_folder('train')


def test_misspelt_split_is_explained(tmp_path, write_classes, open_folder):
  write_classes(tmp_path / 'training', ape=1)
  message = f"training has no images .* {tmp_path} has no folder 'train'"
  with pytest.raises(UserError, match=message):
    open_folder('train')


def test_directory_without_images_is_refused(tmp_path, open_folder):
  with pytest.raises(UserError, match=f'no images in {tmp_path}: expected'):
    open_folder('train')


def test_missing_directory_is_named(tmp_path, open_folder):
  with pytest.raises(UserError, match=f'{tmp_path}/none does not exist'):
    open_folder('train', data_dir=str(tmp_path / 'none'))
  with pytest.raises(UserError, match='data_dir is empty'):
    open_folder('train', data_dir='')


def test_a_file_is_no_directory_and_no_list(tmp_path, open_folder):
  (tmp_path / 'labels.txt').write_text('a.jpg cat')
  with pytest.raises(UserError, match=r'labels.txt, which is a file; .*\.csv'):
    open_folder('train', data_dir=str(tmp_path / 'labels.txt'))


def test_missing_eval_folder_gets_those_there_are(
  tmp_path, write_classes, open_folder
):
  write_classes(tmp_path / 'train', ape=1)
  write_classes(tmp_path / 'val', ape=1)
  message = r"eval_split is 'validation', which .* one of train, val"
  with pytest.raises(UserError, match=message):
    open_folder('eval')
  assert len(open_folder('eval', eval_split='val')) == 1


def test_eval_classes_must_be_the_training_ones(
  tmp_path, write_classes, open_folder
):
  write_classes(tmp_path / 'train', ape=1, bee=1)
  write_classes(tmp_path / 'validation', ape=1, cow=1)
  message = "differ: validation lacks 'bee'; train lacks 'cow'"
  with pytest.raises(UserError, match=message):
    open_folder('eval')


def test_class_of_one_image_cannot_be_divided(
  tmp_path, write_classes, open_folder
):
  write_classes(tmp_path, ape=3, bee=1)
  with pytest.raises(UserError, match='bee has one image; it takes at least'):
    open_folder('train')


def test_pipes_devices_and_circles_are_left_out_and_named(
  tmp_path, picture, encode, data_options
):
  for name in ('cat', 'dog'):
    folder = tmp_path / name
    folder.mkdir()
    for number in range(2):
      content = encode('.png', picture(seed=number))
      (folder / f'{number}.png').write_bytes(content)
  os.mkfifo(tmp_path / 'cat' / 'pipe.png')
  (tmp_path / 'cat' / 'zero.jpg').symlink_to('/dev/zero')
  (tmp_path / 'cat' / 'circle.jpg').symlink_to('circle.jpg')
  (tmp_path / 'cat' / 'nothing.jpg').symlink_to('nowhere')
  (tmp_path / 'cat' / 'up').symlink_to('..')
  (tmp_path / 'circle').symlink_to('circle')
  source = create_source(
    data_options(source='folder', data_dir=str(tmp_path), eval_fraction=1.0),
    'eval',
  )
  assert source.class_names == ('cat', 'dog')
  assert '4 not files but pipes, devices or broken links' in source.description
  names = [source.describe(index)[-9:] for index in range(len(source))]
  assert names == ['cat/0.png', 'cat/1.png', 'dog/0.png', 'dog/1.png']


def test_what_became_a_pipe_or_a_device_is_a_damaged_picture(
  tmp_path, picture, encode, data_options
):
  for number in range(3):
    path = tmp_path / 'cat' / f'{number}.png'
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode('.png', picture()))
  source = create_source(
    data_options(
      source='folder',
      data_dir=str(tmp_path),
      eval_fraction=1.0,
      cache_mebibytes=0,
    ),
    'eval',
  )
  for number in range(3):
    (tmp_path / 'cat' / f'{number}.png').unlink()
  os.mkfifo(tmp_path / 'cat' / '0.png')
  (tmp_path / 'cat' / '1.png').symlink_to('/dev/zero')
  with open(tmp_path / 'cat' / '2.png', 'wb') as file:
    file.truncate(2**40)
  reasons = ['the file is empty', 'it is a device', 'more than 536,870,912']
  for index, reason in enumerate(reasons):
    with pytest.raises(CorruptImageError, match=reason):
      decode_example(source, index)
