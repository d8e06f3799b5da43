"""Weights that say what they are of are taken for nothing else."""

import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.weights.native import Description
from tools import import_timm


@pytest.mark.parametrize('found', ['coatnet_0', 'coatnet_1', 'coatnet_mini'])
def test_weights_of_another_variant_are_refused(found):
  description = Description(
    model={'name': found}, preprocessing={}, class_names=('a',)
  )
  import_timm.check_variant(found, description, 'w.safetensors')
  with pytest.raises(
    UserError, match=f'says that it is of {found}; give .* a file of coatnet_2'
  ):
    import_timm.check_variant('coatnet_2', description, 'w.safetensors')
