import dataclasses
import functools
import itertools

import numpy as np
import pytest

from coatnet_jax.data.batching import (
  create_eval_batches,
  create_train_batches,
)
from coatnet_jax.data.folder import create_folder_source
from coatnet_jax.data.idx import IdxSource
from coatnet_jax.data.sources import create_source
from coatnet_jax.data.splits import Division, WantedSplit
from coatnet_jax.errors import UserError

NUM_IMAGES = 100
KEYS = ('image', 'label', 'mask', 'corrupt')


@pytest.fixture
def source(tmp_path, write_idx):
  """One hundred pictures, each of a class of its own: labels tell them."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (NUM_IMAGES, 12, 12), np.uint8)
  write_idx(tmp_path, images, np.arange(NUM_IMAGES))
  return IdxSource(tmp_path, 'train')


@pytest.fixture
def train(source, data_options, preprocessing, augmentation):
  """Returns a function that reads the first batches of a training run."""

  def read(num_batches, **changes):
    data = {
      key: changes.pop(key)
      for key in ('num_workers', 'num_threads', 'prefetch_batches')
      if key in changes
    }
    settings = {
      'source': source,
      'data': data_options(**data),
      'preprocessing': preprocessing(image_size=(8, 10)),
      'augmentation': augmentation(),
      'global_batch_size': 16,
      'seed': 7,
      **changes,
    }
    iterator = create_train_batches(**settings)
    batches = list(itertools.islice(iterator, num_batches))
    iterator.close()
    return batches

  return read


@pytest.fixture
def evaluate(source, data_options, preprocessing):
  """Returns a function that reads all evaluation batches of a process."""

  def read(num_workers=0, **changes):
    settings = {
      'source': source,
      'data': data_options(num_workers=num_workers),
      'preprocessing': preprocessing(image_size=(8, 8)),
      'global_batch_size': 16,
      **changes,
    }
    return create_eval_batches(**settings)

  return read


@pytest.fixture
def damaged_source(tmp_path, picture, encode):
  """Two hundred PNG files in two classes; numbers 3 and 4 are truncated."""
  for label, name in enumerate(('cat', 'dog')):
    folder = tmp_path / 'pictures' / 'train' / name
    folder.mkdir(parents=True)
    for i in range(100):
      data = encode('.png', picture(10, 10, seed=100 * label + i))
      if label == 0 and i in (3, 4):
        data = data[: len(data) // 2]
      (folder / f'{i:03}.png').write_bytes(data)
  return create_folder_source(
    str(tmp_path / 'pictures'),
    WantedSplit(
      train_split='train',
      eval_split='train',
      division=Division(eval_fraction=0.1),
      training=True,
    ),
  )


def assert_equal_batches(actual, expected):
  assert len(actual) == len(expected) > 0
  for one, other in zip(actual, expected, strict=True):
    for key in KEYS:
      assert one[key].dtype == other[key].dtype
      np.testing.assert_array_equal(one[key], other[key])


def labels_of(batches):
  return np.concatenate([batch['label'] for batch in batches]).tolist()


def test_train_batch_has_the_documented_arrays(train):
  (batch,) = train(1)
  assert {key: (batch[key].shape, batch[key].dtype) for key in KEYS} == {
    'image': ((16, 8, 10, 3), np.uint8),
    'label': ((16,), np.int32),
    'mask': ((16,), bool),
    'corrupt': ((16,), np.int64),
  }
  assert batch['mask'].all()
  assert (batch['corrupt'] == -1).all()


def test_each_epoch_has_every_image_once_in_another_order(train):
  # 75 batches of 16 are 12 epochs of 100; the epochs don't end with batches.
  labels = np.array(labels_of(train(75))).reshape(12, NUM_IMAGES)
  for epoch in labels:
    assert sorted(epoch) == list(range(NUM_IMAGES))
  assert len({tuple(epoch) for epoch in labels}) == 12


def test_same_image_is_augmented_differently_in_each_epoch(train):
  batches = train(25, global_batch_size=20)
  images = np.concatenate([batch['image'] for batch in batches])
  labels = np.array(labels_of(batches))
  for label in range(NUM_IMAGES):
    versions = {image.tobytes() for image in images[labels == label]}
    assert len(versions) == 5


def test_seed_changes_order_and_augmentation(train):
  batches = {seed: train(7, seed=seed) for seed in (0, 1)}
  assert labels_of(batches[0]) != labels_of(batches[1])
  first = {
    seed: {
      label: image.tobytes()
      for batch in batches[seed]
      for label, image in zip(batch['label'], batch['image'], strict=True)
    }
    for seed in batches
  }
  same = [label for label in range(100) if first[0][label] == first[1][label]]
  assert not same


@pytest.mark.parametrize(
  'setting',
  [
    {'num_threads': 16, 'prefetch_batches': 16},
    {'num_threads': 0},
    {'num_workers': 1},
    {'num_workers': 2, 'num_threads': 2},
  ],
  ids=str,
)
def test_batches_do_not_depend_on_threads_and_workers(train, setting):
  expected = train(9, num_threads=1, prefetch_batches=1)
  assert_equal_batches(train(9, **setting), expected)


@pytest.mark.parametrize('num_shards', [2, 4])
def test_shards_are_consecutive_rows_of_the_batch(train, num_shards):
  shares = [
    train(9, shards=(index,), num_shards=num_shards)
    for index in range(num_shards)
  ]
  assert all(len(share[0]['label']) == 16 // num_shards for share in shares)
  together = [
    {key: np.concatenate([part[key] for part in parts]) for key in KEYS}
    for parts in zip(*shares, strict=True)
  ]
  assert_equal_batches(together, train(9))


@pytest.mark.parametrize(
  'shards', [(0, 1, 4, 5), (2, 3), (1, 2), (1, 2, 3), (0, 7)]
)
def test_a_process_reads_any_shards(train, shards):
  rows = np.arange(16).reshape(8, 2)[list(shards)].ravel()
  expected = [{key: batch[key][rows] for key in KEYS} for batch in train(5)]
  assert_equal_batches(train(5, shards=shards, num_shards=8), expected)


@pytest.mark.parametrize('start_step', [1, 8])
def test_start_step_skips_so_many_batches(train, start_step):
  continued = train(4, start_step=start_step)
  assert_equal_batches(continued, train(start_step + 4)[start_step:])


def test_start_step_of_a_long_run_costs_no_reading(train):
  (batch,) = train(1, start_step=300_000)
  assert batch['image'].shape == (16, 8, 10, 3)


def test_start_step_of_one_process_of_two_with_workers(train):
  share = {'shards': (1,), 'num_shards': 2}
  continued = train(3, start_step=6, num_workers=2, **share)
  assert_equal_batches(continued, train(9, **share)[6:])


def test_batch_may_be_larger_than_the_data_set(train):
  (batch,) = train(1, global_batch_size=256)
  _, counts = np.unique(batch['label'], return_counts=True)
  assert len(counts) == NUM_IMAGES
  assert set(counts.tolist()) == {2, 3}


@pytest.fixture
def train_repeated(train, augmentation):
  """Returns `train` with each image four times in a batch."""
  return functools.partial(train, augmentation=augmentation(repeats=4))


def test_repeated_images_are_far_apart_and_augmented_anew(train_repeated):
  for batch in train_repeated(5):
    labels = batch['label'].reshape(4, 4)
    assert (labels == labels[0]).all()
    assert len(set(labels[0])) == 4
    assert len({image.tobytes() for image in batch['image']}) == 16


def test_as_many_epochs_as_repeats_have_every_image_as_often(train_repeated):
  # 75 batches are 12 epochs of 100 images, 3 times 4.
  labels = np.array(labels_of(train_repeated(75))).reshape(3, 400)
  for epochs in labels:
    _, counts = np.unique(epochs, return_counts=True)
    assert counts.tolist() == [4] * NUM_IMAGES
  assert len({tuple(epochs) for epochs in labels}) == 3


def test_repeats_keep_the_order_of_the_images(train, train_repeated):
  once = labels_of(train(2))
  batches = np.array(labels_of(train_repeated(8))).reshape(8, 16)
  assert batches[:, :4].ravel().tolist() == once


def test_repeated_batches_do_not_depend_on_processes_and_workers(
  train_repeated,
):
  expected = train_repeated(6)
  assert_equal_batches(train_repeated(2, start_step=4), expected[4:])
  assert_equal_batches(train_repeated(6, num_workers=2), expected)
  # Those of a process that reads the first and the last of eight shards.
  rows = [0, 1, 14, 15]
  part = [{key: batch[key][rows] for key in KEYS} for batch in expected]
  found = train_repeated(6, shards=(0, 7), num_shards=8)
  assert_equal_batches(found, part)


def test_the_seed_changes_repeated_images_too(train_repeated):
  first, second = (train_repeated(1, seed=seed)[0] for seed in (0, 1))
  assert first['label'].tolist() != second['label'].tolist()
  assert not {image.tobytes() for image in first['image']} & {
    image.tobytes() for image in second['image']
  }


def test_repeats_that_do_not_divide_the_batch_are_refused(train_repeated):
  with pytest.raises(
    UserError, match=r'repeats is 4; it must divide .* size, 18'
  ):
    train_repeated(1, global_batch_size=18)


@pytest.mark.parametrize('num_shards', [1, 2, 4])
@pytest.mark.parametrize('global_batch_size', [4, 16, 100, 256])
def test_evaluation_has_every_image_once(
  evaluate, num_shards, global_batch_size
):
  labels = []
  for index in range(num_shards):
    batches = evaluate(
      global_batch_size=global_batch_size,
      shards=(index,),
      num_shards=num_shards,
    )
    assert len(batches) == len(list(batches)) == -(-100 // global_batch_size)
    for batch in batches:
      assert len(batch['label']) == global_batch_size // num_shards
      labels += batch['label'][batch['mask']].tolist()
      assert not batch['image'][~batch['mask']].any()
  assert sorted(labels) == list(range(NUM_IMAGES))


def test_evaluation_batches_can_be_read_again(evaluate):
  batches = evaluate()
  assert_equal_batches(list(batches), list(batches))


def test_evaluation_does_not_depend_on_workers(damaged_source, evaluate):
  expected = list(evaluate(source=damaged_source))
  batches = evaluate(source=damaged_source, num_workers=2)
  assert_equal_batches(list(batches), expected)


def test_corrupt_training_image_is_replaced_by_the_next(damaged_source, train):
  batches = train(25, source=damaged_source, global_batch_size=8)
  corrupt = np.concatenate([batch['corrupt'] for batch in batches])
  # One epoch: both are reported once, and number 5 stands in for them.
  assert sorted(corrupt[corrupt >= 0].tolist()) == [3, 4]
  assert all(batch['mask'].all() for batch in batches)
  assert sorted(labels_of(batches)) == [0] * 100 + [1] * 100


def test_replacement_is_the_next_image_and_its_label(
  damaged_source, data_options, read_plain_batch, read_whole_batch
):
  # Without augmentation the picture itself shows.
  batch = read_plain_batch(damaged_source, data_options(), (10, 10), 200)
  evaluation = read_whole_batch(damaged_source, data_options(), (10, 10), 200)
  (row,) = np.flatnonzero(batch['corrupt'] == 4)
  np.testing.assert_array_equal(batch['image'][row], evaluation['image'][5])


def test_corrupt_evaluation_image_does_not_count(damaged_source, evaluate):
  (batch,) = evaluate(source=damaged_source, global_batch_size=200)
  assert np.flatnonzero(~batch['mask']).tolist() == [3, 4]
  assert np.flatnonzero(batch['corrupt'] >= 0).tolist() == [3, 4]
  assert batch['corrupt'][3:5].tolist() == [3, 4]
  assert not batch['image'][3:5].any()


def test_many_corrupt_images_in_a_row_stop_the_run(damaged_source, train):
  for label in range(200):
    damaged_source.find_path(label).write_bytes(b'')
  with pytest.raises(UserError, match='4 images in a row cannot be decoded'):
    train(1, source=damaged_source)


@pytest.mark.parametrize('num_workers', [0, 1])
def test_unreadable_file_is_named(damaged_source, train, num_workers):
  damaged_source.find_path(17).unlink()
  with pytest.raises(UserError, match=r'017.png cannot be read: No such file'):
    train(25, source=damaged_source, num_workers=num_workers)


@pytest.mark.parametrize('training', [True, False])
def test_label_outside_the_range_is_named(source, train, evaluate, training):
  source.class_names = source.class_names[:60]
  message = r'ubyte, image (\d+) is \1; it must be in 0 .. 59, as there are 60'
  with pytest.raises(UserError, match=message):
    train(7) if training else list(evaluate())


@pytest.mark.parametrize('size', [0, -4, 15])
def test_batch_size_that_processes_cannot_share_is_refused(
  train, evaluate, size
):
  with pytest.raises(
    UserError, match=f'batch size is {size}; it must be a positive'
  ):
    train(1, global_batch_size=size, num_shards=2)
  with pytest.raises(
    UserError, match=f'batch size is {size}; it must be a positive'
  ):
    evaluate(global_batch_size=size, num_shards=2)


@pytest.mark.parametrize('seed', [-1, 2**32])
def test_seed_out_of_range_is_refused(train, seed):
  with pytest.raises(UserError, match=f'seed is {seed}'):
    train(1, seed=seed)


def test_cached_and_uncached_batches_are_equal(data_options, train):
  options = data_options(name='fashion_mnist_12k', eval_split='test')
  uncached = dataclasses.replace(options, cache_mebibytes=0)
  assert_equal_batches(
    train(2, source=create_source(uncached, 'eval')),
    train(2, source=create_source(options, 'eval'), num_workers=1),
  )
