"""Files made to do harm: a sentence, or moved aside and the one before used.

A part of what `hostile` tries; the command that it names tries all.
"""

import random

import pytest

from coatnet_jax.checkpoints import reading
from tests.checkpoints import hostile

NEWEST = 'checkpoints/4'
# One of each kind, where it did most harm.
CRAFTED = [
  ('lease.json', 'link to nothing', 'resume'),
  ('lease.json', 'wrong types', 'resume'),
  ('config.json', 'deep mapping', 'resume'),
  ('summary.json', 'list', 'resume'),
  (f'{NEWEST}/checksums.json', 'absolute names', 'load'),
  (f'{NEWEST}/checksums.json', 'enormous counts', 'verify'),
  (f'{NEWEST}/_CHECKPOINT_METADATA', 'pipe', 'resume'),
]
# Of older versions, which have nothing to be verified with.
OLDER = [
  (f'{NEWEST}/metrics/metrics', 'huge integers', 'resume'),
  (f'{NEWEST}/metrics/metrics', 'no metrics that decide', 'load'),
  (f'{NEWEST}/progress/metadata', 'wrong types', 'resume'),
  (f'{NEWEST}/metadata/metadata', 'huge', 'load'),
  (f'{NEWEST}/state/_METADATA', 'pipe', 'verify'),
]


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """Returns two workdirs: of now, and without checksums; not to be changed."""
  directory = tmp_path_factory.mktemp('hostile')
  return [
    hostile.save(directory / str(older), is_older=older)
    for older in (False, True)
  ]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
  monkeypatch.setattr(reading, 'RETRY_SECONDS', (0.0,) * 3)


def _check(saved, name, change, reader):
  for _, wrong in hostile.try_readers(saved, name, change, [reader]):
    assert not wrong


@pytest.mark.parametrize(
  ('is_older', 'case'),
  [(False, case) for case in CRAFTED] + [(True, case) for case in OLDER],
)
def test_a_crafted_file_is_a_sentence(saved, is_older, case):
  name, crafted, reader = case
  _check(saved[is_older], name, hostile.CRAFTED[crafted], reader)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(40))
def test_a_mutated_file_is_a_sentence(saved, seed):
  choose = random.Random(seed)
  workdir = choose.choice(saved)
  name, _ = choose.choice(hostile.list_crafted())
  if (workdir / name).exists():
    reader = choose.choice(tuple(hostile.READERS))
    _check(workdir, name, hostile.mutate(choose), reader)
