"""What the arguments of `tools.plan` mean, without a compiler."""

import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.planning import plan_config, plan_search
from configs import coatnet_0
from tests.planning.plan_search_test import FakePlanner, create_run


@pytest.mark.parametrize(
  ('text', 'choices'),
  [
    ('scan=False:True', (False, True)),
    ('scan=True:False', (True, False)),
    ('scan=False', (False,)),
  ],
)
def test_true_and_false_are_what_they_say(text, choices):
  ((_, key, found),) = plan_search.parse_choices(text)
  assert key == 'model.scan_blocks'
  assert found == choices


@pytest.mark.parametrize('sizes', [(10, None), (None, 10)])
def test_sizes_of_own_data_go_together(sizes):
  with pytest.raises(UserError, match='go together'):
    plan_config.find_sources(coatnet_0.get_config(), *sizes)


@pytest.mark.parametrize('parts', [1, 2, 4])
def test_the_search_starts_from_the_batch_of_the_config(parts):
  config = coatnet_0.get_config()
  config.training.global_batch_size = 4096
  config.training.gradient_accumulation_steps = parts
  first = next(
    plan_search.find_batch(config, create_run(config), FakePlanner(16.0))
  )
  assert first.per_chip_batch_size == 4096 / 32
