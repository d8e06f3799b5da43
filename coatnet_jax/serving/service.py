"""What becomes of a picture: read, predicted in a batch, perhaps explained."""

import asyncio
import base64
import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from starlette.requests import Request

from coatnet_jax.errors import explain_choice, show
from coatnet_jax.serving.batching import Batcher
from coatnet_jax.serving.failures import RETRY_AFTER, RequestError
from coatnet_jax.serving.limits import Limits
from coatnet_jax.serving.metrics import Metrics
from coatnet_jax.serving.pictures import PictureReader
from coatnet_jax.serving.served_model import (
  PictureMap,
  Prediction,
  ServedModel,
)
from coatnet_jax.serving.uploads import HeldBytes, read_upload


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
  """What is said of a picture.

  Attributes:
    predictions: classes, the most probable first.
    map: map over the picture; None where none was asked for.
    shown: picture for the eye, [h, w, 3] uint8; None where neither a map nor
      the page asked for it.
    seconds: time in seconds for 'reading' the picture, for the 'model' with
      what was waited for it, for the 'map', and in 'total'.
  """

  predictions: tuple[Prediction, ...]
  map: PictureMap | None
  shown: np.ndarray | None
  seconds: dict[str, float]

  def to_tree(self) -> dict[str, Any]:
    """Returns what `/predict` answers, as JSON has it."""
    return {
      'predictions': [
        {
          'class': prediction.name,
          'words': list(prediction.words),
          'label': prediction.label,
          'probability': prediction.probability,
        }
        for prediction in self.predictions
      ],
      'map': self.map
      and {
        'method': self.map.method,
        'what': self.map.what,
        'png': base64.b64encode(self.map.png).decode('ascii'),
      },
      'seconds': {
        name: round(seconds, 6) for name, seconds in self.seconds.items()
      },
    }


class Service:
  """A model with the threads that it takes to answer for it."""

  def __init__(self, model: ServedModel, limits: Limits, metrics: Metrics):
    """Starts nothing yet: see `running`.

    Args:
      model: model whose programs are compiled.
      limits: limits of the server.
      metrics: counts of the server.
    """
    self.model = model
    self.limits = limits
    self._held = HeldBytes(limits.max_held_bytes)
    self._num_pictures = 0
    self._reader = PictureReader(model.preprocessing, limits)
    self._batcher = Batcher(
      model.predict, max_batch=model.max_batch, observe=metrics.count_batch
    )
    self._map_thread = concurrent.futures.ThreadPoolExecutor(1, 'maps')
    metrics.watch('pictures', 'Pictures under way.', lambda: self._num_pictures)
    metrics.watch(
      'queue',
      'Pictures that are read and wait for the model.',
      lambda: self._batcher.num_waiting,
    )
    metrics.watch('held_bytes', 'Bytes of all bodies.', lambda: self._held.held)

  @contextlib.asynccontextmanager
  async def running(self) -> Any:
    """Context in which pictures are answered."""
    task = asyncio.create_task(self._batcher.run())
    try:
      yield
    finally:
      task.cancel()
      self._reader.close()
      self._map_thread.shutdown(wait=False)

  def check_map(self, method: str) -> str:
    """Returns the kind of map that is asked for; '' for none.

    Args:
      method: kind of map, or ''.

    Raises:
      RequestError: the model has no such map.
    """
    if method and method not in self.model.maps:
      if not self.model.maps:
        raise RequestError(400, 'map must be empty: this server draws no maps.')
      raise RequestError(400, explain_choice('map', method, self.model.maps))
    return method

  async def answer(
    self, request: Request, *, method: str = '', for_page: bool = False
  ) -> Answer:
    """Answers a request.

    Args:
      request: request whose body has a picture.
      method: kind of map, from `check_map`; '' for none.
      for_page: whether the picture is to be shown, and the kind of map is a
        field of the form.

    Raises:
      RequestError: there is no picture, or too much to do.
    """
    async with read_upload(request, self.limits, self._held) as upload:
      with self._admit():
        times = [time.monotonic()]
        is_shown = for_page or bool(method)
        picture = await self._reader.read(upload, is_shown=is_shown)
        if for_page:
          method = self._choose_map(picture.fields)
        elif picture.fields:
          raise RequestError(
            400,
            'The form has fields beside its file; the kind of map belongs into'
            ' the address: /predict?map=KIND.',
          )
        times.append(time.monotonic())
        predictions = await self._batcher.submit(picture.crop)
        times.append(time.monotonic())
        found = None
        if method:
          found = await asyncio.get_running_loop().run_in_executor(
            self._map_thread,
            self.model.draw_map,
            picture.shown,
            method,
            predictions[0].label,
          )
        times.append(time.monotonic())
    parts = dict(zip(('reading', 'model', 'map'), np.diff(times).tolist()))
    return Answer(
      predictions=predictions,
      map=found,
      shown=picture.shown,
      seconds={**parts, 'total': times[-1] - times[0]},
    )

  def _choose_map(self, fields: Mapping[str, str]) -> str:
    """Returns the kind of map that the page's form asks for."""
    for name in fields:
      if name != 'map':
        raise RequestError(
          400,
          f'The form has the field {show(name)}; the only one beside its file'
          ' is map.',
        )
    return self.check_map(fields.get('map', ''))

  @contextlib.contextmanager
  def _admit(self) -> Iterator[None]:
    """Context of a picture under way, of which there are not too many."""
    if self._num_pictures >= self.limits.max_waiting:
      raise RequestError(
        503, 'Too many pictures are under way; try again.', RETRY_AFTER
      )
    self._num_pictures += 1
    try:
      yield
    finally:
      self._num_pictures -= 1
