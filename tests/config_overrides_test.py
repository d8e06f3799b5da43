"""Whatever stands on the command line: a run that can be, or one sentence.

Some of the words that `config_overrides` draws; the command that it names tries
a thousand.
"""

import random

import pytest

from tests import config_overrides

# The config adds a variant, which the fixture takes away again.
pytestmark = pytest.mark.usefixtures('tiny_variant')


@pytest.mark.parametrize('seed', range(2))
def test_random_words_are_a_run_or_a_sentence(seed):
  for number in range(30):
    words = config_overrides.draw_words(random.Random(f'{seed} {number}'))
    said, fault = config_overrides.try_words(words)
    assert not fault, (words, said)


# As absl reads them.
RIGHT = ('-config.seed=1', '--')


@pytest.mark.parametrize(
  'word', [word for word in config_overrides.MALFORMED if word not in RIGHT]
)
def test_malformed_words_are_a_sentence(word):
  said, fault = config_overrides.try_words([word])
  assert not fault, said
  assert said != 'accepted'


@pytest.mark.slow
@pytest.mark.rotating
def test_processes_end_before_they_write():
  for number in range(6):
    words = config_overrides.draw_words(random.Random(f'processes {number}'))
    said, fault = config_overrides.try_words(words, processes=True)
    assert not fault or fault.endswith(' s'), (words, said)
