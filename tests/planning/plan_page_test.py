import dataclasses

from coatnet_jax.planning import plan_page
from coatnet_jax.planning.plan_page import Target
from coatnet_jax.tpu_compiler import topologies
from tests.planning.plan_examples import PLAN, TOO_LARGE

PAGE = """\
Plan of configs/coatnet_0.py on 2 x v5e-16
Compiler estimate (libtpu 1.2), not measured on a TPU.

model       coatnet_0, 224x224 px, bfloat16, remat none; 25,000,000 parameters
data        imagenet2012: 1,281,167 images, 1,000 classes
chips       32 on 8 host(s); mesh: replica 2, data 16, fsdp 1, tensor 1
batch       4,096 images per step, 128 per chip, in 2 parts

HBM per chip              GiB
  parameters             0.125
  optimizer state        0.250
  averages (EMA)         0.000
  batch statistics       0.000
  batch                  0.016
  padding of these       0.000
  temporaries            8.000
  program                0.062
  needed                 8.453 of 15.75: fits, 7.30 left

A step, without collectives
  cycles              150.00 million, 100.00 ms at 1.50 GHz; Pallas kernels 10.0%
  HBM traffic         40.95 GB per chip, 50.00 ms at its bandwidth
  images/s            40,960; 1,280 per chip
  FLOPs per image     8.40 G forward, 25.20 G in training (compiler: 24.90 G, loops once, no kernels)
  share of peak       16.4%

Cycles by stage         by kind of layer
  s0          20.0%     attention               100.0%
  s1          80.0%

Collectives                   per step    MB per chip
  all-reduce                       90         50.123
  0.500 ms at the bandwidth of the links within a slice, by arithmetic

The whole recipe, without evaluation
  steps               93,835
  hours               2.6; 83 chip-hours
  each host decodes   5,120 images/s

Planned in 301 s and 5.6 GiB of memory."""  # noqa: E501


def test_the_page():
  assert plan_page.format_page(PLAN, 'configs/coatnet_0.py') == PAGE


def test_a_plan_that_does_not_fit_says_by_how_much():
  page = plan_page.format_page(TOO_LARGE, 'x.py')
  assert '  temporaries                ?\n' in page
  assert (
    '  needed                24.000 of 15.75: does not fit, by 8.25' in page
  )
  assert 'images/s' not in page


def test_one_chip_has_no_collectives():
  page = plan_page.format_page(
    dataclasses.replace(PLAN, collectives={}, link_seconds=0.0), 'x.py'
  )
  assert 'MB per chip\n  none\n\n' in page


def test_plans_side_by_side():
  lines = [
    plan_page.format_titles(14),
    plan_page.format_row('remat=none', TOO_LARGE, 14),
    plan_page.format_row('remat=blocks', PLAN, 14),
  ]
  assert lines[0].split()[:3] == ['per', 'chip', 'HBM']
  assert lines[1].split() == [
    *('remat=none', '128', '24.00', 'no', '-', '-', '-', '-', '301'),
  ]
  assert lines[2].split() == [
    *('remat=blocks', '128', '8.45', 'yes', '150.0', '40,960', '16.4%'),
    *('50.12', '301'),
  ]
  assert len({len(line) for line in lines}) == 1


def test_slices_count_together():
  target = Target(slice=topologies.get_slice('v4-128'), num_slices=2)
  assert target.name == '2 x v4-128'
  assert (target.num_chips, target.num_hosts) == (128, 32)
