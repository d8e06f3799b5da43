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
from coatnet_jax.explanation.class_activation import compute_grad_cam
from coatnet_jax.models import variants
from tests.explanation import planted

PASSES = 0.6
NUM_STEPS = 200


def _compute_rollout(model, variables, images, classes):
  del classes  # It is the same for all.
  return compute_rollout(model, variables, images)


# What maps are computed by, for each variant.
METHODS = {
  'planted_attention': (_compute_rollout, compute_relevance),
  'planted_convolutions': (functools.partial(compute_grad_cam, stage='s2'),),
}


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('name', planted.VARIANTS)
def test_the_mass_of_maps_lies_on_the_planted_object(name):
  with mock.patch.dict(variants.VARIANTS, planted.VARIANTS):
    model = planted.create_planted_model(name)
  trained = planted.train(model, NUM_STEPS)
  random = [planted.initialize(model, seed) for seed in (1, 2, 3)]
  images, labels, corners = planted.make_pictures(np.random.default_rng(1), 150)
  apply = jax.jit(functools.partial(model.apply, train=False))
  predicted = apply(trained, images).argmax(-1)
  assert (predicted == labels).mean() > 0.95
  shown = np.flatnonzero(labels != planted.NO_OBJECT)[:100]
  assert len(shown) == 100
  for method in METHODS[name]:
    compute = jax.jit(functools.partial(method, model))
    masses = [
      planted.measure_mass(
        np.asarray(compute(variables, images[shown], labels[shown])),
        corners[shown],
      )
      for variables in (trained, *random)
    ]
    assert masses[0] > PASSES, (method, masses)
    assert max(masses[1:]) < PASSES / 2, (method, masses)
