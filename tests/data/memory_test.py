"""Memory stays as it is over a long epoch, with worker processes or without."""

import multiprocessing
import pathlib
import statistics

import numpy as np
import pytest

from coatnet_jax.data.augmentation import (
  AugmentationOptions,
  PreprocessingOptions,
)
from coatnet_jax.data.batching import create_train_batches
from coatnet_jax.data.preparation import shards
from coatnet_jax.data.preparation.examples import Examples, PreparationSource
from coatnet_jax.data.preparation.preparation import (
  PreparationOptions,
  prepare,
)
from coatnet_jax.data.preparation.verification import VerifiedImage
from coatnet_jax.data.sources import DataOptions, create_source
from configs import base
from tests.data.preparation.archive_examples import jpeg

NUM_RECORDS = 200_000
BATCH_SIZE = 500
# A leak of one image of 32 px for each record is 600 MB, and one of 100 bytes
# is 20 MB.
MAX_GROWTH_MEBIBYTES = 16
MEBIBYTE = 2**20


class ManySource(PreparationSource):
  """A few images, many times."""

  name = 'many'
  description = 'For tests.'
  class_names = ('a', 'b')

  def __init__(self):
    self.images = [jpeg(i, 32) for i in range(100)]
    numbers = np.arange(NUM_RECORDS)
    self.splits = {
      'train': Examples(
        names=np.char.mod('%06d', numbers).astype('S'),
        labels=(numbers % 2).astype(np.int32),
        files=np.zeros(NUM_RECORDS, np.int32),
        offsets=numbers % len(self.images),
        sizes=np.full(NUM_RECORDS, 1000, np.int64),
      )
    }

  def read(self, examples, index):
    return self.images[examples.offsets[index]]


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """Has 200,000 records in 20 shards."""
  output_dir = tmp_path_factory.mktemp('data')
  with pytest.MonkeyPatch.context() as patch:
    # They are good, and to decode them all takes a minute.
    patch.setattr(shards, 'verify_image', lambda data, *_: VerifiedImage(data))
    prepare(
      ManySource(),
      PreparationOptions(output_dir=output_dir, shard_mebibytes=10),
    )
  return str(output_dir)


def create_batches(data_dir, num_workers):
  config = base.get_config()
  config.data.update(
    name='many', data_dir=data_dir, cache_mebibytes=0, num_workers=num_workers
  )
  config.preprocessing.image_size = (32, 32)
  config.augmentation.randaugment_layers = 0
  data = DataOptions(**config.data)
  source = create_source(data, 'train')
  assert len(source) == NUM_RECORDS
  return create_train_batches(
    source,
    data=data,
    preprocessing=PreprocessingOptions(**config.preprocessing),
    augmentation=AugmentationOptions(**config.augmentation),
    global_batch_size=BATCH_SIZE,
    seed=0,
  )


def resident_bytes():
  """Returns what this process and its workers take of the memory."""
  pids = ['self', *(child.pid for child in multiprocessing.active_children())]
  pages = [
    int(pathlib.Path(f'/proc/{pid}/statm').read_text().split()[1])
    for pid in pids
  ]
  return sum(pages) * 4096


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('num_workers', [0, 2])
def test_memory_does_not_grow_over_an_epoch(data_dir, num_workers):
  batches = create_batches(data_dir, num_workers)
  sizes = []
  for _ in range(NUM_RECORDS // BATCH_SIZE):
    next(batches)
    sizes.append(resident_bytes() / MEBIBYTE)
  assert len(multiprocessing.active_children()) >= num_workers
  batches.close()
  tenth = len(sizes) // 10
  # The first tenth opens files and fills buffers.
  start = statistics.median(sizes[tenth : 2 * tenth])
  end = statistics.median(sizes[-tenth:])
  print(
    f'{num_workers} workers: {start:.1f} MiB after 20,000 records,'
    f' {end:.1f} MiB after {NUM_RECORDS:,}, at most {max(sizes):.1f} MiB.'
  )
  assert end - start < MAX_GROWTH_MEBIBYTES
