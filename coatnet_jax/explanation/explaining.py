"""A trained model's maps of pictures, by the name of what is asked.

explainer = Explainer(load_trained_model('/tmp/quickstart'))
found = explainer.explain(picture, Question(method='grad_cam'))
found.shown  # [H, W, 3] uint8: the map over the whole picture.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data.augmentation import (
  crop_for_evaluation,
  place_evaluation_crop,
)
from coatnet_jax.data.crop_place import CropPlace
from coatnet_jax.errors import UserError, explain_choice
from coatnet_jax.explanation import (
  attention_maps,
  class_activation,
  integrated_gradients,
  overlay,
)
from coatnet_jax.explanation.interception import find_attention_blocks
from coatnet_jax.explanation.methods import METHODS, NUM_STEPS, OF_ATTENTION
from coatnet_jax.inference import compute_logits
from coatnet_jax.training.image_normalization import normalize_images
from coatnet_jax.training.losses import compute_probabilities

# Of integrated gradients: a few pixels are far above all others.
_QUANTILE = 0.99


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
  """What is asked of a picture.

  Attributes:
    method: kind of map, one of `METHODS`.
    class_index: class to explain; the most probable if None.
    stage: stage for 'grad_cam'; the last if empty.
    block: block for 'head'; the last with attention if empty.
    head: head for 'head', from 0; the mean of all if None.
    position: (row, column) for 'head', in pixels of the picture; the middle of
      what the model sees if None.
    num_steps: number of gradients that 'integrated_gradients' averages.
  """

  method: str
  class_index: int | None = None
  stage: str = ''
  block: str = ''
  head: int | None = None
  position: tuple[int, int] | None = None
  num_steps: int = NUM_STEPS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanation:
  """An answer.

  Attributes:
    class_index: class that is explained.
    probability: probability of that class by the model.
    what: words for the map: 'Grad-CAM of stage s4, 7x7'.
    values: map, [h, w] float32 at least 0, on the grid that it has.
    place: part of the picture that the map is of.
    shown: map over the whole picture, [H, W, 3] uint8.
    total: sum of integrated gradients and what it should be, the difference of
      the logits; None of other maps.
  """

  class_index: int
  probability: float
  what: str
  values: np.ndarray
  place: CropPlace
  shown: np.ndarray
  total: tuple[float, float] | None = None


class Explainer:
  """Explains what a model says of pictures; compiles each kind of map once."""

  def __init__(self, trained: TrainedModel):
    """Prepares a model.

    Args:
      trained: trained model whose predictions are explained, from
        `load_trained_model`.

    Raises:
      UserError: the model has no logits to explain.
    """
    if not trained.model.num_classes:
      raise UserError(
        f'The model of {trained.path} has no classes; only one with classes'
        ' can be explained.'
      )
    self.class_names = trained.class_names
    self.preprocessing = trained.preprocessing
    self._loss = trained.loss
    self._model = trained.model
    self._variables = jax.device_put(
      jax.device_get(trained.variables), jax.local_devices()[0]
    )
    self._name = trained.config.model.name
    size = (
      1,
      *self.preprocessing.image_size,
      trained.model.variant.in_channels,
    )
    self.blocks = find_attention_blocks(
      self._model,
      self._variables,
      jax.ShapeDtypeStruct(size, jnp.float32),
    )
    self.stages = {
      stage.name: tuple(side // stage.stride for side in size[1:3])
      for stage in self._model.feature_info
    }
    self._compiled: dict[Any, Callable] = {}

  def check(self, question: Question) -> Question:
    """Fills in what a question leaves open.

    Raises:
      UserError: the model does not have the class, stage, block or head.
    """
    if question.method not in METHODS:
      raise UserError(explain_choice('method', question.method, METHODS))
    if question.method in OF_ATTENTION and not self.blocks:
      others = [name for name in METHODS if name not in OF_ATTENTION]
      raise UserError(
        f'The method is {question.method!r}, and {self._name} has no block with'
        f' attention; use {" or ".join(others)}.'
      )
    class_index = question.class_index
    if class_index is not None and class_index >= len(self.class_names):
      raise UserError(
        f'The class is {class_index}; it must be in 0 .. '
        f'{len(self.class_names) - 1}.'
      )
    stage = question.stage or list(self.stages)[-1]
    if stage not in self.stages:
      raise UserError(explain_choice('The stage', stage, self.stages))
    block = question.block or (list(self.blocks)[-1] if self.blocks else '')
    if self.blocks and block not in self.blocks:
      raise UserError(
        explain_choice('The block with attention', block, self.blocks)
      )
    if question.head is not None and question.method == 'head':
      num_heads = self.blocks[block][0]
      if not 0 <= question.head < num_heads:
        raise UserError(
          f'The head is {question.head}; {block} has {num_heads} heads, so it'
          f' must be in 0 .. {num_heads - 1}.'
        )
    return dataclasses.replace(question, stage=stage, block=block)

  def compute_probabilities(self, picture: np.ndarray) -> np.ndarray:
    """Returns the probability of each class, [K] float32.

    Args:
      picture: whole picture, [H, W, 3] uint8.
    """
    crop = crop_for_evaluation(picture, self.preprocessing)

    def compute(variables, images):
      logits = compute_logits(
        variables, images, model=self._model, preprocessing=self.preprocessing
      )
      return compute_probabilities(logits, self._loss)

    return np.asarray(self._run('probabilities', compute, crop[None])[0])

  def explain(self, picture: np.ndarray, question: Question) -> Explanation:
    """Computes a map of a picture.

    Args:
      picture: whole picture, [H, W, 3] uint8.
      question: kind of map, and the class, stage, block or position it is of.

    Raises:
      UserError: the model or the picture does not have what is asked for.
    """
    question = self.check(question)
    place = place_evaluation_crop(picture.shape[:2], self.preprocessing)
    cell = None
    if question.method == 'head':
      cell = _find_cell(
        question.position, place, self.blocks[question.block][1]
      )
    probabilities = self.compute_probabilities(picture)
    class_index = question.class_index
    if class_index is None:
      class_index = int(probabilities.argmax())
    crop = crop_for_evaluation(picture, self.preprocessing)
    image = normalize_images(
      crop[None], mean=self.preprocessing.mean, std=self.preprocessing.std
    )
    values, total = self._compute(question, image, class_index, cell)
    is_fine = question.method == 'integrated_gradients'
    spread = overlay.spread_over_picture(
      overlay.scale_to_one(values, _QUANTILE if is_fine else 1.0),
      picture.shape[:2],
      place,
    )
    shown = overlay.lay_over(picture, spread, with_line=not is_fine)
    if cell is not None:
      _mark_cell(shown, cell, values.shape, place)
    return Explanation(
      class_index=class_index,
      probability=float(probabilities[class_index]),
      what=self._describe(question, values.shape, cell),
      values=values,
      place=place,
      shown=shown,
      total=total,
    )

  def _compute(self, question, image, class_index, cell):
    """Returns a map, [h, w], and its `Explanation.total`."""
    model, method = self._model, question.method
    classes = jnp.array([class_index])
    if method == 'integrated_gradients':
      black = normalize_images(
        np.zeros(image.shape, np.uint8),
        mean=self.preprocessing.mean,
        std=self.preprocessing.std,
      )
      run = functools.partial(
        integrated_gradients.compute_integrated_gradients,
        model,
        num_steps=question.num_steps,
      )
      parts, difference = self._run(
        question, run, image[0], black[0], classes[0]
      )
      values = np.abs(np.asarray(parts).sum(-1))
      return values, (float(parts.sum()), float(difference))
    if method == 'grad_cam':
      compute = functools.partial(
        class_activation.compute_grad_cam, model, stage=question.stage
      )
      maps = self._run(question, compute, image, classes)
    elif method == 'relevance':
      compute = functools.partial(attention_maps.compute_relevance, model)
      maps = self._run(question, compute, image, classes)
    elif method == 'rollout':
      compute = functools.partial(attention_maps.compute_rollout, model)
      maps = self._run(question, compute, image)
    else:
      compute = functools.partial(
        attention_maps.compute_head_attention,
        model,
        block=question.block,
        position=cell,
        head=question.head,
      )
      maps = self._run((question, cell), compute, image)
    return np.asarray(maps[0]), None

  def _run(self, key: Any, compute, *arrays):
    """Calls a function of the variables and arrays, compiled once for a key."""
    if isinstance(key, Question):
      key = dataclasses.replace(key, class_index=None, position=None)
    if key not in self._compiled:
      self._compiled[key] = jax.jit(compute)
    return jax.device_get(self._compiled[key](self._variables, *arrays))

  def _describe(self, question, grid, cell):
    method = question.method
    words = METHODS[method]
    size = f'{grid[0]}x{grid[1]}'
    if method == 'grad_cam':
      return f'{words} of stage {question.stage}, {size}'
    if method == 'head':
      head = 'mean of its heads'
      if question.head is not None:
        head = f'head {question.head}'
      return (
        f'{words}: {question.block}, {head}, {size}, what row {cell[0]}, column'
        f' {cell[1]} (box) reads'
      )
    if method == 'integrated_gradients':
      return f'{words}, {question.num_steps} steps from black'
    return f'{words} over {len(self.blocks)} blocks, {size}'


def _find_cell(position, place, grid):
  """Returns row and column of the token that a pixel of a picture lies in."""
  top, left, height, width = place.find_box()
  if position is None:
    return grid[0] // 2, grid[1] // 2
  cell = (
    int((position[0] + 0.5 - top) * grid[0] // height),
    int((position[1] + 0.5 - left) * grid[1] // width),
  )
  if not all(0 <= index < count for index, count in zip(cell, grid)):
    rows = f'{np.ceil(top):.0f} .. {np.floor(top + height) - 1:.0f}'
    columns = f'{np.ceil(left):.0f} .. {np.floor(left + width) - 1:.0f}'
    raise UserError(
      f'The position is {position[0]},{position[1]}; the model sees the rows'
      f' {rows} and the columns {columns} of this picture, so it must lie'
      ' there.'
    )
  return cell


def _mark_cell(shown, cell, grid, place):
  """Draws a box around a token's cell."""
  top, left, height, width = place.find_box()
  sides = height / grid[0], width / grid[1]
  overlay.draw_box(
    shown,
    max(0, top + cell[0] * sides[0]),
    max(0, left + cell[1] * sides[1]),
    min(shown.shape[0], top + (cell[0] + 1) * sides[0]),
    min(shown.shape[1], left + (cell[1] + 1) * sides[1]),
  )
