"""Paths, and what becomes of each request; an ASGI application of Starlette."""

import contextlib
from collections.abc import Collection

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from coatnet_jax.errors import show
from coatnet_jax.serving import page
from coatnet_jax.serving.answers import (
  LastAnswer,
  answer_failure,
  answer_json,
)
from coatnet_jax.serving.failures import RequestError
from coatnet_jax.serving.guard import Guard
from coatnet_jax.serving.metrics import CONTENT_TYPE, Metrics
from coatnet_jax.serving.openapi import describe_api
from coatnet_jax.serving.service import Service


def create_application(
  service: Service, metrics: Metrics, allowed_hosts: Collection[str] = ()
) -> ASGIApp:
  """Returns what answers requests.

  Args:
    service: model with its threads; started and ended with the application.
    metrics: counts of the server.
    allowed_hosts: names that the server may be called by, beside localhost and
      addresses.
  """

  @contextlib.asynccontextmanager
  async def run_service(_):
    async with service.running():
      yield

  endpoints = _Endpoints(service, metrics)
  routes = [
    Route('/', endpoints.page, methods=['GET', 'POST']),
    Route('/page.css', endpoints.file, methods=['GET']),
    Route('/page.js', endpoints.file, methods=['GET']),
    Route('/predict', endpoints.predict, methods=['POST']),
    Route('/health', endpoints.health, methods=['GET']),
    Route('/metrics', endpoints.metrics, methods=['GET']),
    Route('/openapi.json', endpoints.openapi, methods=['GET']),
  ]
  application = Starlette(
    routes=routes,
    lifespan=run_service,
    exception_handlers={
      RequestError: endpoints.explain,
      HTTPException: endpoints.explain_http,
      Exception: endpoints.apologize,
    },
  )
  application.router.redirect_slashes = False
  return Guard(
    application,
    metrics=metrics,
    paths=[route.path for route in routes],
    allowed_hosts=[name.lower() for name in allowed_hosts],
  )


class _Endpoints:
  """A function for each path."""

  def __init__(self, service: Service, metrics: Metrics):
    self._service = service
    self._metrics = metrics
    self._description = describe_api(service.model, service.limits)

  async def page(self, request: Request) -> Response:
    if request.method != 'POST':
      return self._show_page()
    try:
      _check_query(request, allowed=())
      answer = await self._service.answer(request, for_page=True)
    except RequestError as error:
      text = page.render_page(self._service, problem=str(error))
      return LastAnswer(
        text, error.status, error.headers, media_type='text/html'
      )
    return self._show_page(answer=answer)

  def _show_page(self, **options) -> Response:
    text = page.render_page(self._service, **options)
    return Response(text, media_type='text/html')

  async def file(self, request: Request) -> Response:
    name = request.url.path.removeprefix('/')
    return Response(page.read_file(name), media_type=page.FILES[name])

  async def predict(self, request: Request) -> Response:
    _check_query(request, allowed=('map',))
    method = self._service.check_map(request.query_params.get('map', ''))
    answer = await self._service.answer(request, method=method)
    return answer_json(answer.to_tree())

  async def health(self, _: Request) -> Response:
    model = self._service.model
    return answer_json(
      {'status': 'ok', 'model': model.name, 'step': model.step}
    )

  async def metrics(self, _: Request) -> Response:
    return Response(
      self._metrics.format(), headers={'Content-Type': CONTENT_TYPE}
    )

  async def openapi(self, _: Request) -> Response:
    return answer_json(self._description)

  def explain(self, _: Request, error: RequestError) -> Response:
    return answer_failure(error)

  def explain_http(self, _: Request, error: HTTPException) -> Response:
    """Answers for what Starlette refuses: paths and methods."""
    allowed = (error.headers or {}).get('Allow', '')
    reason = {
      404: 'There is nothing here; see /openapi.json for what there is.',
      405: f'The method must be one of {allowed}.',
    }.get(error.status_code, 'The request cannot be answered.')
    return answer_failure(
      RequestError(error.status_code, reason, error.headers)
    )

  def apologize(self, *_) -> Response:
    """Answers for a mistake of ours, which uvicorn logs."""
    return answer_failure(
      RequestError(500, 'The server has failed; its log says why.')
    )


def _check_query(request: Request, allowed: Collection[str]) -> None:
  """Raises RequestError where a part of the address would be ignored."""
  found = set()
  for key, _ in request.query_params.multi_items():
    if key not in allowed:
      choices = (
        f'the only one is {", ".join(allowed)}'
        if allowed
        else 'none is taken here'
      )
      raise RequestError(
        400, f'The address has the key {show(key)}; {choices}.'
      )
    if key in found:
      raise RequestError(
        400, f'The address has the key {show(key)} twice; give it once.'
      )
    found.add(key)
