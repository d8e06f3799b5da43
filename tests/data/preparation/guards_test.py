"""What preparing takes for granted, and looks at all the same."""

import numpy as np
import pytest

from coatnet_jax.data.preparation import preparation, report
from coatnet_jax.data.preparation.examples import Examples, hold_out_fraction
from coatnet_jax.data.preparation.imagenet import ArchiveSource
from coatnet_jax.errors import UserError


def _examples(count, size=10):
  return Examples(
    names=np.array([f'{i:06d}.jpg'.encode() for i in range(count)]),
    labels=np.zeros(count, np.int32),
    files=np.zeros(count, np.int32),
    offsets=size * np.arange(count),
    sizes=np.full(count, size, np.int64),
  )


@pytest.mark.parametrize('left', [29, 21, 0])
def test_an_archive_that_became_shorter_is_an_error(tmp_path, left):
  path = tmp_path / 'images.tar'
  path.write_bytes(bytes(range(30)))
  source = ArchiveSource('x', '1.0.0', '', ('a',), (path,), {})
  assert source.read(_examples(3), 2) == bytes(range(20, 30))
  path.write_bytes(bytes(range(left)))
  with pytest.raises(UserError, match='has become shorter'):
    source.read(_examples(3), 2)


def test_a_directory_is_prepared_by_one_at_a_time(tmp_path):
  with (
    preparation._exclusive(tmp_path / 'set'),
    pytest.raises(UserError, match='Another process is preparing'),
    preparation._exclusive(tmp_path / 'set'),
  ):
    pass
  with preparation._exclusive(tmp_path / 'set'):
    pass


def test_what_is_held_out_does_not_follow_from_the_order():
  examples = _examples(4000)
  train, held_out = hold_out_fraction(examples, 0.25)
  assert len(train) + len(held_out) == 4000
  first = set(examples.shuffled().names[:1000].tolist())
  both = len(first & set(held_out.names.tolist()))
  assert abs(both - 250) < 5 * (1000 * 0.25 * 0.75) ** 0.5


def test_the_report_counts_reasons():
  rows = [['a.jpg', 'empty file'], ['b.jpg', 'empty file'], ['c.jpg', 'other']]
  split = {
    'num_examples': 1,
    'num_shards': 1,
    'num_bytes': 2,
    'changed': [],
    'dropped': rows,
  }
  summary = {'name': 'x', 'num_classes': 1, 'notes': [], 'splits': {'s': split}}
  lines = [line.split() for line in report.to_text(summary).splitlines()]
  assert ['dropped:', '3'] in lines
  assert ['2', 'empty', 'file'] in lines
  assert ['1', 'other'] in lines
