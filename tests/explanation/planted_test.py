"""Maps mean something: their mass lies on what decides the class."""

import functools
from unittest import mock

import jax
import numpy as np
import pytest

from coatnet_jax.explanation.attention_maps import (
  compute_relevance,
  compute_rollout,
)
from coatnet_jax.models import variants
from tests.explanation import planted

PASSES = 0.6
NUM_STEPS = 200


@pytest.fixture(scope='module', params=planted.VARIANTS)
def models(request):
  """Returns a model, and its variables trained and random."""
  with mock.patch.dict(variants.VARIANTS, planted.VARIANTS):
    model = planted.create_planted_model(request.param)
  kind = planted.KINDS[request.param]
  trained = planted.train(model, kind, NUM_STEPS)
  random = [planted.initialize(model, seed) for seed in (1, 2, 3)]
  return request.param, model, trained, random


def _list_maps(model):
  """Returns what computes maps, by the map's name."""
  return {
    'rollout': lambda variables, images, _: compute_rollout(
      model, variables, images
    ),
    'relevance': functools.partial(compute_relevance, model),
  }


@pytest.mark.slow
def test_the_mass_of_maps_lies_on_the_planted_object(models):
  name, model, trained, random = models
  kind = planted.KINDS[name]
  images, labels, corners = planted.make_pictures(
    np.random.default_rng(1), 100, kind
  )
  apply = jax.jit(functools.partial(model.apply, train=False))
  predicted = apply(trained, images).argmax(-1)
  assert (predicted == labels).mean() > 0.95
  masses = {}
  for title, compute in _list_maps(model).items():
    compute = jax.jit(compute)
    masses[title] = [
      planted.measure_mass(
        np.asarray(compute(v, images, labels)), corners, kind.side
      )
      for v in (trained, *random)
    ]
  for found in masses.values():
    assert found[0] > PASSES, masses
    assert max(found[1:]) < PASSES / 2, masses
