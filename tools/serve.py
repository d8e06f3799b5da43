r"""Serves the model of a checkpoint: a page to try it, and a JSON endpoint.

    python -m tools.serve --checkpoint=WORKDIR

Then open http://127.0.0.1:8000 in a browser of this machine, and drop, paste,
choose or take a picture. For programs:

    curl --data-binary @cat.jpg -H 'Content-Type: image/jpeg' \
        'http://127.0.0.1:8000/predict?map=grad_cam'

Needs pip install -r requirements-serve.txt. SIGTERM and Ctrl-C end it once all
requests under way are answered. docs/serve.md has the endpoints and limits.
"""

import argparse
import re

from coatnet_jax import terminal
from coatnet_jax.arguments import add_number
from coatnet_jax.errors import UserError, show
from tools import command_line

_PACKAGES = ('prometheus_client', 'python_multipart', 'starlette', 'uvicorn')
_PORTS = 1 << 16


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('serve', __doc__)
  command_line.add_checkpoint(parser)
  command_line.add_image_size(parser)
  parser.add_argument(
    '--host',
    default='127.0.0.1',
    metavar='ADDRESS',
    help='address to listen on (127.0.0.1: this machine alone)',
  )
  add_number(
    parser,
    '--port',
    at_least=0,
    below=_PORTS,
    default=8000,
    help='port to listen on (8000); 0 for any that is free',
  )
  parser.add_argument(
    '--allow_host',
    action='append',
    default=[],
    metavar='NAME',
    help='name that the server may be called by, beside localhost and'
    ' addresses; may be given several times',
  )
  parser.add_argument(
    '--maps',
    metavar='NAME,...',
    help='maps to offer, of grad_cam, relevance, rollout; all that the model'
    ' has if left out, none if empty',
  )
  add_number(
    parser,
    '--top',
    default=5,
    help='classes for a picture (5), or all if there are fewer',
  )
  add_number(
    parser,
    '--max_batch',
    default=8,
    below=1025,
    help='pictures that go through the model together, at most (8)',
  )
  add_number(
    parser,
    '--max_upload_mib',
    default=16,
    below=1025,
    help='largest body of a request, in MiB (16)',
  )
  add_number(
    parser,
    '--max_megapixels',
    float,
    default=40,
    below=1001,
    help='largest picture, in megapixels (40)',
  )
  add_number(
    parser,
    '--max_waiting',
    default=64,
    help='pictures under way, at most (64); above, the answer is 503',
  )
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Returns:
    The exit status: 0 where it was asked to stop, and had answered all.

  Raises:
    UserError: the checkpoint or the port cannot be used, a package is missing,
      a number is out of range, or a name of the server is none.
  """
  options = create_parser().parse_args(arguments)
  image_size = command_line.parse_image_size(options.image_size)
  for name in options.allow_host:
    check_host(name)
  server = _import_server()
  from coatnet_jax.serving.limits import Limits

  limits = Limits(
    max_body_bytes=options.max_upload_mib << 20,
    max_pixels=int(options.max_megapixels * 1e6),
    max_waiting=options.max_waiting,
  )
  taken = server.bind(options.host, options.port)
  if not server.is_loopback(options.host):
    command_line.say(
      f'Warning: --host={options.host} lets everybody who reaches this machine'
      ' use the server; it asks for no password and encrypts nothing.'
    )
  server.run_server(
    lambda: _create_model(options, image_size),
    taken,
    limits=limits,
    allowed_hosts=options.allow_host,
    say=command_line.say,
  )
  return 0


def check_host(name: str) -> None:
  """Checks an --allow_host, which is compared with what Host has for a name.

  Args:
    name: name that the server may be called by.

  Raises:
    UserError: it is no host name, and no request could have it.
  """
  if not re.fullmatch(r'[\w-]+(\.[\w-]+)*\.?', name, re.ASCII):
    raise UserError(
      f'--allow_host is {show(name)}; it must be a host name alone, gpu7.lan,'
      ' without scheme, port or path (addresses are allowed as it is).'
    )


def _import_server():
  """Returns the module of the server.

  Raises:
    UserError: what it needs is not installed.
  """
  try:
    from coatnet_jax.serving import server
  except ModuleNotFoundError as error:
    package = (error.name or '').partition('.')[0]
    if package not in _PACKAGES:
      raise
    raise UserError(
      f'tools.serve needs the package {package}, which is not installed: pip'
      ' install -r requirements-serve.txt'
    ) from error
  return server


def _create_model(options: argparse.Namespace, image_size):
  """Returns the model, compiled."""
  from coatnet_jax.checkpoints.trained_model import load_trained_model
  from coatnet_jax.serving.served_model import ServedModel

  command_line.keep_compiled()
  terminal.begin('reading the checkpoint')
  trained = load_trained_model(options.checkpoint, image_size=image_size)
  for change in trained.changes:
    command_line.say(change)
  maps = options.maps
  model = ServedModel(
    trained,
    top=options.top,
    max_batch=options.max_batch,
    maps=None if maps is None else [name for name in maps.split(',') if name],
  )
  for part in model.compile():
    terminal.begin('compiling', part)
  return model


if __name__ == '__main__':
  command_line.run_tool(main)
