"""A trained model as programs that are compiled before anybody asks.

served = ServedModel(load_trained_model('/tmp/quickstart'))
served.compile()
((prediction, *_),) = served.predict([crop])
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.errors import UserError, explain_choice
from coatnet_jax.explanation.explaining import Explainer, Question
from coatnet_jax.explanation.methods import METHODS, OF_ATTENTION
from coatnet_jax.imagenet_classes import list_words
from coatnet_jax.inference import predict_top_classes
from coatnet_jax.texts import printable

# Maps that need nothing but a picture, and no more than a few gradients.
MAPS = ('grad_cam', 'relevance', 'rollout')


class Prediction(NamedTuple):
  """A class that may be on a picture.

  Attributes:
    name: name of the class itself, which may have what no page can show.
    words: words for a class of ImageNet; none for others.
    label: number of the class.
    probability: probability of the class, NaN of a model that has diverged.
  """

  name: str
  words: tuple[str, ...]
  label: int
  probability: float


class PictureMap(NamedTuple):
  """A map over a picture.

  Attributes:
    method: kind of map, one of `MAPS`.
    what: words for the map: 'Grad-CAM of stage s4, 7x7'.
    png: picture with the map over it, as a PNG file.
  """

  method: str
  what: str
  png: bytes


class ServedModel:
  """Predicts and explains on one device, in batches of a few sizes."""

  def __init__(
    self,
    trained: TrainedModel,
    *,
    top: int = 5,
    max_batch: int = 8,
    maps: Sequence[str] | None = None,
  ):
    """Prepares a model; nothing is compiled yet.

    Args:
      trained: trained model, from `load_trained_model`.
      top: number of classes to name; all if there are fewer.
      max_batch: largest number of pictures at a time.
      maps: kinds of maps to offer, of `MAPS`; all that the model has if None.

    Raises:
      UserError: the model has no classes, or not such a map.
    """
    if not trained.model.num_classes:
      raise UserError(
        f'The model of {trained.path} has no classes; only one with classes'
        ' can be served.'
      )
    self.preprocessing = trained.preprocessing
    self.max_batch = max_batch
    self.top = min(top, len(trained.class_names))
    self.class_names = tuple(trained.class_names)
    self.name = printable(str(trained.config.model.name))
    self.step = trained.step
    self._words = tuple(map(list_words, trained.class_names))
    self._explainer = Explainer(trained)
    self.maps = self._choose_maps(maps)
    device = jax.local_devices()[0]
    self._variables = jax.device_put(jax.device_get(trained.variables), device)
    self._predict = jax.jit(
      functools.partial(
        predict_top_classes,
        model=trained.model,
        loss=trained.loss,
        preprocessing=trained.preprocessing,
        top=self.top,
      )
    )
    self._programs: dict[int, jax.stages.Compiled] = {}

  def _choose_maps(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
    has_attention = bool(self._explainer.blocks)
    offered = tuple(
      name for name in MAPS if has_attention or name not in OF_ATTENTION
    )
    if wanted is None:
      return offered
    for name in wanted:
      if name not in offered:
        raise UserError(explain_choice('--maps', name, offered))
    return tuple(dict.fromkeys(wanted))

  def compile(self) -> Iterator[str]:
    """Compiles everything that will be run.

    Yields:
      Words for each part that is compiled next: 'a batch of 4'.
    """
    size = 1
    while size < self.max_batch:
      yield from self._compile_batch(size)
      size *= 2
    yield from self._compile_batch(self.max_batch)
    for name in self.maps:
      yield METHODS[name]
      picture = np.zeros((*self.preprocessing.image_size, 3), np.uint8)
      self.draw_map(picture, name, 0)

  def _compile_batch(self, size: int) -> Iterator[str]:
    yield f'a batch of {size}'
    shape = (size, *self.preprocessing.image_size, 3)
    images = jax.ShapeDtypeStruct(shape, jnp.uint8)
    self._programs[size] = self._predict.lower(
      self._variables, images
    ).compile()
    self.predict([np.zeros(shape[1:], np.uint8)] * size)

  def predict(
    self, crops: Sequence[np.ndarray]
  ) -> list[tuple[Prediction, ...]]:
    """Returns the most probable classes of some pictures, the first first.

    Args:
      crops: at most `max_batch` crops, each [H, W, 3] uint8, from
        `crop_for_evaluation`.
    """
    size = min(n for n in self._programs if n >= len(crops))
    images = np.zeros((size, *self.preprocessing.image_size, 3), np.uint8)
    images[: len(crops)] = crops
    labels, probabilities = jax.device_get(
      self._programs[size](self._variables, images)
    )
    return [
      tuple(
        Prediction(
          name=self.class_names[label],
          words=self._words[label],
          label=int(label),
          probability=float(probability),
        )
        for label, probability in zip(labels[row], probabilities[row])
      )
      for row in range(len(crops))
    ]

  def draw_map(
    self, picture: np.ndarray, method: str, label: int
  ) -> PictureMap:
    """Draws what the model looked at, over a whole picture.

    Args:
      picture: whole picture, [H, W, 3] uint8, small enough to be shown.
      method: kind of map, one of `maps`.
      label: number of the class that is explained.
    """
    question = Question(method=method, class_index=label)
    found = self._explainer.explain(picture, question)
    return PictureMap(method, found.what, encode_png(found.shown))


def encode_png(picture: np.ndarray) -> bytes:
  """Returns a picture, [H, W, 3] uint8 RGB, as a PNG file."""
  # OpenCV's order of colours. Quick is better than small on a loopback.
  options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
  _, encoded = cv2.imencode('.png', picture[..., ::-1], options)
  return encoded.tobytes()
