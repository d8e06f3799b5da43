import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.models.factory import create_model
from coatnet_jax.weights.adaptation import (
  adapt_variables,
  check_variables,
  initialize_head,
  resize_position_embedding,
  resize_relative_position_bias_table,
)


def _interpolate(row, length):
  """Bilinear with half-pixel centres, of one row, in float64."""
  places = (np.arange(length) + 0.5) * len(row) / length - 0.5
  return np.interp(places, np.arange(len(row)), row)


@pytest.mark.parametrize(
  ('old', 'new'),
  [((7, 7), (12, 12)), ((4, 6), (3, 8)), ((8, 5), (3, 2)), ((1, 1), (3, 2))],
)
def test_tables_are_resized_bilinearly(old, new):
  shape = (2, 2 * old[0] - 1, 2 * old[1] - 1)
  table = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  resized = resize_relative_position_bias_table(table, new)
  expected = np.apply_along_axis(_interpolate, 1, table, 2 * new[0] - 1)
  expected = np.apply_along_axis(_interpolate, 2, expected, 2 * new[1] - 1)
  assert resized.dtype == jnp.float32
  np.testing.assert_allclose(resized, expected, atol=1e-5)


def test_known_values():
  table = np.array([[[0, 0, 0], [1, 2, 3], [0, 0, 0]]], np.float32)
  resized = resize_relative_position_bias_table(table, (2, 3))
  np.testing.assert_allclose(resized[0, 1], [1, 1.4, 2, 2.6, 3], rtol=1e-6)
  np.testing.assert_array_equal(resized[0, [0, 2]], np.zeros((2, 5)))


@pytest.mark.parametrize('grid', [(2, 3), (9, 16)])
def test_offset_zero_stays_in_the_middle_and_a_constant_constant(grid):
  table = np.zeros((1, 7, 7), np.float32)
  table[0, 3, 3] = 1
  resized = np.asarray(resize_relative_position_bias_table(table, grid))
  assert resized.max() == resized[0, grid[0] - 1, grid[1] - 1] == 1
  np.testing.assert_allclose(resized, resized[:, ::-1, ::-1], atol=1e-6)
  same = resize_relative_position_bias_table(np.full_like(table, 3), grid)
  np.testing.assert_allclose(same, 3, rtol=1e-6)


def test_a_table_of_the_size_is_returned_itself():
  table = np.ones((2, 7, 5), np.float32)
  assert resize_relative_position_bias_table(table, (4, 3)) is table


def test_absolute_positions_are_resized_alike():
  positions = np.random.default_rng(0).normal(size=(3, 5, 2))
  expected = resize_relative_position_bias_table(
    positions.transpose(2, 0, 1), (4, 6)
  )
  np.testing.assert_allclose(
    resize_position_embedding(positions, (7, 11)),
    expected.transpose(1, 2, 0),
    atol=1e-6,
  )
  adapted, changes = adapt_variables(
    {'params': {'position_embedding': positions}, 'batch_stats': {}},
    {
      'params': {'position_embedding': np.zeros((4, 4, 2), np.float32)},
      'batch_stats': {},
    },
  )
  assert adapted['params']['position_embedding'].shape == (4, 4, 2)
  assert changes == ['resized 1 position embedding, 3x5 to 4x4']


def _variables(grids=((4, 4), (2, 2)), classes=3):
  """Returns variables like a model's, of 1, 2, 3 and so on."""
  params = {
    f's{3 + i}_block_0': {
      'attention': {
        'relative_position_bias_table': (2, 2 * h - 1, 2 * w - 1),
        'relative_position_mlp': {'hidden': {'kernel': (2, 8)}},
      }
    }
    for i, (h, w) in enumerate(grids)
  }
  params['head_logits'] = {'kernel': (5, classes), 'bias': (classes,)}
  shapes = {'params': params, 'batch_stats': {'s0_norm': {'mean': (5,)}}}
  leaves, tree = jax.tree.flatten(shapes, lambda x: isinstance(x, tuple))
  return tree.unflatten(
    [np.full(shape, 1 + i, np.float32) for i, shape in enumerate(leaves)]
  )


def _shapes(variables):
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables
  )


def test_what_fits_is_untouched():
  variables = _variables()
  adapted, changes = adapt_variables(variables, _shapes(variables))
  assert changes == []
  jax.tree.map(np.testing.assert_array_equal, adapted, variables)


def test_another_size_and_other_classes_change_tables_and_head_only():
  old = _variables()
  target = _variables(grids=((6, 8), (3, 4)), classes=7)
  head = {'kernel': np.full((5, 7), 40.0), 'bias': np.full(7, 50.0)}
  adapted, changes = (
    jax.jit(lambda v, h: adapt_variables(v, _shapes(target), new_head=h)[0])(
      old, head
    ),
    check_variables(old, target, new_head=True),
  )
  assert changes == [
    'resized 2 relative position tables, 4x4 to 6x8 and 2x2 to 3x4',
    'head_logits: 3 classes replaced by 7, newly initialised',
  ]
  expected = _variables(grids=((6, 8), (3, 4)), classes=7)
  expected['params']['head_logits'] = head
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), adapted, expected
  )
  assert {leaf.dtype.name for leaf in jax.tree.leaves(adapted)} == {'float32'}


def test_a_model_without_batch_statistics_has_none():
  old, target = _variables(), _variables(grids=((5, 5), (2, 2)))
  old['batch_stats'] = target['batch_stats'] = {}
  adapted, changes = adapt_variables(old, target)
  assert adapted['batch_stats'] == {}
  assert changes == ['resized 1 relative position table, 4x4 to 5x5']


def test_a_head_for_other_classes_has_to_be_asked_for():
  with pytest.raises(UserError) as info:
    adapt_variables(_variables(), _variables(classes=1000), source='FILE')
  assert str(info.value).splitlines() == [
    'The model does not fit FILE. The difference in shapes:',
    '  params/head_logits/bias: (3,) saved, (1000,) in the model',
    '  params/head_logits/kernel: (5, 3) saved, (5, 1000) in the model',
    'A head of 3 classes is replaced by one of 1,000 only where a new head is'
    ' asked for.',
  ]


def test_every_other_difference_is_listed():
  old, target = _variables(), _variables(grids=((6, 6), (2, 2)), classes=7)
  del old['batch_stats']['s0_norm']['mean']
  old['params']['gamma'] = np.ones(2)
  attention = old['params']['s4_block_0']['attention']
  attention['relative_position_bias_table'] = np.ones((4, 3, 3))
  old['params']['head_logits']['kernel'] = np.ones((6, 3))
  with pytest.raises(UserError) as info:
    check_variables(old, target, new_head=True)
  assert str(info.value).splitlines()[1:] == [
    '  batch_stats/s0_norm/mean: none saved, (5,) in the model',
    '  params/gamma: (2,) saved, none in the model',
    '  params/head_logits/kernel: (6, 3) saved, (5, 7) in the model',
    '  params/s4_block_0/attention/relative_position_bias_table: (4, 3, 3)'
    ' saved, (2, 3, 3) in the model',
  ]


def test_a_model_of_another_kind_is_refused_in_few_lines():
  old = {'params': {f'layer_{i:03}': np.ones(2) for i in range(500)}}
  with pytest.raises(UserError) as info:
    check_variables(old, _variables())
  lines = str(info.value).splitlines()
  assert len(lines) == 22
  assert lines[-1].endswith(' more')


@pytest.mark.usefixtures('tiny_variant')
def test_a_new_head_is_as_the_model_starts():
  model = create_model('tiny', num_classes=7)
  head = initialize_head(model, (32, 32), jax.random.key(3))
  modules = ['head_logits', 'head_norm', 'head_pre_logits']
  assert sorted(head['params']) == modules
  assert not head.get('batch_stats')
  head = head['params']['head_logits']
  assert head['kernel'].shape == (32, 7)
  # LeCun's initialisation, which the variant has.
  assert head['kernel'].std() == pytest.approx(32**-0.5, rel=0.2)
  assert head['bias'].tolist() == [0] * 7
