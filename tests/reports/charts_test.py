"""Axes of charts, whatever the numbers."""

import pytest

from coatnet_jax.reports.charts import Axes, round_range


@pytest.mark.parametrize(
  ('low', 'high'),
  [
    *((0.0, 0.0), (0.0, 1e-13), (0.0, 5e-324), (1e-13, 2e-13), (-1e-12, 0.0)),
    *((1e-9, 1e-9), (1e-9, 1.001e-9), (0.5, 0.5 + 1e-13), (1.0, 1.0 + 3e-16)),
    *((1e6, 1e6 + 3e-10), (1e15, 1e15 + 0.125), (0.0, 1e-9), (0.0, 1e6)),
  ],
)
def test_a_range_of_any_width_has_ticks_around_it(low, high):
  limits = round_range(low, high, 5)
  assert limits[0] <= low <= high <= limits[1]
  axes = Axes((0, 1), limits)
  line = axes.create_line('', [0, 1], [low, high], 0)
  ticks = axes.create_chart('', '', '', lines=(line,)).y_ticks
  assert 2 <= len(ticks) <= 12
  assert len({place for place, _ in ticks}) == len(ticks)
