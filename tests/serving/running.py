"""A server in a thread, with a model that is none, and raw requests to it."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time

import cv2
import numpy as np

from coatnet_jax.serving import server
from coatnet_jax.serving.limits import Limits
from coatnet_jax.serving.served_model import (
  PictureMap,
  Prediction,
  encode_png,
)
from tests.quick_configs import create_preprocessing

BOUNDARY = 'b0undary'
FORM = f'multipart/form-data; boundary={BOUNDARY}'


class FakeModel:
  """Says what a ServedModel says, by the brightness of a picture."""

  preprocessing = create_preprocessing(
    image_size=(8, 8),
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    eval_crop_fraction=1.0,
  )
  max_batch = 4
  top = 2
  # What neither a page nor a terminal may be given.
  class_names = ('da\nrk \x1b[2J \x9b \u202e \udcff', '<b>bright</b>')
  name = 'fake'
  step = 7
  maps = ('grad_cam',)

  def __init__(self):
    self.batches = []
    self.seconds = 0.0

  def predict(self, crops):
    self.batches.append(len(crops))
    time.sleep(self.seconds)
    return [self._predict(crop) for crop in crops]

  def _predict(self, crop):
    bright = float(crop.mean() / 255)
    rows = [(1, bright), (0, 1 - bright)]
    rows.sort(key=lambda row: -row[1])
    return tuple(
      Prediction(self.class_names[label], (), label, probability)
      for label, probability in rows
    )

  def draw_map(self, picture, method, label):
    return PictureMap(method, f'a map of {label}', encode_png(255 - picture))


class Running:
  """A server under way.

  Attributes:
    model: model of the server.
    port: number of its port.
    server: object of uvicorn.
    thread: thread that it runs in.
  """

  def __init__(self, limits, allowed_hosts=()):
    self.model = FakeModel()
    taken = server.bind('127.0.0.1', 0)
    self.port = taken.getsockname()[1]
    self.server = server.Server(
      self.model, limits=limits, allowed_hosts=allowed_hosts
    )
    self.thread = threading.Thread(
      target=lambda: asyncio.run(self.server.serve(sockets=[taken]))
    )

  def ask(self, method, path, body=None, headers=None):
    """Returns status, headers and body of an answer."""
    connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)
    with contextlib.closing(connection):
      connection.request(method, path, body, headers or {})
      response = connection.getresponse()
      return response.status, response.headers, response.read()

  def post(self, body, kind='image/png', path='/predict', **headers):
    """Returns status and content of an answer in JSON."""
    headers = {'Content-Type': kind, **headers}
    status, _, content = self.ask('POST', path, body, headers)
    return status, json.loads(content)

  def connect(self):
    """Returns a socket that nothing was sent to."""
    return socket.create_connection(('127.0.0.1', self.port), timeout=30)

  def send(self, data, *, half_close=False):
    """Returns all that comes back for some bytes."""
    with self.connect() as raw:
      raw.sendall(data)
      if half_close:
        raw.shutdown(socket.SHUT_WR)
      return read_all(raw)


@contextlib.contextmanager
def start(limits=None, **options):
  """Context of a server under way."""
  running = Running(limits or Limits(), **options)
  running.thread.start()
  try:
    yield running
  finally:
    running.server.should_exit = True
    running.thread.join(20)
    assert not running.thread.is_alive()


def ask_at_once(ask, questions):
  """Calls a function of each question in a thread of its own; waits for all."""
  threads = [threading.Thread(target=ask, args=(q,)) for q in questions]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()


def read_all(raw):
  """Returns what a socket has until it is closed."""
  parts = []
  with contextlib.suppress(ConnectionResetError):
    while part := raw.recv(65536):
      parts.append(part)
  return b''.join(parts)


def split_answer(data):
  """Returns status and JSON of a raw answer."""
  head, _, body = data.partition(b'\r\n\r\n')
  return int(head.split()[1]), json.loads(body)


def create_picture(level=250, shape=(20, 30)):
  """Returns the file of a plain picture, PNG."""
  return encode_png(np.full((*shape, 3), level, np.uint8))


def create_jpeg(shape):
  _, data = cv2.imencode('.jpg', np.zeros((*shape, 3), np.uint8))
  return data.tobytes()


def create_form(*parts):
  """Returns a form of (name, file name or None, content)."""
  lines = []
  for name, file, content in parts:
    ending = '' if file is None else f'; filename="{file}"'
    lines.append(
      f'--{BOUNDARY}\r\nContent-Disposition: form-data;'
      f' name="{name}"{ending}\r\n\r\n'.encode()
      + content
      + b'\r\n'
    )
  return b''.join(lines) + f'--{BOUNDARY}--\r\n'.encode()
