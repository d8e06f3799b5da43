"""`config.data` and `config.seed`: which pictures the loop gets, and from whom.

Pictures are of one colour, so that they can be told in a batch: number k is of
level 10 k, in class k modulo 4.
"""

import gzip
import pathlib
import struct
import time

import cv2
import jax
import numpy as np
import pytest

import coatnet_jax
from coatnet_jax.errors import UserError
from coatnet_jax.initial_state import abstract_train_state
from tests.wiring import runs
from tests.wiring.pictures import Counting, Pictures, Readers, level
from tests.wiring.registry import proves

EMBEDDED = pathlib.Path(coatnet_jax.__file__).parent / 'data' / 'embedded'


def _write_folder(directory, numbers):
  for number in numbers:
    folder = directory / 'abcd'[number % 4]
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f'{number:02}.png'), level(number))


@pytest.fixture
def folder(tmp_path):
  """train/ has numbers 0 to 7, more/ 8 to 15, val/ 16 to 19, test/ 20 to 23."""
  numbers = {
    'train': (0, 8),
    'more': (8, 16),
    'val': (16, 20),
    'test': (20, 24),
  }
  for name, (first, end) in numbers.items():
    _write_folder(tmp_path / name, range(first, end))
  return tmp_path


def _folder_changes(directory, **data):
  data = {
    'source': 'folder',
    'data_dir': str(directory),
    'eval_split': 'val',
    **data,
  }
  changes = {f'data.{name}': value for name, value in data.items()}
  return {'training.num_steps': 1, **changes}


def _numbers(images):
  """Returns the numbers of pictures, sorted."""
  return sorted((images[:, 0, 0, 0] // 10).tolist())


def _train_and_eval_numbers(changes):
  recorded = runs.record_loop(runs.create_run(changes))
  evaluated = [b['image'][b['mask']] for b in recorded.eval_batches]
  return (
    _numbers(np.concatenate(recorded.images)),
    _numbers(np.concatenate(evaluated)),
  )


@proves('data.train_split', 'data.eval_split')
def test_splits_are_what_is_trained_and_evaluated_on(folder):
  first = list(range(8))
  for train_split, eval_split, expected in (
    ('train', 'val', (first, [16, 17, 18, 19])),
    ('more', 'val', (list(range(8, 16)), [16, 17, 18, 19])),
    ('train', 'test', (first, [20, 21, 22, 23])),
  ):
    changes = _folder_changes(
      folder, train_split=train_split, eval_split=eval_split
    )
    assert _train_and_eval_numbers(changes) == expected


@proves('data.eval_fraction')
def test_a_fraction_of_each_class_is_held_out(tmp_path):
  _write_folder(tmp_path, range(24))  # Six of each class.
  for fraction, count in ((0.1, 1), (0.34, 2), (0.5, 3)):
    a_run = runs.create_run(_folder_changes(tmp_path, eval_fraction=fraction))
    labels = [a_run.eval_source[k]['label'] for k in range(4 * count)]
    assert labels == sorted(list(range(4)) * count)
    assert len(a_run.eval_source) == 4 * count
    assert len(a_run.train_source) == 24 - 4 * count


@proves('data.num_folds', 'data.fold')
def test_a_fold_is_held_out_and_the_others_trained_on(tmp_path):
  _write_folder(tmp_path, range(24))  # Six of each class.
  for num_folds in (2, 3):
    held_out = []
    for fold in range(num_folds):
      changes = {'num_folds': num_folds, 'fold': fold}
      a_run = runs.create_run(_folder_changes(tmp_path, **changes))
      parts = [set(dict(source.list_files())) for source in _sources(a_run)]
      assert not parts[0] & parts[1]
      assert len(parts[0] | parts[1]) == 24
      labels = a_run.eval_source.find_labels()
      assert np.bincount(labels).tolist() == [6 // num_folds] * 4
      held_out += sorted(parts[1])
    assert len(set(held_out)) == 24
  with pytest.raises(UserError, match='num_folds is 2, which divides a folder'):
    runs.create_run({'data.num_folds': 2})


def _sources(a_run):
  return a_run.train_source, a_run.eval_source


@proves('data.group_pattern')
def test_groups_are_on_one_side(tmp_path):
  _write_folder(tmp_path, range(24))
  # Groups are those of the tens, or of the ones.
  for pattern, is_divided in ((r'/(\d)\d', False), (r'/\d(\d)', True)):
    a_run = runs.create_run(
      _folder_changes(tmp_path, group_pattern=pattern, eval_fraction=0.25)
    )
    tens = [
      {name[2] for name, _ in source.list_files()} for source in _sources(a_run)
    ]
    assert bool(tens[0] & tens[1]) == is_divided
    assert len(a_run.eval_source) >= 4


@proves('data.sampling')
def test_classes_are_sampled_equally_often(tmp_path):
  _write_folder(tmp_path / 'train', [0, 4, 8, 12, 16, 20, 1, 5, 2, 3])
  _write_folder(tmp_path / 'val', range(4))
  for sampling, expected in (
    ('natural', [24, 8, 4, 4]),
    ('balanced', [10, 10, 10, 10]),
  ):
    changes = _folder_changes(tmp_path, sampling=sampling)
    recorded = runs.record_loop(
      runs.create_run({**changes, 'training.num_steps': 5})
    )
    labels = np.concatenate(recorded.labels)
    assert np.bincount(labels).tolist() == expected
    numbers = np.concatenate(recorded.images)[:, 0, 0, 0] // 10
    assert (numbers % 4).tolist() == labels.tolist()


@proves('data.source', 'data.data_dir')
def test_the_source_is_what_is_read_from_the_directory(folder, tmp_path):
  other = tmp_path / 'other'
  _write_folder(other / 'train', range(12, 20))
  _write_folder(other / 'val', range(4))
  for directory, expected in (
    (folder, (list(range(8)), [16, 17, 18, 19])),
    (other, (list(range(12, 20)), list(range(4)))),
  ):
    assert _train_and_eval_numbers(_folder_changes(directory)) == expected
  (folder / 'some.csv').write_text(
    'path,label\n'
    + '\n'.join(
      f'{split}/{"abcd"[n % 4]}/{n:02}.png,{"abcd"[n % 4]}'
      for split, numbers in (('more', range(8, 16)), ('val', range(16, 20)))
      for n in numbers
    )
  )
  listed = _train_and_eval_numbers(
    _folder_changes(folder / 'some.csv', train_split='')
  )
  assert sorted(listed[0] + listed[1]) == list(range(8, 20))
  _write_idx(tmp_path / 'idx')
  idx = _folder_changes(tmp_path / 'idx', source='idx', eval_split='train')
  assert _train_and_eval_numbers(idx) == ([3] * 8, [3] * 8)
  noise = runs.record_loop(runs.create_run({'training.num_steps': 1}))
  assert np.std(noise.images[0][0]) > 50


def _write_idx(directory):
  """Writes the training pictures of a set like MNIST: eight times number 3."""
  directory.mkdir()
  images, labels = (
    np.full((8, 8, 8), 30, np.uint8),
    np.arange(8, dtype=np.uint8),
  )
  for name, array in (('images-idx3', images), ('labels-idx1', labels)):
    header = struct.pack(
      f'>BBBB{array.ndim}I', 0, 0, 8, array.ndim, *array.shape
    )
    path = directory / f'train-{name}-ubyte.gz'
    path.write_bytes(gzip.compress(header + array.tobytes()))


@proves('data.name')
def test_the_name_is_that_of_the_prepared_data_set():
  changes = {'data.source': 'tfds', 'data.eval_split': 'test[:4]'}
  named = runs.create_run({**changes, 'data.name': 'fashion_mnist_12k'})
  (directory,) = EMBEDDED.rglob('1.0.0')
  unnamed = runs.create_run(
    {**changes, 'data.name': '', 'data.data_dir': str(directory)}
  )
  assert len(named.train_source) == len(unnamed.train_source) == 10_000
  np.testing.assert_array_equal(
    named.eval_source[3]['image'], unnamed.eval_source[3]['image']
  )
  with pytest.raises(UserError, match='no_such_set'):
    runs.create_run({**changes, 'data.name': 'no_such_set'})


@proves(
  'data.synthetic_examples',
  'data.synthetic_classes',
  'data.synthetic_image_size',
)
def test_a_synthetic_data_set_is_as_large_as_it_says():
  for examples, classes, size in ((16, 4, (8, 8)), (24, 7, (6, 9))):
    a_run = runs.create_run(
      {
        'data.synthetic_examples': examples,
        'data.synthetic_classes': classes,
        'data.synthetic_image_size': size,
        'training.num_steps': examples // 8,
      }
    )
    assert a_run.train_source[0]['image'].shape == (*size, 3)
    assert a_run.model.num_classes == classes
    recorded = runs.record_loop(a_run)
    images = np.concatenate(recorded.images)
    assert len({image.tobytes() for image in images}) == examples
    assert set(np.concatenate(recorded.labels).tolist()) <= set(range(classes))
    assert len(np.unique(np.concatenate(recorded.labels))) > 2
    assert sum(b['mask'].sum() for b in recorded.eval_batches) == examples


@proves('data.cache_mebibytes')
def test_what_fits_into_the_cache_needs_its_files_once(folder):
  for mebibytes, is_cached in ((1, True), (0, False), (2, True)):
    a_run = runs.create_run(_folder_changes(folder, cache_mebibytes=mebibytes))
    paths = list((folder / 'train').rglob('*.png'))
    for path in paths:
      path.rename(path.with_suffix('.away'))
    if is_cached:
      numbers = _numbers(runs.record_loop(a_run).images[0])
      assert numbers == list(range(8))
    else:
      with pytest.raises(UserError, match='cannot be read'):
        runs.record_loop(a_run)
    for path in paths:
      path.with_suffix('.away').rename(path)


def _read(num_workers=0, num_threads=4, prefetch_batches=4):
  """Returns pictures, and the processes and threads that read them."""
  changes = {
    'data.num_workers': num_workers,
    'data.num_threads': num_threads,
    'data.prefetch_batches': prefetch_batches,
  }
  images = runs.read_images(changes, Readers(), num_steps=6)
  threads = {tuple(pixel) for pixel in images[:, 7, 6].tolist()}
  processes = {tuple(pixel) for pixel in images[:, 7, 5].tolist()}
  return images[:, :7], images[:, 7, 7, 0].any(), processes, threads


@pytest.mark.slow
@pytest.mark.rotating
@proves('data.num_workers', 'data.num_threads')
def test_so_many_workers_and_threads_read_the_same():
  expected, elsewhere, processes, threads = _read(num_threads=1)
  assert (elsewhere, len(processes), len(threads)) == (False, 1, 1)
  images, elsewhere, processes, threads = _read(num_threads=3)
  assert (elsewhere, len(processes)) == (False, 1)
  assert 2 <= len(threads) <= 3
  np.testing.assert_array_equal(images, expected)
  images, elsewhere, processes, _ = _read(num_workers=2)
  assert (elsewhere, len(processes)) == (True, 2)
  np.testing.assert_array_equal(images, expected)


@proves('data.prefetch_batches')
def test_so_many_batches_are_read_ahead():
  images = {}
  for ahead in (1, 4, 7):
    source = Counting()
    a_run = runs.create_run(
      {
        'data.prefetch_batches': ahead,
        'data.num_threads': 1,
        'training.num_steps': 1,
      },
      source=source,
    )

    def look(step, source=source, ahead=ahead):
      """Looks how much has been read while the first batch is used."""
      deadline = time.monotonic() + 30
      while source.count < ahead * runs.BATCH_SIZE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
      time.sleep(0.2)
      # One is used, and the next is at hand.
      assert source.count <= (ahead + 2) * runs.BATCH_SIZE

    images[ahead] = runs.record_loop(a_run, profile=look).images[0]
    np.testing.assert_array_equal(images[ahead], images[1])


@proves('seed')
def test_the_seed_is_that_of_order_augmentation_and_initialisation():
  source = Pictures([level(number) for number in range(16)])
  changes = {'training.num_steps': 2, 'augmentation.randaugment_layers': 2}
  loops, states = {}, {}
  for seed in (0, 1):
    a_run = runs.create_run({**changes, 'seed': seed}, source=source)
    loops[seed] = runs.record_loop(a_run)
    states[seed] = abstract_train_state(a_run)[0]()
  first, second = loops[0], loops[1]
  orders = [np.concatenate(loop.labels) for loop in (first, second)]
  # All the same once in an epoch, in another order.
  assert sorted(orders[0]) == sorted(orders[1])
  assert orders[0].tolist() != orders[1].tolist()
  assert (first.images[0] != second.images[0]).any()
  for one, other in zip(first.eval_batches, second.eval_batches, strict=True):
    np.testing.assert_array_equal(one['image'], other['image'])
  kernels = [state.params['head_logits']['kernel'] for state in states.values()]
  assert np.abs(kernels[0] - kernels[1]).min() > 0
  keys = [jax.random.key_data(state.key) for state in states.values()]
  assert (keys[0] != keys[1]).any()


@proves('data.max_damaged_fraction')
def test_a_damaged_picture_is_replaced_with_the_label_of_the_other(folder):
  """Labels go with the pictures that are seen, not with the damaged ones."""
  for number in (5, 6):
    path = folder / 'train' / 'abcd'[number % 4] / f'{number:02}.png'
    path.write_bytes(path.read_bytes()[:40])
  recorded = runs.record_loop(
    runs.create_run(_folder_changes(folder, max_damaged_fraction=0.5))
  )
  numbers = recorded.images[0][:, 0, 0, 0] // 10
  assert not set(numbers.tolist()) & {5, 6}
  assert (numbers % 4).tolist() == recorded.labels[0].tolist()
  for fraction in (0.0, 0.1):
    a_run = runs.create_run(
      _folder_changes(folder, max_damaged_fraction=fraction)
    )
    with pytest.raises(UserError, match='max_damaged_fraction'):
      runs.record_loop(a_run)


@proves('data.max_image_pixels')
def test_a_picture_of_more_pixels_is_damaged(folder):
  """In training and in evaluation; the others of the folder have 64."""
  for number, split in ((4, 'train'), (17, 'val')):
    path = folder / split / 'abcd'[number % 4] / f'{number:02}.png'
    cv2.imwrite(str(path), np.full((9, 8, 3), 10 * number, np.uint8))
  for pixels, is_read in ((72, True), (71, False)):
    trained, evaluated = _train_and_eval_numbers(
      _folder_changes(folder, max_damaged_fraction=0.5, max_image_pixels=pixels)
    )
    assert (4 in trained) == is_read
    assert evaluated == [16, *[17] * is_read, 18, 19]
