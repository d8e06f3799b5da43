"""What the arguments of `tools.evaluate` mean, without a model."""

import types

import pytest

from coatnet_jax.data.sources import DataOptions
from coatnet_jax.errors import UserError
from configs import base
from tools import command_line, evaluate


@pytest.mark.parametrize(
  ('text', 'size'),
  [('384', (384, 384)), ('384x256', (384, 256)), ('1x12', (1, 12))],
)
def test_sizes_are_height_by_width(text, size):
  assert command_line.parse_image_size(text) == size
  assert evaluate.parse_image_sizes(f'{text},7') == [size, (7, 7)]


@pytest.mark.parametrize(
  ('text', 'shots'),
  [('5', (5,)), ('10', (10,)), ('1,5,10', (1, 5, 10)), ('010', (10,))],
)
def test_shots_are_numbers(text, shots):
  assert evaluate.parse_shots(text) == shots


def _resolve(**changes):
  config = base.get_config()
  config.data.eval_split = 'mine'
  config.data.data_dir = '/own'
  trained = types.SimpleNamespace(config=config)
  return evaluate.resolve_data(trained, changes)


def test_what_is_not_named_is_as_in_the_run():
  (data,) = _resolve()
  assert (data.name, data.eval_split) == ('imagenet2012', 'mine')
  assert data.data_dir == '/own'


def test_options_of_the_data_are_the_users():
  (data,) = _resolve(data_dir='/other', eval_split='test', num_threads=3)
  assert (data.data_dir, data.eval_split) == ('/other', 'test')
  assert data.num_threads == 3


def test_other_data_have_their_usual_split_unless_it_is_named():
  both = _resolve(name='imagenet_a, imagenet_v2')
  assert [data.name for data in both] == ['imagenet_a', 'imagenet_v2']
  assert [data.eval_split for data in both] == ['test', 'test']
  (named,) = _resolve(name='imagenet_a', eval_split='test[:10%]')
  assert named.eval_split == 'test[:10%]'


@pytest.mark.parametrize('kind', ['folder', 'list'])
@pytest.mark.parametrize('has_splits', [False, True])
def test_a_split_of_data_without_splits_is_refused(tmp_path, kind, has_splits):
  """Else what is held out would be evaluated, and not what was asked for."""
  for split in ('train', 'test') if has_splits else ('',):
    for name in ('cat', 'dog'):
      (tmp_path / split / name).mkdir(parents=True)
      (tmp_path / split / name / '1.png').touch()
  data_dir = tmp_path
  if kind == 'list':
    data_dir = tmp_path / 'labels.csv'
    splits = ('train', 'test') if has_splits else ('', '')
    rows = [f'{i}.png,cat,{split}' for i, split in enumerate(splits)]
    data_dir.write_text('\n'.join(['path,label,split', *rows]))
  changes = {
    'source': 'folder',
    'data_dir': str(data_dir),
    'eval_split': 'test',
  }
  if has_splits:
    (data,) = _resolve(**changes)
    assert data.eval_split == 'test'
  else:
    with pytest.raises(UserError, match='has no splits of its own: leave it'):
      _resolve(**changes)
    changes.pop('eval_split')
    _resolve(**changes)


# Fraction, folds, fold and groups, as the run has them.
_OWN = (0.1, 5, 2, 'p1')


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    ({}, (1.0, 0, 0, '')),
    ({'num_folds': 4, 'fold': 0}, (0.1, 4, 0, 'p1')),
    ({'fold': 0}, (0.1, 5, 0, 'p1')),
    ({'num_folds': 4}, (0.1, 4, 2, 'p1')),
    ({'group_pattern': 'p2'}, (0.1, 5, 2, 'p2')),
    ({'eval_fraction': 0.3}, (0.3, 0, 0, 'p1')),
    ({'eval_fraction': 0.3, 'fold': 1}, (0.3, 5, 1, 'p1')),
  ],
)
def test_a_division_that_is_named_is_kept_for_moved_data(changes, expected):
  config = base.get_config()
  names = ('eval_fraction', 'num_folds', 'fold', 'group_pattern')
  config.data.update(source='folder', data_dir='/own', **dict(zip(names, _OWN)))
  trained = types.SimpleNamespace(config=config)
  data = DataOptions(**{**config.data, 'data_dir': '/moved', **changes})
  changes = {'data_dir': '/moved', **changes}
  data = evaluate.hold_nothing_out(data, trained, changes)
  assert tuple(getattr(data, name) for name in names) == expected
