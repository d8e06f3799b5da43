"""A run with the widest maps of CoAtNet-0: its stem, and one block of S1."""

import dataclasses

from coatnet_jax.models import variants
from configs import coatnet_0
from tests.quick_models import add_variant


def get_config():
  """Returns the config; its model is known where this was called."""
  whole = variants.VARIANTS['coatnet_0']
  first = whole.stages[0]
  block = dataclasses.replace(first.groups[0], num_blocks=1)
  stage = dataclasses.replace(first, groups=(block,))
  add_variant('one_stage', dataclasses.replace(whole, stages=(stage,)))
  config = coatnet_0.get_config('imagenet1k')
  config.model.name = 'one_stage'
  return config
