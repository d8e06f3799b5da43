"""A part of the attack; all of it: `python -m tests.weights.attack`."""

import pathlib
import re

import pytest

from coatnet_jax.errors import UserError
from tests.weights import attack
from tests.weights.attack import crafted, worker

WRITERS = crafted.create_writers()
# What takes more than a few hundredths of a second.
DEAR = frozenset(
  f'torch/{name}'
  for name in (
    *('empty_dictionary_again_and_again', 'fields_of_64_kB_that_fit'),
    *('instructions', 'keys_of_8_bytes', 'keys_of_one_hash', 'marks'),
    *('large_pickle', 'long_integers', 'nested_tuples_as_name_of_a_storage'),
    *('nested_dictionaries', 'nested_lists', 'nested_tuples_as_shape'),
    *('same_dictionary_again_and_again', 'sixty_thousand_entries'),
    *('tensors_in_tensors', 'too_many_names', 'two_million_entries'),
    *('wide_text', 'nested_tuples', 'copies_of_one_storage'),
  )
) | {
  'keras/compressed',
  'keras/lists_without_end',
  'safetensors/two_hundred_thousand_tensors',
  'safetensors/nested_header',
}
QUICK = [
  name
  for name in WRITERS
  if name not in DEAR and not name.startswith('description/')
]
# What crashes HDF5, or takes all memory without a limit.
IN_A_PROCESS = ('keras/array_again_and_again', 'keras/deep_tree')
MESSAGES = {
  'torch/cycle_of_366_bytes': 'the same dictionaries in each other',
  'torch/nested_tuples_as_key': 'not tensors: a value of another type;',
  'torch/views_of_one_storage': r'w\d+ and tensors before it are parts of',
  'torch/overlapping_entries': 'its entries are larger than the file',
  'torch/numbers_that_are_none': r'w has numbers that are infinite or none',
  'torch/control_characters_in_a_global': r'refers to os\\x1b\[2J.system\\x07',
  'safetensors/control_characters': r"a tensor named '\\x1b\]0;owned",
  'keras/external_storage': 'a/w lies in another file',
  'keras/external_link': 'has only a link where w is to be',
  'keras/external_layer': 'has only a link where a is to be',
  'keras/external_model': 'has only a link where model_weights is',
  'keras/external_own_weights': 'a link where top_level_model_weights is',
  'keras/soft_link_to_external': 'has only a link where w is to be',
  'keras/virtual': 'a/w lies in another file',
  'keras/unknown_filter': 'a/w is compressed in a way that is not read',
  'keras/array_again_and_again': 'its arrays are larger than the file',
  'other/pipe': 'is a named pipe; give the weights file itself',
  'other/device_without_end': 'is a device',
  'other/sparse_hdf5': 'of which 20,480 were ever written',
}


@pytest.fixture(scope='module')
def reader():
  """Returns a process that reads what may crash it."""
  process = worker.Worker()
  yield process
  process.close()


@pytest.fixture
def write(tmp_path):
  """Returns a function that writes a crafted file, and removes it later."""
  paths = []

  def write_file(name: str) -> pathlib.Path:
    path = tmp_path / name.replace('/', '_') / 'weights'
    path.parent.mkdir()
    paths.append(path)
    WRITERS[name](path)
    return path

  yield write_file
  for path in paths:
    if path.is_file():
      path.unlink()


@pytest.mark.parametrize('kind', ['torch', 'safetensors', 'keras', 'other'])
def test_crafted_files_are_refused_or_harmless(kind, reader, write):
  tally = attack.Tally()
  for name in QUICK:
    if not name.startswith(f'{kind}/'):
      continue
    path = write(name)
    # A process for each Keras file takes half a second.
    here = kind == 'keras' and name not in IN_A_PROCESS
    answer = reader.ask('keras_here' if here else 'read', path, seconds=60)
    tally.add(name, answer)
    if name in MESSAGES:
      assert re.search(MESSAGES[name], answer['message']), answer
  assert not tally.failures
  assert tally.files > 10


@pytest.mark.parametrize(
  'name', [name for name in WRITERS if name.startswith('description/')]
)
def test_what_a_file_says_of_its_model_is_bounded(name, write):
  path = write(name)
  with pytest.raises(UserError, match=re.escape(str(path))) as error:
    worker._describe(path)
  assert str(error.value).isprintable()


@pytest.mark.parametrize('file_format', ['torch_pickle', 'keras'])
def test_damage_is_refused_or_harmless(file_format, tmp_path):
  tally = attack.attack_format(file_format, range(1, 40), tmp_path)
  assert not tally.failures
  assert tally.refused > 10


@pytest.mark.slow
@pytest.mark.rotating
def test_all_crafted_files(tmp_path):
  tally = attack.attack_crafted(tmp_path)
  assert not tally.failures
  assert tally.files == len(WRITERS) > 60


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('file_format', list(attack.mutations.FORMATS))
def test_more_damage(file_format, tmp_path):
  tally = attack.attack_format(file_format, range(10_000, 10_200), tmp_path)
  assert not tally.failures
  assert tally.refused > 50
