import collections
import fcntl
import json
import resource
import shutil
import signal

import numpy as np
import pytest

from coatnet_jax.data.preparation import preparation
from coatnet_jax.data.preparation.examples import Examples, PreparationSource
from coatnet_jax.data.preparation.preparation import (
  PreparationOptions,
  estimate_bytes,
  get_data_set_directory,
  plan_shards,
  prepare,
)
from coatnet_jax.errors import UserError
from tests.data.preparation.archive_examples import hash_files, jpeg


class MemorySource(PreparationSource):
  """Images of two classes, in memory."""

  name = 'memory'
  description = 'For tests.'
  class_names = ('a', 'b')

  def __init__(self, images):
    self.images = images
    self.splits = {
      'train': Examples(
        names=np.array([f'{i}.jpg'.encode() for i in range(len(images))]),
        labels=np.arange(len(images), dtype=np.int32) % 2,
        files=np.zeros(len(images), np.int32),
        offsets=np.arange(len(images)),
        sizes=np.array([len(image) for image in images], np.int64),
      )
    }

  def read(self, examples, index):
    return self.images[examples.offsets[index]]


class FailingSource(MemorySource):
  """Fails at one image as a bug, or a killed process, does."""

  def read(self, examples, index):
    if examples.names[index] == b'13.jpg':
      raise RuntimeError('killed')
    return super().read(examples, index)


@pytest.fixture(scope='module')
def images():
  return [jpeg(i) for i in range(40)]


@pytest.fixture
def options(tmp_path):
  return PreparationOptions(output_dir=tmp_path / 'out', shard_mebibytes=0.002)


@pytest.fixture(scope='module')
def expected(images, tmp_path_factory):
  """Hashes of the files that nothing disturbed."""
  output_dir = tmp_path_factory.mktemp('expected')
  options = PreparationOptions(output_dir=output_dir, shard_mebibytes=0.002)
  return hash_files(prepare(MemorySource(images), options))


def test_interrupted_and_run_again_it_ends_with_the_same_files(
  images, options, expected
):
  with pytest.raises(RuntimeError, match='killed'):
    prepare(FailingSource(images), options)
  directory = get_data_set_directory(MemorySource(images), options)
  # Left by a process that had no time to clean up.
  (directory / '.preparing' / 'x.1.unfinished').write_bytes(b'half')
  assert not (directory / 'dataset_info.json').exists()
  begun = {
    path: path.stat().st_mtime_ns for path in directory.glob('*.array_record-*')
  }
  lines = []
  prepare(MemorySource(images), options, lines.append)
  assert 0 < len(begun) < len(list(directory.glob('*.array_record-*')))
  assert f'{len(begun)} of ' in lines[0]
  assert all(path.stat().st_mtime_ns == time for path, time in begun.items())
  assert hash_files(directory) == expected


def test_a_shard_that_is_not_whole_is_written_again(images, options, expected):
  with pytest.raises(RuntimeError, match='killed'):
    prepare(FailingSource(images), options)
  directory = get_data_set_directory(MemorySource(images), options)
  first = min(directory.glob('*.array_record-*'))
  first.write_bytes(first.read_bytes()[:-1000])
  assert hash_files(prepare(MemorySource(images), options)) == expected


def test_a_complete_data_set_is_left_alone(images, options):
  directory = prepare(MemorySource(images), options)
  times = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
  lines = []
  assert prepare(MemorySource(images), options, lines.append) == directory
  assert lines == [f'{directory} is complete already.']
  assert {p: p.stat().st_mtime_ns for p in directory.iterdir()} == times


def test_another_data_set_is_not_written_over(images, options):
  directory = prepare(MemorySource(images), options)
  before = hash_files(directory)
  with pytest.raises(UserError, match='has a data set already'):
    prepare(MemorySource(images[:-1]), options)
  assert hash_files(directory) == before
  (directory / 'dataset_info.json').unlink()
  with pytest.raises(UserError, match='has files of another data set'):
    prepare(MemorySource(images), options)


def test_going_on_with_other_images_is_refused(images, options):
  with pytest.raises(RuntimeError, match='killed'):
    prepare(FailingSource(images), options)
  with pytest.raises(UserError, match='was begun with other images'):
    prepare(MemorySource(images[1:]), options)


def test_two_at_a_time_are_refused(images, options):
  directory = get_data_set_directory(MemorySource(images), options)
  (directory / '.preparing').mkdir(parents=True)
  with open(directory / '.preparing' / 'lock', 'wb') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(UserError, match='Another process is preparing'):
      prepare(MemorySource(images), options)


@pytest.fixture
def full_disk():
  """Lets no file of this process grow beyond 64 KiB, as a full disk does."""
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limits[1]))
  yield
  resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def disk_was_full(images, options, full_disk):
  """Runs into a full disk; returns the directory and the message."""
  with pytest.raises(UserError) as error:
    prepare(MemorySource(images), options)
  directory = get_data_set_directory(MemorySource(images), options)
  return (
    directory,
    str(error.value),
    sorted(hash_files(directory / '.preparing')),
  )


def test_a_full_disk_stops_it_with_nothing_half_written(disk_was_full):
  directory, message, left = disk_was_full
  assert 'cannot be written any further (File too large)' in message
  assert 'run the same command again' in message
  assert [path.name for path in directory.iterdir()] == ['.preparing']
  assert left == ['lock', 'preparation.json']


def test_it_goes_on_when_there_is_room(images, options, expected, request):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  request.getfixturevalue('disk_was_full')
  resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert hash_files(prepare(MemorySource(images), options)) == expected


def test_a_file_that_is_too_large_for_an_image_is_not_read(images, options):
  source = MemorySource(images[:2])
  source.splits['train'].sizes[0] = 10**9
  source.images[0] = None
  directory = prepare(source, options)
  report = json.loads((directory / 'report.json').read_text())
  assert report['splits']['train']['dropped'] == [
    ['0.jpg', '1,000,000,000 bytes, too many for 100,000,000 pixels']
  ]


def test_too_small_a_disk_is_seen_before_it_starts(
  images, options, monkeypatch
):
  usage = collections.namedtuple('usage', 'free')
  monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage(10**6))
  with pytest.raises(UserError, match=r'needs [\d.]+ MB and 1.0 MB are'):
    prepare(MemorySource(images), options)
  directory = get_data_set_directory(MemorySource(images), options)
  assert not list(directory.glob('*.array_record-*'))


def test_the_disk_estimate_is_near(images, options):
  source = MemorySource(images)
  estimate = estimate_bytes(plan_shards(source, options)['train'])
  directory = prepare(source, options)
  size = sum(p.stat().st_size for p in directory.glob('*.array_record-*'))
  assert size <= estimate <= 1.2 * size


def test_a_shard_of_bad_images_is_empty_and_a_split_of_them_an_error(
  images, options
):
  mixed = MemorySource([b'bad'] * 3 + images[:1])
  options = PreparationOptions(
    output_dir=options.output_dir, shard_mebibytes=1e-6
  )
  directory = prepare(mixed, options)
  info = json.loads((directory / 'dataset_info.json').read_text())
  assert sorted(info['splits'][0]['shardLengths']) == ['0', '0', '0', '1']
  bad = MemorySource([b'bad'] * 3)
  bad.name = 'bad'
  with pytest.raises(UserError, match=r'No image .* is good; .*not an image'):
    prepare(bad, options)


def test_a_split_without_images_is_an_error(options):
  source = MemorySource([])
  with pytest.raises(UserError, match="no images for the split 'train'"):
    prepare(source, options)


@pytest.mark.parametrize(
  'wrong', [{'num_workers': 0}, {'shard_mebibytes': -1.0}, {'order': 'random'}]
)
def test_impossible_options(tmp_path, wrong):
  with pytest.raises(UserError, match=next(iter(wrong))):
    PreparationOptions(output_dir=tmp_path, **wrong)


def test_shards_are_of_equal_numbers_and_have_each_image_once(images, options):
  shards = preparation.plan_shards(MemorySource(images), options)['train']
  lengths = [len(shard.examples) for shard in shards]
  assert max(lengths) - min(lengths) <= 1
  names = [name for shard in shards for name in shard.examples.names.tolist()]
  assert sorted(names) == sorted(f'{i}.jpg'.encode() for i in range(40))
  assert names != sorted(names)


def test_a_directory_is_prepared_by_one_at_a_time(tmp_path):
  with (
    preparation._exclusive(tmp_path / 'set'),
    pytest.raises(UserError, match='Another process is preparing'),
    preparation._exclusive(tmp_path / 'set'),
  ):
    pass
  with preparation._exclusive(tmp_path / 'set'):
    pass
