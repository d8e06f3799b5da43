import pytest

import coatnet_jax
from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.models.variants import get_variant
from coatnet_jax.weights.published import (
  PUBLISHED_WEIGHTS,
  list_published_weights,
)


@pytest.mark.parametrize('weights', PUBLISHED_WEIGHTS, ids=lambda w: w.tag)
def test_weights_fit_a_variant_and_its_preprocessing(weights):
  assert weights.variant in coatnet_jax.list_variants()
  PreprocessingOptions(**weights.preprocessing)  # Checks the values.
  if weights.tag.startswith(weights.variant):
    assert weights.image_size == get_variant(weights.variant).image_size
  # Accuracies are of ImageNet-1k's classes.
  assert (weights.top1 is not None) == (weights.num_classes == 1000)


def test_all_of_timm_and_of_keras_cv_are_there():
  tags = [weights.tag for weights in PUBLISHED_WEIGHTS]
  assert len(set(tags)) == len(tags) == 16 + 2


def test_a_variant_can_have_several():
  found = list_published_weights('coatnet_2_rw_224')
  assert [w.num_classes for w in found] == [11821, 1000]
  assert list_published_weights('coatnet_0') == []
