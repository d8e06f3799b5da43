"""`config.schedule` and `config.training.num_*`: the rates that are applied.

Read from what the optimizer does to a parameter, not from what is logged.
"""

import math

import pytest

from tests.wiring import runs
from tests.wiring.registry import proves

# 16 examples in batches of 8: two steps in an epoch.
STEPS_PER_EPOCH = 2


def _rates(**schedule):
  changes = {f'schedule.{name}': value for name, value in schedule.items()}
  a_run = runs.create_run({'training.num_steps': 8, **changes})
  rates = runs.collect_rates(a_run)
  # What is logged is what is applied.
  logged = [float(a_run.schedule(step)) for step in range(8)]
  assert rates == pytest.approx(logged, rel=1e-4)
  return rates


@proves('schedule.peak_learning_rate')
def test_the_peak_is_the_rate_without_warm_up_and_decay():
  for peak in (0.01, 0.5):
    rates = _rates(peak_learning_rate=peak)
    assert rates == pytest.approx([peak] * 8, rel=1e-4)


@proves('schedule.min_learning_rate')
def test_the_minimum_is_what_the_rate_falls_to():
  for minimum in (0.0, 0.004):
    rates = _rates(decay='linear', min_learning_rate=minimum)
    expected = [0.01 + k / 8 * (minimum - 0.01) for k in range(8)]
    assert rates == pytest.approx(expected, rel=1e-4)
  a_run = runs.create_run(
    {
      'training.num_steps': 8,
      'schedule.decay': 'cosine',
      'schedule.min_learning_rate': 0.004,
    }
  )
  assert runs.collect_rates(a_run, 10)[8:] == pytest.approx(
    [0.004] * 2, rel=1e-4
  )


@proves('schedule.decay')
def test_the_decay_is_the_way_down():
  done = [k / 8 for k in range(8)]
  assert _rates(decay='constant') == pytest.approx([0.01] * 8, rel=1e-4)
  assert _rates(decay='linear') == pytest.approx(
    [0.01 * (1 - x) for x in done], rel=1e-4
  )
  assert _rates(decay='cosine') == pytest.approx(
    [0.01 * math.cos(math.pi / 2 * x) ** 2 for x in done], rel=1e-4
  )


@proves('schedule.warmup_steps')
def test_warm_up_takes_so_many_steps():
  assert _rates(warmup_steps=4) == pytest.approx(
    [0, 0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01, 0.01], rel=1e-4
  )
  assert _rates(warmup_steps=0)[0] == pytest.approx(0.01, rel=1e-4)
  assert _rates(warmup_steps=1)[:2] == pytest.approx([0, 0.01], rel=1e-4)


@proves('schedule.warmup_epochs')
def test_warm_up_takes_so_many_epochs():
  for epochs in (1.0, 2.0):
    warmup = int(epochs * STEPS_PER_EPOCH)
    expected = [min(k / warmup, 1) * 0.01 for k in range(8)]
    assert _rates(warmup_epochs=epochs) == pytest.approx(expected, rel=1e-4)


@proves('schedule.max_warmup_fraction')
def test_a_longer_warm_up_is_shortened_to_a_part_of_the_run():
  for fraction, warmup in ((0.25, 2), (0.5, 4), (0.0, 6), (1.0, 6)):
    rates = _rates(max_warmup_fraction=fraction, warmup_epochs=3.0)
    expected = [min(k / warmup, 1) * 0.01 for k in range(8)]
    assert rates == pytest.approx(expected, rel=1e-4)


@proves('training.num_steps', 'training.num_epochs')
def test_a_run_takes_so_many_steps_or_epochs():
  for steps, epochs, expected in ((3, 0.0, 3), (0, 2.5, 5), (0, 3.0, 6)):
    a_run = runs.create_run(
      {
        'training.num_steps': steps,
        'training.num_epochs': epochs,
        'schedule.decay': 'linear',
      }
    )
    assert len(runs.record_loop(a_run).images) == expected
    # Decay ends where the run does.
    rates = runs.collect_rates(a_run, expected + 1)
    assert rates[-2] == pytest.approx(0.01 / expected, rel=1e-4)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
