"""The variants that configs of the wiring tests name."""

from unittest import mock

import pytest

from coatnet_jax.models import variants
from coatnet_jax.models.architecture import HeadOptions
from tests.wiring import runs

_HEAD = HeadOptions(norm='none', pre_logits=False)


def _variant(*stages):
  return variants.Variant(
    stem=variants.StemOptions(widths=(4, 4)),
    stages=tuple(
      variants.Stage((variants.BlockGroup(kind, number, width),), stride)
      for kind, number, width, stride in stages
    ),
    head=_HEAD,
    kernel_init='lecun_normal',
  )


@pytest.fixture(scope='module', autouse=True)
def _wired_variants():
  """Adds the variants, as small as they can be."""
  added = {
    runs.CONVOLUTIONS: _variant(('mbconv', 2, 4, 1)),
    runs.MORE_CONVOLUTIONS: _variant(('mbconv', 3, 4, 1)),
    runs.ATTENTION: _variant(('transformer', 2, 32, 2)),
  }
  with mock.patch.dict(variants.VARIANTS, added):
    yield
