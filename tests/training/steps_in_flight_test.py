"""The bound of steps in flight, and the time in which there are none."""

import threading
import time

import jax
import pytest

from coatnet_jax.training import steps_in_flight
from coatnet_jax.training.steps_in_flight import StepsInFlight


class _Steps:
  """Steps whose ends are told: an event each, in the place of arrays."""

  def __init__(self, monkeypatch):
    monkeypatch.setattr(
      steps_in_flight.jax, 'block_until_ready', lambda step: step.wait(10)
    )

  def create(self, number):
    return [threading.Event() for _ in range(number)]


@pytest.fixture
def steps(monkeypatch):
  return _Steps(monkeypatch)


def test_two_steps_are_in_flight(steps):
  first, second, third = steps.create(3)
  with StepsInFlight() as in_flight:
    in_flight.add(first)
    in_flight.add(second)  # Waits for nothing.
    adding = threading.Thread(target=in_flight.add, args=(third,))
    adding.start()
    adding.join(0.1)
    assert adding.is_alive()
    first.set()
    adding.join(10)
    assert not adding.is_alive()
    second.set()
    third.set()


def test_idle_is_from_the_end_of_the_last_step(steps):
  (step,) = steps.create(1)
  with StepsInFlight() as in_flight:
    began = time.monotonic()
    assert in_flight.count_idle_seconds(began - 9) == 0.0  # Before the first.
    in_flight.add(step)
    time.sleep(0.2)
    assert in_flight.count_idle_seconds(began) == 0.0  # It is computed.
    assert time.monotonic() - began < 5  # Nobody waited for it.
    step.set()
    in_flight._last.result()
    ended = time.monotonic()
    time.sleep(0.05)
    idle = in_flight.count_idle_seconds(began)
    assert 0.05 <= idle <= time.monotonic() - ended + 0.05
    # Counted from when the host began to wait.
    assert in_flight.count_idle_seconds(time.monotonic()) < 0.05


def test_a_step_that_fails_is_for_the_loop_to_meet(monkeypatch):
  monkeypatch.setattr(
    steps_in_flight.jax,
    'block_until_ready',
    lambda _: (_ for _ in ()).throw(jax.errors.JaxRuntimeError('lost')),
  )
  with StepsInFlight(limit=0) as in_flight:
    in_flight.add(None)
