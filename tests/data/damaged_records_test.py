"""A record that is damaged is one picture less; a shard, one sentence."""

import collections
import contextlib
import pathlib
import re

import numpy as np
import pytest

from coatnet_jax.data.batching import create_train_batches
from coatnet_jax.data.damage import explain_damage
from coatnet_jax.data.decoding import decode_example
from coatnet_jax.data.image_source import CorruptImageError
from coatnet_jax.data.preparation.files import FolderPreparationSource
from coatnet_jax.data.preparation.preparation import PreparationOptions, prepare
from coatnet_jax.data.sources import create_source
from coatnet_jax.errors import UserError
from tests.data.preparation.archive_examples import write_folder

NUM_IMAGES = 12
_SENTENCE = re.compile(
  r'toys-train\.array_record-\S+ is damaged, and none of its records can be'
)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """The one training shard of a data set, and its content."""
  directory = tmp_path_factory.mktemp('records')
  pictures = write_folder(
    directory / 'pictures', train=NUM_IMAGES, validation=4
  )
  prepare(
    FolderPreparationSource('toys', pictures),
    PreparationOptions(output_dir=directory),
  )
  (shard,) = (directory / 'toys').rglob('*-train.array_record*')
  return shard, shard.read_bytes()


@pytest.fixture
def shard(prepared):
  path, content = prepared
  yield path
  path.write_bytes(content)


@pytest.fixture
def open_train(shard, data_options):
  def open_source(cache_mebibytes=0, **changes):
    return create_source(
      data_options(
        name='',
        data_dir=str(shard.parent),
        cache_mebibytes=cache_mebibytes,
        **changes,
      ),
      'train',
    )

  return open_source


def _flip(content: bytes, place: int, bit: int) -> bytes:
  changed = bytearray(content)
  changed[place] ^= 1 << bit
  return bytes(changed)


def _read_all(source) -> str:
  """Returns what became of it: how many are damaged, or a sentence."""
  damaged = 0
  for index in range(len(source)):
    try:
      decode_example(source, index)
    except CorruptImageError:
      damaged += 1
      assert 'toys-train.array_record' in explain_damage(source, index)
    except UserError as error:
      found = _SENTENCE.search(str(error))
      return 'a sentence' if found else str(error)
  return f'{damaged} damaged'


@pytest.mark.parametrize(
  ('num_flips', 'num_cuts'),
  [(40, 6), pytest.param(300, 30, marks=pytest.mark.slow)],
)
def test_flipped_and_cut_anywhere(
  prepared, shard, open_train, num_flips, num_cuts
):
  _, content = prepared
  rng = np.random.default_rng(0)
  # Behind the records are zeros, to a multiple of 64 kB, and the index.
  length = len(content.rstrip(b'\0'))
  filled = [place for place in range(length) if content[place]]
  outcomes = collections.Counter()
  for place in rng.choice(filled, num_flips):
    shard.write_bytes(_flip(content, place, rng.integers(8)))
    outcomes[_read_all(open_train())] += 1
  assert set(outcomes) <= {'0 damaged', '1 damaged', 'a sentence'}
  assert outcomes['1 damaged'] > num_flips / 2
  for length in rng.integers(len(content), size=num_cuts):
    shard.write_bytes(content[:length])
    assert _read_all(open_train()) == 'a sentence'


def test_its_name_and_number_are_said(prepared, shard, open_train):
  _, content = prepared
  place = content.index(b'JFIF') + 100
  shard.write_bytes(_flip(content, place, 0))
  source = open_train()
  with pytest.raises(
    CorruptImageError,
    match=r'record 0 of toys-train\.array_record-00000-of-00001 is damaged: ',
  ):
    source[0]
  assert explain_damage(source, 0).startswith('toys/1.0.0, train, record 0: ')
  # A part of a split begins at another record.
  part = open_train(train_split='train[1:]')
  assert len(part) == NUM_IMAGES - 1
  decode_example(part, 0)


def test_a_cache_keeps_what_is_wrong_with_it(prepared, shard, open_train):
  _, content = prepared
  shard.write_bytes(_flip(content, content.index(b'JFIF') + 100, 0))
  source = open_train(cache_mebibytes=256)
  assert source.in_memory
  with pytest.raises(CorruptImageError, match='record 0 of toys-train'):
    decode_example(source, 0)
  decode_example(source, 1)


def _read_batches(source, data, preprocessing, augmentation, number=4):
  batches = create_train_batches(
    source,
    data=data,
    preprocessing=preprocessing(image_size=(16, 16)),
    augmentation=augmentation(),
    global_batch_size=4,
    seed=0,
  )
  with contextlib.closing(batches):
    return [next(batches) for _ in range(number)]


@pytest.mark.parametrize(
  'num_workers', [0, pytest.param(1, marks=pytest.mark.slow)]
)
def test_training_replaces_it_and_ends_with_the_sentence(
  prepared,
  shard: pathlib.Path,
  open_train,
  data_options,
  preprocessing,
  augmentation,
  num_workers,
):
  _, content = prepared
  data = data_options(num_workers=num_workers)
  shard.write_bytes(_flip(content, content.index(b'JFIF') + 100, 0))
  batches = _read_batches(open_train(), data, preprocessing, augmentation)
  corrupt = np.concatenate([batch['corrupt'] for batch in batches])
  assert set(corrupt.tolist()) == {-1, 0}
  shard.write_bytes(content[:1000])
  with pytest.raises(UserError, match='none of its records can be read'):
    _read_batches(open_train(), data, preprocessing, augmentation)
