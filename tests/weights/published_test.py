import pytest

import coatnet_jax
from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.models.cost import count_cost
from coatnet_jax.models.variants import get_variant
from coatnet_jax.paths import find_hub_name
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


@pytest.mark.slow
@pytest.mark.parametrize('weights', PUBLISHED_WEIGHTS, ids=lambda w: w.tag)
def test_the_number_of_parameters_is_the_models(weights):
  model = coatnet_jax.create_model(
    weights.variant, num_classes=weights.num_classes
  )
  parameters = count_cost(model, weights.image_size).parameters
  assert weights.millions == round(parameters / 1e6, 2)


def test_what_is_on_the_hub_has_a_name_there():
  sources = {weights.source for weights in PUBLISHED_WEIGHTS}
  assert 'timm/coatnet_0_rw_224.sw_in1k' in sources
  assert len([s for s in sources if find_hub_name(s) == s]) == 16
  assert {w.licence for w in PUBLISHED_WEIGHTS} == {'Apache-2.0', 'MIT'}


def test_all_of_timm_and_of_keras_cv_are_there():
  tags = [weights.tag for weights in PUBLISHED_WEIGHTS]
  assert len(set(tags)) == len(tags) == 16 + 2


def test_a_variant_can_have_several():
  found = list_published_weights('coatnet_2_rw_224')
  assert [w.num_classes for w in found] == [11821, 1000]
  assert list_published_weights('coatnet_0') == []


# timm's default configurations where they differ from 224 px, 0.95, 0.5 and
# 'timm'; keras_cv's scripts.
HALF = (0.5, 0.5, 0.5)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OTHERWISE = {
  'coatnet_nano_rw_224.sw_in1k': (224, 0.9, 'timm', HALF, HALF),
  'coatnet_bn_0_rw_224.sw_in1k': (224, 0.95, 'timm', *IMAGENET),
  'coatnet_rmlp_nano_rw_224.sw_in1k': (224, 0.9, 'timm', HALF, HALF),
  'coatnet_rmlp_2_rw_384.sw_in12k_ft_in1k': (
    *(384, 1.0, 'timm_squash'),
    *(HALF, HALF),
  ),
  'coatnext_nano_rw_224.sw_in1k': (224, 0.9, 'timm', HALF, HALF),
  'coatnet0_160_imagenet': (160, 0.95, 'keras_cv', *IMAGENET),
  'coatnet0_224_imagenet': (224, 0.95, 'keras_cv', *IMAGENET),
}


@pytest.mark.parametrize('weights', PUBLISHED_WEIGHTS, ids=lambda w: w.tag)
def test_pictures_are_made_as_the_weights_were_evaluated(weights):
  size, fraction, resize, mean, std = OTHERWISE.get(
    weights.tag, (224, 0.95, 'timm', HALF, HALF)
  )
  assert weights.preprocessing == {
    'image_size': (size, size),
    'mean': mean,
    'std': std,
    'eval_crop_fraction': fraction,
    'eval_resize': resize,
    'interpolation': 'bicubic',
  }
