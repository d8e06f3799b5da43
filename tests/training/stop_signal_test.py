"""What a process does that is asked to stop, once and twice."""

import signal

import pytest

from coatnet_jax.training.stop_signal import StopSignal


@pytest.fixture(autouse=True)
def _unheard_it_is_an_error():
  def fail(number, frame):
    del frame
    raise AssertionError(f'{signal.Signals(number).name} is not heard.')

  # SIGTERM would end the tests; SIGINT is as Python has it.
  handlers = {signal.SIGTERM: fail, signal.SIGINT: signal.default_int_handler}
  before = {
    number: signal.signal(number, handler)
    for number, handler in handlers.items()
  }
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_first_only_asks(number):
  before = signal.getsignal(number)
  with StopSignal() as stop:
    assert not stop.is_due()
    signal.raise_signal(number)
    assert stop.is_due()
    assert stop.is_due()
  assert signal.getsignal(number) is before


@pytest.mark.parametrize('first', [signal.SIGINT, signal.SIGTERM])
def test_the_second_acts_as_usual(first):
  with StopSignal() as stop:
    signal.raise_signal(first)
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
    assert stop.is_due()


def test_without_one_the_signals_are_given_back():
  before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
  with StopSignal():
    pass
  after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
  assert after == before
