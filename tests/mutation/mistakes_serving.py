"""Mistakes in what serves a model."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/serving/batching.py',
    (
      'answers_of_others',
      'for (_, future), result in zip(batch, results, strict=True):',
      'for (_, future), result in zip(batch, results[::-1], strict=True):',
      "In a batch of several everybody gets another's answer.",
      'serving/application_test.py',
    ),
    (
      'one_at_a_time',
      'while len(batch) < self._max_batch and not',
      'while len(batch) < 1 and not',
      'Simultaneous requests are not batched.',
      'serving/application_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/serving/guard.py',
    (
      'any_host',
      '    try:\n      ipaddress.ip_address(name)\n    except ValueError:\n'
      '      return False\n    return True',
      '    return True',
      'By DNS rebinding the page of a stranger reads answers.',
      'serving/application_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/serving/connections.py',
    (
      'headers_for_ever',
      '    super().connection_made(transport)\n    self._wait_for_headers()',
      '    super().connection_made(transport)',
      'A client that sends half a line keeps its connection for ever.',
      'serving/connections_test.py',
    ),
    (
      'whole_headers_of_any_length',
      '    if self._has_long_headers():',
      '    if False:',
      'Headers that come at once may be of any length.',
      'serving/connections_test.py',
    ),
    (
      'refused_and_answered',
      '      cycle.disconnected = True\n',
      '',
      'The application answers what was refused, and fails.',
      'serving/connections_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/serving/uploads.py',
    (
      'second_picture_ignored',
      '  if len(pictures) > 1:',
      '  if len(pictures) > 8:',
      'Of two pictures in a form one is answered, and nobody told.',
      'serving/application_test.py',
    ),
    (
      'body_without_end',
      '        if len(body) + len(chunk) > limits.max_body_bytes:\n'
      '          raise _create_size_error(limits)\n',
      '',
      'A body without a Content-Length fills the memory.',
      'serving/connections_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/serving/server.py',
    (
      'signals_of_uvicorn',
      'return contextlib.nullcontext()',
      'return super().capture_signals()',
      'A server that is asked to stop ends by the signal, not with status 0.',
      'tools/serve_test.py',
      'only a test of the slow half starts one',
    ),
  ),
)
