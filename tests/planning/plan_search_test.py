import dataclasses
import types

import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.planning import plan_search
from configs import coatnet_0
from tests.planning.plan_examples import GIB, PLAN, TOO_LARGE


@pytest.fixture
def config():
  return coatnet_0.get_config()


def create_run(config, shards=32):
  """Returns what of a run is looked at: its config, and 32 shards."""
  shape = {'replica': 1, 'data': shards, 'fsdp': 1, 'tensor': 1}
  return types.SimpleNamespace(
    config=config,
    training=config.training,
    mesh=types.SimpleNamespace(shape=shape),
  )


class FakePlanner:
  """Plans with 1 GiB, and as much again for some images of a shard.

  It says that `fixed` GiB of it do not depend on the batch.
  """

  def __init__(self, images_per_gib, shards=32, fixed=1):
    self.images_per_gib = images_per_gib
    self.shards = shards
    self.memory = {'parameters': fixed * GIB, 'batch': 0, 'temporaries': None}
    self.tried = []

  def __call__(self, config):
    batch = config.training.global_batch_size
    parts = config.training.gradient_accumulation_steps
    assert batch % (self.shards * parts) == 0
    images = batch // (self.shards * parts)
    self.tried.append(images)
    needed = int((1 + images / self.images_per_gib) * GIB)
    fits = needed <= PLAN.available_bytes
    return dataclasses.replace(
      PLAN if fits else TOO_LARGE,
      needed_bytes=needed,
      memory=self.memory,
      per_chip_batch_size=batch / self.shards,
    )


@pytest.mark.parametrize(
  ('images_per_gib', 'largest'),
  [
    (16.0, 224),  # 236 fit; 256 do not.
    (8.7, 128),
    (100.0, 1408),  # 1,475 fit.
    (0.5, 7),
    (0.07, 1),
  ],
)
def test_the_largest_batch_that_fits_is_found_in_few_tries(
  config, images_per_gib, largest
):
  config.training.global_batch_size = 4096
  for fixed, most_tries in ((1, 5), (0, 8)):
    planner = FakePlanner(images_per_gib, fixed=fixed)
    *_, best = plan_search.find_batch(config, create_run(config), planner)
    assert best.fits
    assert best.per_chip_batch_size == largest
    assert planner.tried[0] == 128
    assert len(planner.tried) == len(set(planner.tried)) <= most_tries


def test_micro_batches_are_kept(config):
  config.training.global_batch_size = 4096
  config.training.gradient_accumulation_steps = 2
  *_, best = plan_search.find_batch(
    config, create_run(config), FakePlanner(4.0)
  )
  assert best.per_chip_batch_size == 2 * 56


def test_where_one_image_is_too_much(config):
  with pytest.raises(UserError, match='Not even 32 images per step fit'):
    [*plan_search.find_batch(config, create_run(config), FakePlanner(0.01))]


def test_choices_are_read():
  assert plan_search.parse_choices('remat,fsdp=1:8,scan=True') == [
    ('remat', 'model.remat', ('none', 'expansions', 'blocks', 'everything')),
    ('fsdp', 'sharding.fsdp', (1, 8)),
    ('scan', 'model.scan_blocks', (True,)),
  ]
  with pytest.raises(
    UserError, match="is 'chips'; it must be one of remat, scan"
  ):
    plan_search.parse_choices('chips')
  with pytest.raises(UserError, match="'fsdp=x'; fsdp takes whole numbers"):
    plan_search.parse_choices('fsdp=x')


def test_choices_are_made_one_at_a_time(config):
  seen = []

  def plan(config):
    seen.append((config.model.remat, config.sharding.fsdp))
    if config.sharding.fsdp == 5:
      raise UserError('It does not divide the devices.')
    return PLAN

  choices = plan_search.parse_choices('remat=none:blocks,fsdp=1:5:8')
  labels = [label for label, _ in plan_search.compare(config, choices, plan)]
  assert labels == [
    *('remat=none (config)', 'remat=blocks', 'fsdp=1 (config)', 'fsdp=8'),
  ]
  # What the config has already is planned once.
  assert seen == [('none', 1), ('blocks', 1), ('none', 5), ('none', 8)]


def test_what_may_fit_is_computed(config):
  lines = plan_search.suggest(TOO_LARGE, create_run(config))
  # (15.75 - 0.375) / (24 - 0.375) of 64 images in each of two parts, rounded.
  assert lines == [
    'config.training.global_batch_size=2560 (80 images per shard instead of'
    ' 128)',
    'config.training.gradient_accumulation_steps=4 (the same batch, in parts)',
    "config.model.remat='blocks' (computes each block twice)",
  ]


def test_parameters_that_do_not_fit_are_to_be_divided(config):
  config.model.remat = 'blocks'
  memory = TOO_LARGE.memory | {'optimizer state': 20 * GIB}
  plan = dataclasses.replace(TOO_LARGE, memory=memory)
  (line,) = plan_search.suggest(plan, create_run(config))
  assert line.startswith(
    'config.sharding.fsdp=4 (parameters, optimizer state and'
  )
  assert 'take 20.1 GiB per chip' in line
