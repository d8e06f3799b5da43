"""What a client gets: answers, and a reason where there is none."""

import base64
import json
import re

import cv2
import jsonschema
import numpy as np
import openapi_spec_validator
import prometheus_client.parser
import pytest

from coatnet_jax.serving.limits import Limits
from tests.serving.running import (
  FORM,
  ask_at_once,
  create_form,
  create_jpeg,
  create_picture,
  start,
)

PICTURE = create_picture()


@pytest.fixture(scope='module')
def running():
  limits = Limits(max_body_bytes=200_000, max_pixels=1_000_000, max_waiting=64)
  with start(limits, allowed_hosts=['Box.lan']) as one:
    yield one


@pytest.fixture(scope='module')
def description(running):
  return json.loads(running.ask('GET', '/openapi.json')[2])


def _check_answer(description, content, name):
  schema = {**description, '$ref': f'#/components/schemas/{name}'}
  jsonschema.validate(content, schema, jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
  ('body', 'kind'),
  [
    (PICTURE, 'image/png'),
    (PICTURE, 'application/octet-stream'),
    (create_form(('anything', 'a.png', PICTURE)), FORM),
    # Of a page without scripts: one of two fields is chosen.
    (create_form(('file', '', b''), ('photo', 'a', PICTURE)), FORM),
  ],
)
def test_a_picture_is_answered(running, description, body, kind):
  status, content = running.post(body, kind)
  assert status == 200
  _check_answer(description, content, 'Answer')
  assert content['map'] is None
  first = content['predictions'][0]
  assert (first['class'], first['label']) == ('<b>bright</b>', 1)
  assert first['probability'] == pytest.approx(250 / 255)


def test_a_map_is_drawn_where_it_is_asked_for(running, description):
  status, content = running.post(PICTURE, path='/predict?map=grad_cam')
  assert status == 200
  _check_answer(description, content, 'Answer')
  png = np.frombuffer(base64.b64decode(content['map']['png']), np.uint8)
  # The whole picture, enlarged for the eye.
  assert cv2.imdecode(png, cv2.IMREAD_COLOR).shape == (220, 330, 3)
  status, content = running.post(PICTURE, path='/predict?map=gradcam')
  assert (status, content['error']) == (
    400,
    "map is 'gradcam'; it must be one of grad_cam; did you mean grad_cam?",
  )


def test_the_description_is_valid(description):
  openapi_spec_validator.validate(description)


def test_the_description_takes_a_file_of_any_name(description):
  """As `test_a_picture_is_answered` finds the server to."""
  body = description['paths']['/predict']['post']['requestBody']
  schema = body['content']['multipart/form-data']['schema']
  for form in ({'file': 'x'}, {'anything': 'x'}, {'file': '', 'photo': 'x'}):
    jsonschema.validate(form, schema, jsonschema.Draft202012Validator)
  with pytest.raises(jsonschema.ValidationError):
    jsonschema.validate({}, schema, jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
  ('body', 'kind', 'status', 'words'),
  [
    (b'', 'image/png', 400, 'empty'),
    (b'no picture', 'image/png', 415, 'not an image'),
    (b'<html>', 'image/png', 415, 'an HTML page'),
    (PICTURE, 'text/plain', 415, 'Content-Type'),
    (PICTURE, '', 415, 'Content-Type'),
    (PICTURE[:-30], 'image/png', 422, 'cannot be decoded'),
    (PICTURE[:20] + b'\0' * 99, 'image/png', 422, 'cannot be decoded'),
    (bytes(200_001), 'image/png', 413, 'larger than 200,000 bytes'),
    (create_jpeg((1000, 1001)), 'image/jpeg', 413, '1,000,000 are read'),
    (create_form(('a', None, b'text')), FORM, 400, 'no file'),
    (create_form(('a', 'a', PICTURE))[:-20], FORM, 400, 'cut off'),
    (create_form(('a', 'a', PICTURE)), FORM + 'x', 400, 'boundary'),
    (PICTURE, 'multipart/form-data', 400, 'no boundary'),
    (create_form(*[('a', 'a', b'')] * 9), FORM, 400, 'more than 8 parts'),
    (create_form(('a', None, b'x' * 1001)), FORM, 400, 'no file'),
    (
      create_form(('file', 'a', PICTURE), ('file', 'b', PICTURE)),
      FORM,
      400,
      'The form has two pictures; send one.',
    ),
    (
      create_form(('file', 'a', PICTURE), ('x', 'b', b''), ('y', 'b', b'x')),
      FORM,
      400,
      'The form has two pictures; send one.',
    ),
  ],
)
def test_what_is_no_picture_gets_a_reason(
  running, description, body, kind, status, words
):
  found, content = running.post(body, kind)
  assert (found, content['status']) == (status, status), content
  assert words in content['error']
  _check_answer(description, content, 'Failure')
  # Nothing of the machine, and no object of Python's.
  assert not re.search(r'0x[0-9a-f]{6}|/\w+/\w|\.py|config\.', content['error'])


def test_a_bomb_is_not_decoded(running):
  """A PNG of a few bytes that says it has 1e9 pixels."""
  header = bytearray(create_picture())
  header[16:24] = (100_000).to_bytes(4, 'big') + (10_000).to_bytes(4, 'big')
  assert running.post(bytes(header))[0] in (413, 422)


def test_unknown_paths_and_methods(running, description):
  for method, path, status in (
    ('GET', '/nothing', 404),
    ('GET', '/page.html.j2', 404),
    ('GET', '/../server.py', 404),
    ('GET', '/predict', 405),
    ('DELETE', '/', 405),
  ):
    found, _, content = running.ask(method, path)
    assert found == status
    _check_answer(description, json.loads(content), 'Failure')
  _, headers, content = running.ask('GET', '/predict')
  assert headers['Allow'] == 'POST'
  assert json.loads(content)['error'] == 'The method must be one of POST.'


@pytest.mark.parametrize(
  ('query', 'fields', 'words'),
  [
    ('?mpa=grad_cam', [], "the key 'mpa'; the only one is map."),
    ('?map=&top=3', [], "the key 'top'"),
    ('?map=grad_cam&map=rollout', [], "the key 'map' twice; give it once."),
    ('?map=&map=', [], "the key 'map' twice"),
    ('', [('map', None, b'grad_cam')], '/predict?map=KIND'),
    ('', [('top', None, b'3')], 'has fields beside its file'),
  ],
)
def test_what_would_be_ignored_is_refused(running, query, fields, words):
  form = create_form(('file', 'a', PICTURE), *fields)
  status, content = running.post(form, FORM, path=f'/predict{query}')
  assert status == 400
  assert words in content['error']


@pytest.mark.parametrize(
  ('headers', 'status'),
  [
    ({'Host': 'localhost:1'}, 200),
    ({'Host': '[::1]:80'}, 200),
    ({'Host': '192.168.0.7'}, 200),
    ({'Host': 'box.LAN:8000'}, 200),
    ({'Host': 'rebound.example'}, 421),
    ({'Host': '127.0.0.1.rebound.example'}, 421),
    ({'Host': ''}, 421),
    ({'Host': 'box.lan', 'Origin': 'http://box.lan'}, 200),
    ({'Host': 'box.lan', 'Origin': 'http://other.example'}, 403),
    ({'Host': 'box.lan', 'Origin': 'null'}, 403),
    ({'Host': 'box.lan', 'Sec-Fetch-Site': 'cross-site'}, 403),
  ],
)
def test_other_pages_and_names_are_refused(running, headers, status):
  found, answered, _ = running.ask('GET', '/health', headers=headers)
  assert found == status
  assert 'Access-Control-Allow-Origin' not in answered


def test_the_page_needs_nothing_from_outside(running):
  _, headers, content = running.ask('GET', '/')
  policy = headers['Content-Security-Policy']
  assert "default-src 'none'" in policy
  assert 'unsafe' not in policy
  text = content.decode()
  assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
  assert not re.search(r'<script>|<style|\son\w+=|\sstyle=', text)
  for name, kind in (('page.css', 'text/css'), ('page.js', 'text/javascript')):
    status, headers, _ = running.ask('GET', f'/{name}')
    assert (status, headers.get_content_type()) == (200, kind)


def test_json_has_a_name_itself_and_the_page_shows_it(running):
  name = running.model.class_names[0]
  _, _, content = running.ask(
    'POST', '/predict', PICTURE, {'Content-Type': 'image/png'}
  )
  assert json.loads(content)['predictions'][1]['class'] == name
  # Nor is it a terminal's, of a program that prints what comes.
  assert re.fullmatch(rb'[ -~]+', content)
  form = create_form(('file', 'a', PICTURE))
  _, _, content = running.ask('POST', '/', form, {'Content-Type': FORM})
  assert r'da\x0ark \x1b[2J \x9b \u202e \xff<' in content.decode()


def test_the_page_answers_without_scripts(running):
  form = create_form(('map', None, b'grad_cam'), ('file', 'a', PICTURE))
  status, _, content = running.ask('POST', '/', form, {'Content-Type': FORM})
  text = content.decode()
  assert status == 200
  # Names are data.
  assert '&lt;b&gt;bright&lt;/b&gt;, 98.0%' in text
  assert '<b>' not in text
  assert text.count('<img src="data:image/png') == 2
  broken = create_form(('map', None, b'<i>'), ('file', 'a', PICTURE))
  status, _, content = running.ask('POST', '/', broken, {'Content-Type': FORM})
  assert (status, b'role="alert"' in content) == (400, True)
  assert b'<i>' not in content


@pytest.mark.parametrize(
  ('path', 'fields', 'words'),
  [
    ('/?map=grad_cam', [], 'the key &#39;map&#39;; none is taken here.'),
    ('/', [('<i>', None, b'x')], 'the field &#39;&lt;i&gt;&#39;; the only one'),
    ('/', [('map', None, b''), ('top', None, b'3')], 'the field &#39;top&#39;'),
    ('/', [('map', None, b'')] * 2, 'the field &#39;map&#39; twice'),
    ('/', [('photo', 'b', PICTURE)], 'has two pictures; send one.'),
  ],
)
def test_what_the_page_would_ignore_is_refused(running, path, fields, words):
  form = create_form(('file', 'a', PICTURE), *fields)
  status, _, content = running.ask('POST', path, form, {'Content-Type': FORM})
  assert status == 400
  text = content.decode()
  assert words in text
  # The page itself, which can be used again.
  assert '<form method="post"' in text


def test_simultaneous_requests_are_one_batch(running):
  running.model.seconds = 0.2
  running.model.batches.clear()
  try:
    found = {}

    def ask(level):
      found[level] = running.post(create_picture(level))[1]

    ask_at_once(ask, range(200, 209))
  finally:
    running.model.seconds = 0.0
  assert sum(running.model.batches) == 9
  assert max(running.model.batches) == 4
  # Everybody gets an answer for their own picture.
  for level, content in found.items():
    probability = content['predictions'][0]['probability']
    assert probability == pytest.approx(level / 255)


def test_what_happens_is_counted(running):
  running.post(PICTURE)
  running.post(b'no picture')
  _, headers, content = running.ask('GET', '/metrics')
  assert headers.get_content_type() == 'text/plain'
  samples = [
    sample
    for family in prometheus_client.parser.text_string_to_metric_families(
      content.decode()
    )
    for sample in family.samples
  ]
  statuses = {
    sample.labels['status']
    for sample in samples
    if sample.name == 'coatnet_serve_requests_total'
    and sample.labels['path'] == '/predict'
  }
  assert {'200', '415'} <= statuses
  values = {s.name: s.value for s in samples if not s.labels}
  assert values['coatnet_serve_batch_size_sum'] >= 1
  assert values['coatnet_serve_queue'] == 0
  assert values['coatnet_serve_pictures'] == 0
  assert values['coatnet_serve_held_bytes'] == 0
  assert values['coatnet_serve_connections'] >= 1
