"""What figures are made of, without a compiler or a clock."""

import itertools
import re

import pytest

from benchmarks.attention import figures, programs
from benchmarks.attention.cases import CASES, Case
from coatnet_jax.tpu_compiler import topologies


def test_programs_are_timed_in_turn():
  order = []
  runs = {name: lambda name=name: order.append(name) or name for name in 'ab'}
  rounds = [*itertools.islice(programs.time_in_turn(runs), 2)]
  assert ''.join(order) == 'ababab'  # The first round does not count.
  assert [list(seconds) for seconds in rounds] == [['a', 'b'], ['a', 'b']]


def test_the_floors():
  """Head size 32 uses a quarter of a matrix unit."""
  case, chip = CASES[0], topologies.get_chip('v5e')
  assert (case.grid, case.batch, case.heads) == ((14, 14), 128, 12)
  product, hbm = (
    floor(chip, 'forward') / 1e6
    for floor in (case.compute_product_floor, case.compute_hbm_floor)
  )
  assert product == pytest.approx(0.23, abs=0.005)
  assert hbm == pytest.approx(0.14, abs=0.005)
  wide = Case(grid=(14, 14), batch=128, heads=3, head_dim=128)
  assert wide.compute_product_floor(chip, 'forward') * 4 == pytest.approx(
    product * 1e6, abs=2
  )


@pytest.mark.parametrize(
  ('name', 'counts'),
  [
    ('qkv/slice', True),
    ('qkv/reshape', True),
    ('reshape', True),
    ('out/dot_general', False),
    ('qkv/dot_general', False),
    ('relative_attention/pallas_call', False),
  ],
)
def test_layouts_around_attention_stand_beside_it(name, counts):
  name = f'jit(train_step)/jvp(CoAtNet)/s3_block_0/attention/{name}'
  found = re.search(figures._NOT_BESIDE_ATTENTION, name)
  assert counts == (found is None)
