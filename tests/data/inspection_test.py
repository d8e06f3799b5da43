"""What is told of a folder before a run, and what no run begins with."""

import cv2
import numpy as np
import pytest

from coatnet_jax.data import inspection, near_duplicates
from coatnet_jax.data.inspection import find_rare_classes, inspect
from coatnet_jax.data.near_duplicates import find_duplicates
from coatnet_jax.data.sources import create_source
from coatnet_jax.errors import UserError


@pytest.fixture
def write(tmp_path, picture, encode):
  """Returns a function: numbers of pictures by class to a folder of files."""

  def write_classes(split='', size=(24, 32), suffix='.png', first=0, **counts):
    number = first
    for name, count in counts.items():
      folder = tmp_path / split / name
      folder.mkdir(parents=True, exist_ok=True)
      for _ in range(count):
        data = encode(suffix, picture(*size, seed=number))
        (folder / f'{number}{suffix}').write_bytes(data)
        number += 1
    return tmp_path

  return write_classes


@pytest.fixture
def open_folder(tmp_path, data_options):
  def open_split(split, **changes):
    settings = {'data_dir': str(tmp_path), 'eval_split': 'val', **changes}
    return create_source(data_options(source='folder', **settings), split)

  return open_split


@pytest.fixture
def look(open_folder):
  """Returns a function: options of the data to what is told of them."""

  def inspect_folder(batch_size=2, is_weighted=False, **changes):
    return inspect(
      open_folder('train', **changes),
      open_folder('eval', **changes),
      batch_size=batch_size,
      is_weighted=is_weighted,
    )

  return inspect_folder


@pytest.mark.parametrize('cache_mebibytes', [0, 256])
def test_it_tells_classes_sizes_and_that_nothing_is_in_both(
  write, look, cache_mebibytes
):
  write(cat=30, dog=20, owl=3)
  write(first=100, size=(60, 40), cat=10)
  lines = look(cache_mebibytes=cache_mebibytes)
  assert lines == [
    'classes     to train on + held out: cat 36 + 4, dog 18 + 2, owl 2 + 1'
    ' (rare)',
    '            owl may be missed; to try: --config.data.sampling=balanced'
    ' --config.checkpoint.best_metric=mean_class_accuracy',
    'pictures    32x24 to 40x60 px, most often 32x24 (all looked at)',
    'duplicates  none that are trained on and held out (all compared)',
  ]
  weighted = look(is_weighted=True, cache_mebibytes=cache_mebibytes)
  assert weighted == [lines[0], *lines[2:]]


def test_many_classes_are_summarised(write, look):
  write(**{f'c{number}': 8 for number in range(20)}, few=2, fewer=2)
  (line, hint, *_) = look()
  assert line.startswith(
    'classes     1 to 7 images to train on, 2 of 22 classes are rare; fewest'
    ' (to train on + held out): few 1 + 1 (rare), fewer 1 + 1 (rare), c0 7'
  )
  assert hint.startswith('            few, fewer may be missed')


def test_a_class_of_which_nothing_is_held_out_is_named(write, look, tmp_path):
  write(cat=6, dog=6, owl=6)
  rows = [
    f'{path.relative_to(tmp_path)},{path.parent.name},'
    + ('val' if number % 3 == 0 and path.parent.name != 'owl' else 'train')
    for number, path in enumerate(sorted(tmp_path.rglob('*.png')))
  ]
  (tmp_path / 'a.csv').write_text('path,label,split\n' + '\n'.join(rows))
  lines = look(data_dir=str(tmp_path / 'a.csv'))
  assert lines[1] == '            nothing is held out of owl'


def test_which_classes_are_rare():
  assert find_rare_classes(np.array([40, 40, 40])) == []
  assert find_rare_classes(np.array([9, 120, 2, 120, 0])) == [4, 2, 0]
  assert find_rare_classes(np.array([12, 88])) == [0]
  assert find_rare_classes(np.array([13, 87])) == []


@pytest.mark.parametrize(
  ('counts', 'size', 'message'),
  [
    ({'cat': 9}, (4, 4), r"has one class alone, 'cat'; .* add a folder"),
    (
      {'cat': 4, 'dog': 4},
      (4, 4),
      r'global_batch_size is 8, and there are 6 images to train on; it must be',
    ),
    (
      {'cat': 9, 'dog': 9},
      (1, 1),
      r'All 18 images .* have a single pixel, as .*cat/.*, in which there is',
    ),
  ],
)
def test_what_nothing_can_be_learnt_from_is_refused(
  write, look, counts, size, message
):
  write(size=size, **counts)
  with pytest.raises(UserError, match=message):
    look(batch_size=8)


def test_files_that_are_the_same_are_found(write, look, tmp_path):
  write('train', cat=5, dog=5)
  write('val', first=100, cat=3, dog=3)
  copy = tmp_path / 'val' / 'dog' / 'copy.png'
  copy.write_bytes((tmp_path / 'train' / 'cat' / '2.png').read_bytes())
  line = look(cache_mebibytes=0)[-1]
  assert line == (
    'duplicates  1 of 7 held-out images is trained on too, or nearly the same'
    ' (all compared), so results will look better than they are:\n            '
    f'{copy} is like {tmp_path}/train/cat/2.png'
  )


def test_a_file_is_hashed_once_however_many_are_as_large(
  write, open_folder, tmp_path, monkeypatch
):
  for split, count in (('train', 5), ('val', 3)):
    folder = tmp_path / split / 'cat'
    folder.mkdir(parents=True)
    for number in range(count):  # The last of each are the same.
      content = f'{split}{number}' if number < count - 1 else 'same in both'
      (folder / f'{number}.png').write_bytes(content.ljust(20).encode())
  hashed, hash_file = [], near_duplicates._hash_file

  def hash_and_count(source, index):
    hashed.append((source, index))
    return hash_file(source, index)

  monkeypatch.setattr(near_duplicates, '_hash_file', hash_and_count)
  found = near_duplicates._find_same_files(
    open_folder('train'), open_folder('eval')
  )
  assert found == {2: 4}
  assert len(hashed) == len(set(hashed)) == 8


def test_pictures_that_look_the_same_are_found(
  write, open_folder, tmp_path, picture, encode
):
  """Smaller, as a JPEG, a little brighter; not much darker, or mirrored."""
  write('train', size=(96, 96), cat=40)
  write('val', first=100, size=(96, 96), cat=20)
  changed = {
    'jpeg': picture(96, 96, seed=3),
    'smaller': cv2.resize(
      picture(96, 96, seed=4), (48, 48), interpolation=cv2.INTER_AREA
    ),
    'brighter': np.clip(picture(96, 96, seed=5).astype(int) + 2, 0, 255),
    'darker': picture(96, 96, seed=7) // 3,
    'mirrored': picture(96, 96, seed=6)[:, ::-1],
  }
  for name, image in changed.items():
    data = encode('.jpg', np.ascontiguousarray(image, np.uint8))
    (tmp_path / 'val' / 'cat' / f'{name}.jpg').write_bytes(data)
  train, evaluation = open_folder('train'), open_folder('eval')
  found = find_duplicates(train, evaluation)
  assert found.num_compared == (40, 25)
  assert {
    evaluation.find_path(one).stem: train.find_path(other).stem
    for one, other in found.pairs.items()
  } == {'jpeg': '3', 'smaller': '4', 'brighter': '5'}


def test_plain_pictures_are_not_called_the_same(
  write, open_folder, tmp_path, encode
):
  for split in ('train', 'val'):
    (tmp_path / split / 'cat').mkdir(parents=True)
    for number in range(4):
      level = 60 * number + (split == 'val')
      data = encode('.png', np.full((20, 20, 3), level, np.uint8))
      (tmp_path / split / 'cat' / f'{number}.png').write_bytes(data)
  assert not find_duplicates(open_folder('train'), open_folder('eval')).pairs


def test_it_ends_when_its_time_is_over(write, look, monkeypatch):
  write(cat=30, dog=30)
  monkeypatch.setattr(inspection, '_SECONDS', 0.0)
  monkeypatch.setattr('coatnet_jax.data.near_duplicates.SECONDS', 0.0)
  lines = look()
  assert lines[-1] == (
    'duplicates  none that are trained on and held out (0 + 0 images compared)'
  )
  assert not any(line.startswith('pictures') for line in lines)
