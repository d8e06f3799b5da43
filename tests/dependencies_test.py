"""Imports point one way: main -> train -> rooms -> ops -> jax."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# room: the rooms of this project that it may import.
ALLOWED = {
  'main': {
    'arguments',
    'config_flag',
    'train',
    'distributed',
    'compilation_cache',
    'errors',
    'escapes',
    'library_noise',
    'paths',
    'stopping',
    'terminal',
    'texts',
    'training',
  },
  'train': {
    'memory',
    'checkpoints',
    'data',
    'distributed',
    'errors',
    'evaluation',
    'figures',
    'initial_state',
    'reports',
    'paths',
    'replay',
    'run',
    'run_batches',
    'step_compilation',
    'stopping',
    'terminal',
    'training',
  },
  'init_from': {
    'checkpoints',
    'distributed',
    'errors',
    'paths',
    'training',
    'weights',
  },
  'imagenet_classes': set(),
  'initial_state': {
    'checkpoints',
    'distributed',
    'errors',
    'init_from',
    'run',
    'training',
    'weights',
  },
  'replay': {
    'checkpoints',
    'distributed',
    'paths',
    'run',
    'run_batches',
    'training',
    'tree_names',
  },
  'reports': {
    'checkpoints',
    'configs',
    'data',
    'errors',
    'escapes',
    'evaluation',
    'explanation',
    'page_templates',
    'paths',
    'run',
    'stopping',
    'strict_json',
    'terminal',
    'texts',
    'training',
  },
  'publishing': {
    'checkpoints',
    'errors',
    'paths',
    'strict_json',
    'texts',
    'weights',
  },
  'run_batches': {'data', 'distributed', 'run'},
  'config_checks': {'data', 'distributed', 'errors', 'training'},
  'run': {
    'config_checks',
    'memory',
    'checkpoints',
    'data',
    'distributed',
    'errors',
    'init_from',
    'models',
    'paths',
    'training',
    'values',
  },
  'checkpoints': {
    'data',
    'distributed',
    'errors',
    'models',
    'paths',
    'strict_json',
    'training',
    'values',
    'weights',
  },
  'arguments': {'errors', 'escapes', 'values'},
  'config_flag': {'configs', 'errors', 'paths'},
  'coatnet_jax': {'models', 'ops', 'weights'},
  'data': {'errors', 'paths', 'stopping', 'strict_json', 'texts', 'values'},
  'distributed': {
    'errors',
    'ops',
    'paths',
    'stopping',
    'strict_json',
    'terminal',
    'tree_names',
    'values',
  },
  'errors': set(),
  'escapes': set(),
  'evaluation': {
    'checkpoints',
    'data',
    'distributed',
    'errors',
    'escapes',
    'inference',
    'paths',
    'stopping',
    'strict_json',
    'terminal',
    'texts',
    'training',
  },
  'explanation': {
    'checkpoints',
    'data',
    'errors',
    'inference',
    'models',
    'ops',
    'training',
  },
  'export': {
    'checkpoints',
    'data',
    'errors',
    'escapes',
    'inference',
    'strict_json',
    'training',
  },
  'figures': {
    'data',
    'errors',
    'escapes',
    'evaluation',
    'explanation',
    'paths',
  },
  'inference': {'data', 'training'},
  'compilation_cache': {'errors', 'paths'},
  'library_noise': set(),
  'strict_json': {'paths'},
  'models': {'errors', 'ops', 'values'},
  'ops': {'errors'},
  'page_templates': set(),
  'paths': {'errors'},
  'planning': {
    'data',
    'distributed',
    'errors',
    'init_from',
    'initial_state',
    'models',
    'paths',
    'run',
    'step_compilation',
    'terminal',
    'tpu_compiler',
    'training',
  },
  'step_compilation': {
    'distributed',
    'errors',
    'run',
    'tpu_compiler',
    'training',
  },
  'serving': {
    'checkpoints',
    'data',
    'errors',
    'escapes',
    'explanation',
    'imagenet_classes',
    'inference',
    'page_templates',
    'stopping',
    'strict_json',
    'terminal',
    'texts',
  },
  'stopping': {'terminal'},
  'terminal': {'escapes'},
  'texts': {'errors', 'escapes', 'paths'},
  'tpu_compiler': {'errors', 'paths', 'strict_json'},
  'training': {
    'errors',
    'models',
    'ops',
    'paths',
    'stopping',
    'strict_json',
    'terminal',
    'tree_names',
    'values',
    'texts',
  },
  'memory': {'errors'},
  'tree_names': set(),
  'values': {'errors'},
  'weights': {
    'errors',
    'imagenet_classes',
    'models',
    'paths',
    'strict_json',
    'texts',
    'tree_names',
  },
  'configs': {'errors'},
}


def _room(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  if parts[0] != 'coatnet_jax':
    return parts[0]
  return 'coatnet_jax' if parts[1] == '__init__' else parts[1]


def _files():
  return [
    *ROOT.glob('*.py'),
    *(ROOT / 'configs').glob('*.py'),
    *(ROOT / 'coatnet_jax').rglob('*.py'),
  ]


def _imported_rooms(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom):
      names = [f'{node.module}.{alias.name}' for alias in node.names]
    elif isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    else:
      continue
    for name in names:
      parts = name.split('.')
      if parts[0] == 'coatnet_jax':
        yield parts[1] if len(parts) > 1 else 'coatnet_jax'
      elif parts[0] in ('train', 'main', 'configs', 'tools', 'tests'):
        yield parts[0]


@pytest.mark.parametrize('path', _files(), ids=lambda p: str(p.name))
def test_imports_point_one_way(path):
  room = _room(path)
  assert set(_imported_rooms(path)) <= ALLOWED[room] | {room}


@pytest.mark.parametrize('room', ['data', 'configs'])
def test_no_jax_where_arrays_are_numpy(room):
  for path in _files():
    if _room(path) == room:
      tree = ast.parse(path.read_text())
      for node in ast.walk(tree):
        if isinstance(node, ast.Import):
          modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
          modules = [node.module]
        else:
          continue
        assert not any(m.split('.')[0] in ('jax', 'flax') for m in modules)
