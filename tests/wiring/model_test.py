"""`config.model`: what the network that training uses is made of.

What only a whole step shows is in `train_step_test.py`.
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.initial_state import abstract_train_state
from tests.wiring import runs
from tests.wiring.registry import proves

VARIANTS = (runs.CONVOLUTIONS, runs.ATTENTION)


def _trace(function, a_run):
  """Returns the shapes, or the jaxpr, of the network on a training batch."""
  _, abstract = abstract_train_state(a_run)
  images = jax.ShapeDtypeStruct(
    a_run.abstract_batch['image'].shape, jnp.float32
  )

  def apply(variables, images):
    return a_run.model.apply(
      variables,
      images,
      train=True,
      mutable=['intermediates', 'batch_stats'],
      rngs={'dropout': jax.random.key(0)},
    )

  return function(apply)(abstract.variables, images)


def _count_primitives(changes):
  """Returns how often each primitive is in the forward pass's program."""
  counts = collections.Counter()

  def add(jaxpr):
    for equation in jaxpr.eqns:
      counts[equation.primitive.name] += 1
      # Where a primitive has several programs, they are a tuple.
      values = jax.tree.leaves(
        list(equation.params.values()),
        is_leaf=lambda value: hasattr(value, 'eqns'),
      )
      for value in values:
        if inside := _find_jaxpr(value):
          add(inside)

  add(_trace(jax.make_jaxpr, runs.create_run(changes)).jaxpr)
  return counts


def _find_jaxpr(value):
  value = getattr(value, 'jaxpr', value)
  return value if hasattr(value, 'eqns') else None


@proves('model.name')
def test_the_name_is_that_of_the_variant():
  kinds = {'mbconv': 'depthwise', 'transformer': 'attention'}
  for name, kind in zip(VARIANTS, kinds.values()):
    _, abstract = abstract_train_state(runs.create_run({'model.name': name}))
    names = str(jax.tree_util.tree_structure(abstract.params))
    assert [k for k in kinds.values() if f"'{k}'" in names] == [kind]


@proves('model.dtype')
def test_the_dtype_is_that_of_the_maps_and_not_of_what_is_kept():
  for dtype in ('float32', 'bfloat16'):
    a_run = runs.create_run({'model.dtype': dtype})
    logits, updates = _trace(lambda f: lambda *a: jax.eval_shape(f, *a), a_run)
    maps = updates['intermediates']
    assert {maps[name].dtype.name for name in ('s0', 's1')} == {dtype}
    assert logits.dtype == jnp.float32
    _, abstract = abstract_train_state(a_run)
    leaves = jax.tree.leaves(abstract.variables)
    assert {leaf.dtype.name for leaf in leaves} == {'float32'}


@proves('model.attention')
def test_attention_is_computed_by_the_implementation():
  # The TPU's kernel is in the program, or a backward pass of ours, or neither.
  for attention, has_kernel, has_backward in (
    ('auto', True, True),
    ('xla', False, True),
    ('reference', False, False),
  ):
    counts = _count_primitives(
      {'model.name': runs.ATTENTION, 'model.attention': attention}
    )
    assert ('pallas_call' in counts) == has_kernel
    assert ('platform_index' in counts) == has_backward


@proves('model.remat')
def test_blocks_are_computed_again_as_they_are_to():
  # Two blocks of each kind, and the stage around them.
  for remat, convolutions, attention in (
    ('none', 0, 0),
    ('expansions', 2, 0),
    ('blocks', 2, 2),
    ('everything', 3, 3),
  ):
    for name, count in zip(VARIANTS, (convolutions, attention)):
      counts = _count_primitives(
        {
          'model.name': name,
          'model.remat': remat,
          'model.attention': 'reference',
        }
      )
      assert counts['remat2'] == count


@proves('model.scan_blocks')
def test_equal_blocks_are_one_loop():
  # The first of a stage's three blocks is not like the others.
  for scans in (False, True):
    counts = _count_primitives(
      {'model.name': runs.MORE_CONVOLUTIONS, 'model.scan_blocks': scans}
    )
    assert counts['scan'] == scans


@proves('model.head_bias_init')
def test_biases_of_the_logits_start_at_the_number_and_nothing_else():
  states = {}
  for value in (0.0, -4.5):
    a_run = runs.create_run({'model.head_bias_init': value})
    states[value] = jax.device_get(abstract_train_state(a_run)[0]().params)
    biases = states[value]['head_logits'].pop('bias')
    assert biases.tolist() == pytest.approx([value] * runs.NUM_CLASSES)
  jax.tree.map(np.testing.assert_array_equal, *states.values())
