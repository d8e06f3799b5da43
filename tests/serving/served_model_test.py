"""Programs of fixed sizes say what one program of any size says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.distributed.mesh import create_mesh
from coatnet_jax.errors import UserError
from coatnet_jax.inference import predict_top_classes
from coatnet_jax.models.factory import create_model
from coatnet_jax.serving.pictures import fit_to_page
from coatnet_jax.serving.served_model import ServedModel
from coatnet_jax.training.losses import LossOptions
from tests.serving.running import FakeModel

NAMES = ('n01440764', 'a\x1b[2Jb', 'c')
PREPROCESSING = dataclasses.replace(
  FakeModel.preprocessing,
  image_size=(16, 16),
  mean=(0.4, 0.4, 0.4),
  std=(0.3, 0.3, 0.3),
)


def _create_trained(num_classes=3):
  model = create_model('tiny', num_classes=num_classes)
  images = jnp.zeros((1, 16, 16, 3))
  variables = jax.jit(model.init, static_argnames='train')(
    jax.random.key(0), images, train=False
  )
  return TrainedModel(
    model=model,
    variables=variables,
    preprocessing=PREPROCESSING,
    loss=LossOptions(kind='softmax', label_smoothing=0.0),
    class_names=NAMES[:num_classes],
    config=ConfigDict({'model': {'name': 'tiny'}}),
    step=3,
    path=epath.Path('run'),
    mesh=create_mesh(
      replica=1, data=1, fsdp=1, tensor=1, devices=jax.devices()[:1]
    ),
    changes=(),
  )


@pytest.fixture(scope='module')
def trained(tiny_variant):
  return _create_trained()


@pytest.fixture(scope='module')
def served(trained):
  served = ServedModel(trained, max_batch=3, maps=['grad_cam'])
  list(served.compile())
  return served


@pytest.mark.slow
@pytest.mark.rotating
def test_a_padded_batch_says_what_others_say(trained, served):
  crops = list(
    np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
  )
  labels, probabilities = predict_top_classes(
    trained.variables,
    np.stack(crops),
    model=trained.model,
    loss=trained.loss,
    preprocessing=PREPROCESSING,
    top=3,
  )
  for count in (1, 2, 3):
    found = served.predict(crops[:count])
    assert [[p.label for p in row] for row in found] == (
      labels[:count].tolist()
    )
    np.testing.assert_allclose(
      [[p.probability for p in row] for row in found],
      probabilities[:count],
      atol=1e-6,
    )


def test_classes_have_their_names(served):
  (row,) = served.predict([np.zeros((16, 16, 3), np.uint8)])
  names = {p.label: (p.name, p.words) for p in row}
  assert names == {
    0: ('n01440764', ('tench', 'Tinca tinca')),
    1: ('a\x1b[2Jb', ()),
    2: ('c', ()),
  }


def test_nothing_is_compiled_for_a_request(served, monkeypatch):
  """Of any batch and any picture, once it is said to be ready."""
  picture = np.full((40, 60, 3), 100, np.uint8)
  with jax.log_compiles(False), monkeypatch.context() as patch:
    patch.setattr(
      'jax._src.compiler.compile_or_get_cached',
      lambda *args, **kwargs: pytest.fail('compiled'),
    )
    for count in (1, 2, 3):
      served.predict([np.zeros((16, 16, 3), np.uint8)] * count)
    found = served.draw_map(fit_to_page(picture), 'grad_cam', 2)
  assert found.what.startswith('Grad-CAM of stage')


def test_a_model_without_what_is_asked_for_is_one_sentence(tiny_variant):
  with pytest.raises(UserError, match='has no classes; only one with classes'):
    ServedModel(_create_trained(0))
  with pytest.raises(UserError, match=r"^--maps is 'head'; it must be one of"):
    ServedModel(_create_trained(), maps=['head'])
