"""Random words for the command line of a run: --config.KEY=VALUE and worse.

    python -m tests.config_overrides --count=1000 [--seed=0] [--lower]
    python -m tests.config_overrides --count=40 --processes

tries them and prints what was neither a run that can be nor one sentence.
--lower traces the train step of what was accepted too, and --processes starts
`main.py` for each.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from unittest import mock

from flax.traverse_util import flatten_dict

import main
import train
from coatnet_jax.config_flag import load_config, parse_with_config
from coatnet_jax.errors import UserError
from coatnet_jax.initial_state import abstract_train_state
from coatnet_jax.step_compilation import jit_train_step
from coatnet_jax.training import lease
from configs import base
from tests.documents import ROOT

CONFIG = 'tests/processes_config.py'
# How long may pass until a person knows.
MAX_SECONDS = 5.0

_VALUES = flatten_dict(base.get_config().to_dict(), sep='.')
_KEYS = sorted(_VALUES)
# What no key is, or but few are.
_ODD_VALUES = (
  *('', ' ', '\t', '\n', ',', '.', '=', '-', '--', '#', '*', '%s', '{0}'),
  *('nan', 'inf', '-inf', 'NaN', '1e400', '-1e400', '1e308', '1e-400', '-0'),
  *('-1', '0', '1', '2', '-2', '0.5', '1.5', '1e3', '1e30', '1_000', '0x10'),
  *('1000000000000', '9' * 30, '9' * 5000, '1e999999999', '2**31', '10**9'),
  *(
    '4294967295',
    '4294967296',
    '9223372036854775808',
    '1j',
    '1,2',
    '1,',
    '3/4',
  ),
  *('True', 'true', 'False', 'None', 'null', 'on', 'yes', '()', '[]', '{}'),
  *('(1,2)', '(1, 2', '[1,2]', "('a',)", '((1,2),(3,4))', '{"a": 1}', '(,)'),
  *('"', "'", '"\'"', '"""', "'a'", '"a"', '\\', '\\n', '\\x00', "b'x'"),
  *("__import__('os').system('false')", 'lambda: 0', 'print(1)', '1 if 1 else'),
  *(
    'é',
    '☃',
    '\u202e',
    '\ud83d\ude00'.encode('utf-16', 'surrogatepass').decode('utf-16'),
  ),
  *('\udcff', '\x1b[31m', '\x07', 'a' * 10_000, '(' * 200, '[' * 100_000),
  *('..', '../..', '/', '/dev/null', '/dev/zero', '~', '~nobody/x', '$HOME'),
  *('gs://', 'gs://x', 'file:///tmp', 'http://x', 'coatnet_7', 'coatnet_0'),
)
MALFORMED = (
  *('--config.', '--config..', '--config.=', '--config.=1', '--config..x=1'),
  *('--config.data.=1', '--config.data..x=1', '--config.data.x.y.z=1'),
  *(
    '--config.model=5',
    '--config.model',
    '--config.model.',
    '--config.model=x',
  ),
  *('--config.seed.x=1', '--config.seed.=1', '--config.seed', '--config.seed='),
  *('--config.data[0]=1', '--config.data["name"]=1', '--config[seed]=1'),
  *('--config.seed[0]=1', '--config.preprocessing.image_size[0]=8'),
  *('--config.preprocessing.image_size[9]=8', '--config.[0]=1', '--config.[=1'),
  *('--config.__class__=1', '--config.data.__dict__=1', '--config.get=1'),
  *('--config.items=1', '--config.model.update=1', '--config.lock=1'),
  *('--config._fields=1', '--config.data._locked=0', '--config.to_dict=1'),
  *('--config.é=1', '--config.☃.x=1', '--config.\udcff=1', '--config. =1'),
  *('--config.seed =1', '--config. seed=1', '--config.SEED=1', '--config.-=1'),
  *('--config.0=1', '--config.1.2=3', '--config.data.0=1', '--config.%s=1'),
  *('--noconfig.seed', '--noconfig.model', '--noconfig.', '--noconfig.x=1'),
  *(
    '--noconfig.model.scan_blocks=1',
    '--config',
    '--config=',
    '---config.seed=1',
  ),
  *('config.seed=1', '-config.seed=1', '--config.seed==1', '--', '-', '=', 'x'),
  *('--config.seed=1=2', '--config=configs/nothing.py', '--config=/dev/zero'),
  *(
    '--config.' + 'a.' * 500 + '=1',
    '--config.' + 'a' * 5000 + '=1',
    '-c',
    '-x=1',
  ),
)


def draw_words(choose: random.Random) -> list[str]:
  """Returns words for after --config=FILE, of which some are wrong."""
  count = choose.choice((1, 1, 1, 2, 3))
  words = []
  for _ in range(count):
    words += choose.choices(
      (_draw_odd_value, _draw_near_value, _draw_misspelt, _draw_malformed),
      (8, 5, 2, 3),
    )[0](choose)
  if choose.random() < 0.05:
    words += choose.choices(words, k=1)
  return words


def _draw_odd_value(choose):
  key, value = choose.choice(_KEYS), choose.choice(_ODD_VALUES)
  if choose.random() < 0.1:
    return [f'--config.{key}', value]
  return [f'--config.{key}={value}']


def _draw_near_value(choose):
  """A value of the key's own type, in its range or not far from it."""
  key = choose.choice(_KEYS)
  value = _VALUES[key]
  items = [
    _change(choose, v)
    for v in (value if isinstance(value, tuple) else (value,))
  ]
  text = ','.join(map(str, items))
  return [f'--config.{key}={text}']


def _change(choose, value):
  if isinstance(value, bool):
    return choose.choice(('true', 'false'))
  if isinstance(value, int):
    return choose.choice(
      (0, 1, 2, 3, 7, value + 1, 2 * value, 2 ** choose.randrange(40))
    )
  if isinstance(value, float):
    return choose.choice(
      (0.0, 1.0, value / 3, 3 * value, 10.0 ** choose.randrange(-40, 40))
    )
  return choose.choice(
    (value, *(v for v in _VALUES.values() if isinstance(v, str)))
  )


def _draw_misspelt(choose):
  letters = list(choose.choice(_KEYS))
  for _ in range(choose.randrange(1, 4)):
    place = choose.randrange(len(letters))
    letters[place] = choose.choice(('', '.', '_', 'x', '-', letters[place] * 2))
  return [f'--config.{"".join(letters)}={choose.choice(_ODD_VALUES)}']


def _draw_malformed(choose):
  return [choose.choice(MALFORMED)]


class _Claimed(Exception):
  """The run was accepted, and would now write."""


def start_here(words: list[str], *, lower: bool = False) -> str:
  """Starts a run in this process, up to where it would claim its workdir.

  Args:
    words: words for after --config=FILE.
    lower: whether the train step of what is accepted is traced.

  Returns:
    'accepted', or the message of the UserError.

  Raises:
    Exception: whatever else it raises.
  """
  with tempfile.TemporaryDirectory() as directory:
    workdir = pathlib.Path(directory) / 'run'
    with mock.patch.object(lease, 'hold', side_effect=_Claimed):
      try:
        options, changes = parse_with_config(
          main.create_parser(),
          [f'--config={CONFIG}', f'--workdir={workdir}', *words],
        )
        config = load_config(options.config, changes)
        train.train_and_evaluate(config, str(workdir))
      except UserError as error:
        return str(error)
      except _Claimed:
        pass
      finally:
        assert not workdir.exists(), 'It has written.'
    if lower:
      run = train.create_run(config)
      _, abstract_state = abstract_train_state(run)
      jit_train_step(run, abstract_state).lower(
        abstract_state, run.abstract_batch
      )
  return 'accepted'


def start_process(words: list[str]) -> tuple[int, str, float]:
  """Starts main.py; returns its status, what it said, and the CPU's seconds.

  Other work on the machine counts by a clock. A run that claims its workdir is
  ended: status 0.
  """
  with tempfile.TemporaryDirectory() as directory:
    workdir = pathlib.Path(directory) / 'run'
    process = subprocess.Popen(
      [
        sys.executable,
        'main.py',
        f'--config={CONFIG}',
        f'--workdir={workdir}',
        *words,
      ],
      cwd=ROOT,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    )
    try:
      before = resource.getrusage(resource.RUSAGE_CHILDREN)
      while process.poll() is None and not workdir.exists():
        time.sleep(0.05)
      accepted = process.poll() is None
      process.kill()
      process.wait()
      after = resource.getrusage(resource.RUSAGE_CHILDREN)
      seconds = sum(after[:2]) - sum(before[:2])
      if accepted:
        return 0, 'accepted', seconds
      said = process.stderr.read().decode('utf-8', 'replace')
      if workdir.exists():
        said += 'It has written.'
      return process.returncode, said, seconds
    finally:
      process.kill()
      process.stderr.close()


def find_fault(said: str) -> str:
  """Returns what is wrong with a message; '' if it is one for people."""
  if not said.strip():
    return 'nothing is said'
  if 'Traceback' in said or re.search(r'\w(Error|Exception)\b', said):
    return 'raw'
  if len(said) > 4000:
    return f'{len(said):,} characters'
  if re.search('[\0-\x08\x0b-\x1f\x7f]', said):
    return 'control characters'
  return ''


def try_words(words, *, lower=False, processes=False) -> tuple[str, str]:
  """Returns the outcome and what was wrong with it, if anything."""
  start = time.monotonic()
  if processes:
    status, said, seconds = start_process(words)
    fault = find_fault(said)
    if status not in (0, 1, 2):
      fault = f'status {status}'
  else:
    try:
      said = start_here(words, lower=lower)
      fault = find_fault(said)
    except BaseException as error:
      said, fault = f'{type(error).__name__}: {error}', 'raised'
    seconds = time.monotonic() - start
  if seconds > MAX_SECONDS and not fault and not (lower and said == 'accepted'):
    fault = f'{seconds:.1f} s'
  return said, fault


def _main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--count', type=int, default=1000)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--lower', action='store_true')
  parser.add_argument('--processes', action='store_true')
  options = parser.parse_args()
  outcomes = collections.Counter()
  for number in range(options.count):
    words = draw_words(random.Random(f'{options.seed} {number}'))
    said, fault = try_words(
      words, lower=options.lower, processes=options.processes
    )
    outcomes[
      'wrong' if fault else 'accepted' if said == 'accepted' else 'a sentence'
    ] += 1
    if fault:
      print(
        f'{number}: {[w[:80] for w in words]!r}\n  {fault}: {said[:300]!r}',
        flush=True,
      )
  print(dict(outcomes))


if __name__ == '__main__':
  with contextlib.suppress(KeyboardInterrupt):
    _main()
