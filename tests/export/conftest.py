"""A small model with random weights, which no test trains."""

import numpy as np
import pytest

from coatnet_jax.export import parity
from coatnet_jax.export.formats import Request
from tests.export.models import create_trained


@pytest.fixture(autouse=True)
def _briefly(monkeypatch):
  """Has nothing be timed for longer than it takes once."""
  monkeypatch.setattr(parity, '_SECONDS', 0.0)


@pytest.fixture(scope='module')
def trained(tiny_variant):
  """Returns a model of a block of each kind."""
  return create_trained('tiny', (16, 32))


@pytest.fixture(scope='session')
def images():
  """Returns pictures, [5, 16, 32, 3] uint8."""
  shape = (5, 16, 32, 3)
  return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


@pytest.fixture
def request_of(trained, images):
  """Returns a function that makes a request of what differs."""

  def create(**changes):
    return Request(
      **{
        'trained': trained,
        'find_samples': lambda: images,
        **changes,
      }
    )

  return create
