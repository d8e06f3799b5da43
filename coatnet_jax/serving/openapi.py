"""What the endpoints say of themselves: OpenAPI 3.1."""

import importlib.metadata
from typing import Any

from coatnet_jax.serving.limits import Limits
from coatnet_jax.serving.served_model import ServedModel

_NUMBER = {'type': 'number', 'minimum': 0}
_STRING = {'type': 'string'}


def describe_api(model: ServedModel, limits: Limits) -> dict[str, Any]:
  """Returns the description of a server, as JSON has it.

  Args:
    model: model that is served.
    limits: limits of the server.
  """
  return {
    'openapi': '3.1.0',
    'info': {
      'title': f'{model.name}: what is on a picture',
      'version': _find_version(),
      'description': (
        f'{len(model.class_names):,} classes. A request has at most'
        f' {limits.max_body_bytes:,} bytes, a picture at most'
        f' {limits.max_pixels:,} pixels.'
      ),
    },
    'paths': {
      '/predict': {'post': _describe_predict(model)},
      '/health': {
        'get': {
          'operationId': 'health',
          'summary': 'Whether pictures are answered.',
          'responses': {'200': _answer('It is ready.', _refer('Health'))},
        }
      },
      '/metrics': {
        'get': {
          'operationId': 'metrics',
          'summary': "Counts and durations, in Prometheus' text format.",
          'responses': {
            '200': {
              'description': 'All counts.',
              'content': {'text/plain': {'schema': _STRING}},
            }
          },
        }
      },
    },
    'components': {'schemas': _describe_schemas(model)},
  }


def _find_version() -> str:
  try:
    return importlib.metadata.version('coatnet-jax')
  except importlib.metadata.PackageNotFoundError:  # A checkout.
    return '0'


def _describe_predict(model: ServedModel) -> dict[str, Any]:
  picture = {'type': 'string', 'format': 'binary'}
  form = {
    'type': 'object',
    'description': (
      'One file, whatever its field is called; files that are empty do not'
      ' count.'
    ),
    'minProperties': 1,
    'additionalProperties': picture,
  }
  failures = {
    '400': 'The body or the map is not as it must be.',
    '403': "It is a request of another origin's page.",
    '408': 'The body came too slowly.',
    '413': 'The body or the picture is too large.',
    '415': 'It is of another type.',
    '421': 'The Host header is not a name of this server.',
    '422': 'The picture is damaged.',
    '503': 'There is too much to do; Retry-After says when to ask again.',
  }
  return {
    'operationId': 'predict',
    'summary': 'Names what is on a picture.',
    'parameters': [
      {
        'name': 'map',
        'in': 'query',
        'description': 'Draws what the model looked at, for the first class.',
        'schema': {'type': 'string', 'enum': ['', *model.maps]},
      }
    ],
    'requestBody': {
      'required': True,
      'description': 'A JPEG, PNG, WebP, GIF, BMP or TIFF.',
      'content': {
        'multipart/form-data': {'schema': form},
        'application/octet-stream': {'schema': picture},
        'image/*': {'schema': picture},
      },
    },
    'responses': {
      '200': _answer('The classes.', _refer('Answer')),
      **{
        status: _answer(words, _refer('Failure'))
        for status, words in failures.items()
      },
    },
  }


def _describe_schemas(model: ServedModel) -> dict[str, Any]:
  return {
    'Prediction': _create_object(
      {
        'class': _STRING,
        'words': {'type': 'array', 'items': _STRING},
        'label': {
          'type': 'integer',
          'minimum': 0,
          'maximum': len(model.class_names) - 1,
        },
        'probability': {
          'description': 'null of a model that has diverged.',
          'type': ['number', 'null'],
          'minimum': 0,
          'maximum': 1,
        },
      }
    ),
    'Map': _create_object(
      {
        'method': {'type': 'string', 'enum': list(model.maps) or ['']},
        'what': _STRING,
        'png': {**_STRING, 'contentEncoding': 'base64'},
      }
    ),
    'Answer': _create_object(
      {
        'predictions': {
          'type': 'array',
          'items': _refer('Prediction'),
          'minItems': model.top,
          'maxItems': model.top,
        },
        'map': {'oneOf': [_refer('Map'), {'type': 'null'}]},
        'seconds': _create_object(
          dict.fromkeys(('reading', 'model', 'map', 'total'), _NUMBER)
        ),
      }
    ),
    'Failure': _create_object(
      {
        'error': {**_STRING, 'minLength': 1},
        'status': {'type': 'integer', 'minimum': 400, 'maximum': 599},
      }
    ),
    'Health': _create_object(
      {
        'status': {'const': 'ok'},
        'model': _STRING,
        'step': {'type': 'integer', 'minimum': 0},
      }
    ),
  }


def _create_object(properties: dict[str, Any]) -> dict[str, Any]:
  """Returns the schema of an object that has these, and nothing else."""
  return {
    'type': 'object',
    'properties': properties,
    'required': list(properties),
    'additionalProperties': False,
  }


def _refer(name: str) -> dict[str, str]:
  return {'$ref': f'#/components/schemas/{name}'}


def _answer(words: str, schema: dict[str, str]) -> dict[str, Any]:
  return {
    'description': words,
    'content': {'application/json': {'schema': schema}},
  }
