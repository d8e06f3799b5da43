"""Which branches are dropped: how often, and that each is drawn by itself.

Against binomial distributions, within five standard deviations, of many
examples and keys.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.models import convnext, mbconv, transformer
from coatnet_jax.models.factory import create_model
from coatnet_jax.models.layers import drop_branch
from coatnet_jax.models.variants import BlockGroup, Stage

RATE = 0.6
BATCH, KEYS = 512, 6
# Branches of each block, by kind.
BRANCHES = {'mbconv': 1, 'transformer': 2, 'convnext': 1}
KINDS = ('mbconv', 'convnext', 'transformer', 'transformer')


def record_branches(monkeypatch):
  """Lets each dropping note which examples kept the branch, and by what."""
  notes = []

  def drop_and_note(x, *args):
    y = drop_branch(x, *args)
    axes = tuple(range(1, x.ndim))
    # Of the sum, which is not 0: what is kept is multiplied.
    notes.append((y.sum(axes) / x.sum(axes), jnp.abs(x).sum(axes)))
    return y

  for module in (mbconv, transformer, convnext):
    monkeypatch.setattr(module, 'drop_branch', drop_and_note)
  return notes


def draw_factors(monkeypatch, seeds):
  """Returns [keys, branches, examples]: what each branch is multiplied by."""
  notes = record_branches(monkeypatch)
  model = create_model(
    'coatnet_0',
    num_classes=2,
    stem={'widths': (4, 4)},
    stages=tuple(Stage((BlockGroup(kind, 1, 4),)) for kind in KINDS),
    transformer={'head_dim': 4},
    stochastic_depth_rate=RATE,
  )
  images = jax.random.normal(jax.random.key(0), (BATCH, 32, 32, 3))
  variables = jax.jit(lambda key: model.init(key, images[:1], train=False))(
    jax.random.key(1, impl='rbg')
  )

  @jax.jit
  def draw(key):
    notes.clear()
    model.apply(
      variables,
      images,
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': key},
    )
    return jnp.stack([factors for factors, _ in notes])

  return np.stack([draw(jax.random.key(seed)) for seed in seeds])


@pytest.mark.slow
@pytest.mark.rotating
def test_every_branch_is_dropped_by_its_rate_and_by_itself(monkeypatch):
  *factors, again = draw_factors(monkeypatch, (*range(KEYS), 0))
  np.testing.assert_array_equal(factors[0], again)
  factors = np.stack(factors)
  rates = np.repeat(
    RATE * np.arange(len(KINDS)) / len(KINDS),
    [BRANCHES[kind] for kind in KINDS],
  )
  assert factors.shape == (KEYS, len(rates), BATCH)
  kept = factors > 0.5
  # What is kept makes up for what is dropped.
  scales = np.broadcast_to(1 / (1 - rates)[:, None], factors.shape)
  np.testing.assert_allclose(factors[kept], scales[kept], rtol=1e-3)
  np.testing.assert_allclose(factors[~kept], 0)
  for branch, rate in zip(kept.swapaxes(0, 1), rates, strict=True):
    check_count((~branch).sum(), branch.size, rate)
    # The next example, and the same one at the next step.
    check_independent(branch[:, 1:], branch[:, :-1], rate, rate)
    check_independent(branch[1:], branch[:-1], rate, rate)
  for (i, a), (j, b) in itertools.combinations(enumerate(rates), 2):
    check_independent(kept[:, i], kept[:, j], a, b)


def check_count(found, count, probability):
  spread = math.sqrt(count * probability * (1 - probability))
  assert abs(found - count * probability) <= 5 * spread


def check_independent(one, other, rate, other_rate):
  """Checks how often both of two branches are dropped."""
  both = (~one & ~other).sum()
  check_count(both, one.size, rate * other_rate)
