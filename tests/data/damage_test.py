"""How many images may be damaged, and what becomes of them."""

import logging as python_logging

import numpy as np
import PIL.Image
import pytest

from coatnet_jax.data import damage
from coatnet_jax.data.batching import create_train_batches
from coatnet_jax.data.damage import CorruptImageCounter, look_for_damage
from coatnet_jax.data.sources import create_source
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation.features import Subset
from tests.wiring.pictures import Pictures

HTML = b'<!DOCTYPE html><html>404 not found</html>'


@pytest.fixture
def open_pictures(tmp_path, picture, encode, data_options):
  """Returns a function that writes and opens two classes of pictures."""

  def open_split(split, count, damaged, **changes):
    """Opens a folder; `damaged` maps a number to a file's content."""
    for label, name in enumerate(('cat', 'dog')):
      folder = tmp_path / name
      folder.mkdir(exist_ok=True)
      for number in range(count):
        content = encode('.png', picture(10, 10, seed=100 * label + number))
        content = damaged.get((name, number), content)
        (folder / f'{number:03}.png').write_bytes(content)
    return create_source(
      data_options(
        **{
          'source': 'folder',
          'data_dir': str(tmp_path),
          'cache_mebibytes': 0,
          **changes,
        }
      ),
      split,
    )

  return open_split


@pytest.fixture
def damaged_source(open_pictures, picture, encode):
  """Two hundred pictures, of which 3 and 4 are cut off."""
  half = encode('.png', picture(10, 10))[:80]
  damaged = {('cat', 3): half, ('cat', 4): half}
  return open_pictures('eval', 100, damaged, eval_fraction=1)


def test_each_is_logged_once_with_the_reason(damaged_source, caplog):
  counter = CorruptImageCounter(damaged_source, 0.01)
  with caplog.at_level(python_logging.WARNING, logger='absl'):
    for corrupt in ([3, -1], [4, 3], [-1, 4]):
      counter.update({'corrupt': np.array(corrupt)})
  assert counter.count == 2
  first, second = [record.getMessage() for record in caplog.records]
  assert first.endswith('cat/003.png: truncated PNG')
  assert 'cat/004.png' in second


def test_the_first_image_is_counted_too(damaged_source):
  counter = CorruptImageCounter(damaged_source, 0.01)
  counter.update({'corrupt': np.array([0, -1])})
  assert counter.count == 1


def test_more_than_the_key_allows_stop_with_their_names(damaged_source):
  counter = CorruptImageCounter(damaged_source, 0.01)
  counter.update({'corrupt': np.array([3, -1, 4, 3])})
  message = r'3 of 200 images.*max_damaged.*allows 0\.01(.|\n)*dog/050.png'
  with pytest.raises(UserError, match=message):
    counter.update({'corrupt': np.array([-1, 150])})
  CorruptImageCounter(damaged_source, 0.015).update(
    {'corrupt': np.array([3, 4, 150])}
  )


@pytest.mark.parametrize(
  ('fraction', 'allowed'), [(0.0, 0), (0.001, 1), (0.02, 4), (1.0, 200)]
)
def test_the_limit_is_of_the_whole_data_set(
  damaged_source, open_pictures, fraction, allowed
):
  part = open_pictures('eval', 100, {}, eval_fraction=0.1)
  assert len(part) == 20
  for source in (damaged_source, part, Subset(damaged_source, range(10))):
    assert damage.count_allowed_damage(source, fraction) == allowed
    counter = CorruptImageCounter(source, fraction)
    counter.update({'corrupt': np.array([*range(min(allowed, 10)), -1])})


def test_nine_of_a_part_of_a_thousand_are_allowed(open_pictures, data_options):
  part = open_pictures('train', 100, {}, eval_fraction=0.5)
  counter = CorruptImageCounter(part, data_options().max_damaged_fraction)
  counter.update({'corrupt': np.array([0, 1])})
  with pytest.raises(UserError, match='3 of 200'):
    counter.update({'corrupt': np.array([2])})


@pytest.mark.parametrize('content', [b'', HTML, b'\xff\xd8\xff\xe0 cut off'])
def test_a_first_look_finds_and_names_them(open_pictures, content):
  sources = [
    open_pictures(split, 30, {('dog', 7): content})
    for split in ('train', 'eval')
  ]
  line = look_for_damage(sources, 0.02, num_threads=2)
  assert line.startswith('1 image of 60 that were looked at cannot be decoded')
  assert 'dog/007.png: ' in line
  with pytest.raises(UserError, match=r'1 of 60 images(.|\n)*dog/007\.png: '):
    look_for_damage(sources, 0.0, num_threads=2)


def test_a_first_look_counts_those_of_all_splits(open_pictures):
  damaged = {('dog', number): HTML for number in range(15)}
  sources = [open_pictures(split, 30, damaged) for split in ('train', 'eval')]
  for some in (sources[:1], sources[1:]):
    with pytest.raises(UserError, match=r'^\d+ of 60 images') as info:
      look_for_damage(some, 0.0, num_threads=2)
    assert 0 < int(str(info.value).split()[0]) < 15
  with pytest.raises(UserError, match=r'^15 of 60 images'):
    look_for_damage(sources, 0.0, num_threads=2)


def test_a_first_look_sees_cached_images_too(open_pictures):
  source = open_pictures('train', 30, {('cat', 2): HTML}, cache_mebibytes=1)
  assert source.in_memory
  assert 'an HTML page' in look_for_damage([source], 0.1, num_threads=1)


def test_a_first_look_at_whole_images_finds_nothing(open_pictures):
  assert look_for_damage([open_pictures('train', 5, {})], 0.0, 1) == ''


def test_a_sample_of_many_damaged_images_stops(open_pictures, monkeypatch):
  damaged = {('cat', number): HTML for number in range(70)}
  source = open_pictures('train', 100, damaged, eval_fraction=0.05)
  monkeypatch.setattr(damage, '_MOST_LOOKED_AT', 80)
  with pytest.raises(UserError, match=r'among \d\d that were looked at'):
    look_for_damage([source], 0.02, num_threads=2)
  # Of as few that it may be chance, nothing is said that is not certain.
  assert 'cannot be decoded' in look_for_damage([source], 0.4, num_threads=2)


def test_a_look_ends_in_time(open_pictures, monkeypatch):
  source = open_pictures('train', 30, {('cat', 2): HTML})
  monkeypatch.setattr(damage, 'LOOK_SECONDS', -1.0)
  assert look_for_damage([source], 0.0, num_threads=2) == ''


@pytest.mark.parametrize('content', [b'', HTML, b'\x89PNG\r\n\x1a\ncut off'])
def test_a_replacement_has_its_own_label(
  open_pictures, data_options, read_plain_batch, content
):
  """The last cat and the last dog are replaced by a dog and by a cat."""
  damaged = {('cat', 9): content, ('dog', 9): content}
  source = open_pictures('eval', 10, damaged, eval_fraction=1)
  data = data_options(max_damaged_fraction=0.1)
  batch = read_plain_batch(source, data, (10, 10), batch_size=20, seed=3)
  rows = np.flatnonzero(batch['corrupt'] >= 0)
  assert sorted(batch['corrupt'][rows]) == [9, 19]
  for row in rows:
    replaced_by = 1 if batch['corrupt'][row] == 9 else 0
    assert batch['label'][row] == replaced_by
    first = PIL.Image.open(source.describe(10 * replaced_by))
    np.testing.assert_array_equal(batch['image'][row], np.asarray(first))
  assert np.bincount(batch['label']).tolist() == [10, 10]


@pytest.mark.parametrize('damaged', [{3}, {0, 6}, {11}])
def test_every_picture_has_its_own_label(
  damaged, data_options, preprocessing, augmentation
):
  # A number, in twelve pictures of four classes.
  images = [
    b'no picture' if k in damaged else np.full((4, 4, 3), k, np.uint8)
    for k in range(12)
  ]
  iterator = create_train_batches(
    Pictures(images),
    data=data_options(),
    preprocessing=preprocessing(image_size=(4, 4)),
    augmentation=augmentation(randaugment_layers=0),
    global_batch_size=12,
    seed=0,
  )
  batch = next(iterator)
  iterator.close()
  shown = batch['image'][:, 0, 0, 0]
  assert set(shown) == set(range(12)) - damaged
  np.testing.assert_array_equal(batch['label'], shown % 4)
  assert set(batch['corrupt']) == damaged | {-1}
