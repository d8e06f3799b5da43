"""The command line of tools.serve: from its start to its end by a signal."""

import http.client
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from coatnet_jax.errors import UserError
from tools import serve

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_once_all_is_answered(workdir, image_dir, number):
  command = [sys.executable, '-m', 'tools.serve', '--port=0', '--maps=']
  command.append(f'--checkpoint={workdir}')
  picture = next(image_dir.iterdir()).read_bytes()
  with subprocess.Popen(
    command, cwd=ROOT, stderr=subprocess.PIPE, text=True
  ) as process:
    timer = threading.Timer(300, process.kill)
    timer.start()
    try:
      for line in process.stderr:
        if found := re.search(r'Ready: http://127.0.0.1:(\d+)', line):
          break
      connection = http.client.HTTPConnection('127.0.0.1', int(found[1]))
      headers = {
        'Content-Type': 'image/png',
        'Content-Length': str(len(picture)),
      }
      # Under way: its body is still to come.
      connection.putrequest('POST', '/predict')
      for item in headers.items():
        connection.putheader(*item)
      connection.endheaders(picture[:100])
      # Taken, by an answer to another.
      other = http.client.HTTPConnection('127.0.0.1', int(found[1]))
      other.request('GET', '/health')
      assert other.getresponse().status == 200
      process.send_signal(number)
      assert 'Stopping' in process.stderr.readline()
      connection.send(picture[100:])
      answer = connection.getresponse()
      assert answer.status == 200
      predictions = json.loads(answer.read())['predictions']
      assert len(predictions) == 5
      assert process.wait(60) == 0
      assert 'Traceback' not in process.stderr.read()
    finally:
      timer.cancel()
      process.kill()


def test_an_occupied_port_is_one_sentence(tmp_path):
  with socket.create_server(('127.0.0.1', 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(
      UserError, match=rf'^Port {port} of 127\.0\.0\.1 is occupied by another'
    ):
      serve.main([f'--checkpoint={tmp_path}', f'--port={port}'])


def test_a_checkpoint_that_is_none_is_one_sentence(tmp_path):
  with pytest.raises(UserError, match='has no checkpoint: give the workdir'):
    serve.main([f'--checkpoint={tmp_path}', '--port=0'])


def test_an_address_that_is_none_is_one_sentence(tmp_path):
  with pytest.raises(UserError, match=r"^--host is '192\.0\.2\.1', on which"):
    serve.main([f'--checkpoint={tmp_path}', '--port=0', '--host=192.0.2.1'])


@pytest.mark.parametrize(
  'name',
  ['http://gpu7.lan:80/', 'gpu7.lan:80', 'gpu7.lan/', '//gpu7', '', '*.lan']
  + ['[::1]', 'a@b', ' gpu7', 'gpu7\n', 'grün.lan', 'a..b'],
)
def test_a_name_that_no_request_could_have_is_one_sentence(tmp_path, name):
  with pytest.raises(
    UserError,
    match=rf'^--allow_host is {re.escape(repr(name))}; it must be a host name'
    r' alone, gpu7\.lan, without scheme, port or path \(',
  ):
    serve.main([f'--checkpoint={tmp_path}', f'--allow_host={name}'])


@pytest.mark.parametrize('name', ['gpu7', 'GPU-7.lan', 'a_b.lan.', '10.0.0.7'])
def test_a_name_of_a_host_is_taken(name):
  serve.check_host(name)


def test_everybody_is_warned_of(tmp_path, capsys):
  with pytest.raises(UserError, match='has no checkpoint'):
    serve.main([f'--checkpoint={tmp_path}', '--port=0', '--host=0.0.0.0'])
  assert 'asks for no password' in capsys.readouterr().err


def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch):
  for name in [n for n in sys.modules if n.startswith('coatnet_jax.serving')]:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.delattr('coatnet_jax.serving', raising=False)
  monkeypatch.setitem(sys.modules, 'uvicorn', None)
  with pytest.raises(
    UserError,
    match=r'^tools\.serve needs the package uvicorn, which is not installed:'
    r' pip install -r requirements-serve\.txt$',
  ):
    serve.main([f'--checkpoint={tmp_path}', '--port=0'])
