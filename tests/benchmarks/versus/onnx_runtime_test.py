"""ONNX Runtime as a contestant computes what this project does."""

import dataclasses
import json
import subprocess
import sys

import pytest

from tests.benchmarks.versus.tasks import TASK
from tests.documents import ROOT

pytestmark = pytest.mark.export


def test_steps_are_taken():
  task = dataclasses.replace(TASK, mode='inference')
  questions = [
    ['prepare', {}],
    ['compile', {}],
    ['turn', {'steps': 2}],
    ['peak_bytes', {}],
  ]
  process = subprocess.run(
    [sys.executable, '-m', 'benchmarks.versus.onnx_runtime', task.to_json()],
    input=''.join(f'{json.dumps(question)}\n' for question in questions),
    capture_output=True,
    text=True,
    timeout=300,
    cwd=ROOT,
  )
  prepared, compiled, turn, peak = (
    json.loads(line)['answer'] for line in process.stdout.splitlines()
  )
  # As many as timm's has: tests/benchmarks/versus/ours_test.py.
  assert prepared['num_parameters'] == 575_480
  assert 'onnxruntime' in prepared['versions']
  assert compiled['seconds'] > 0
  assert turn['seconds'] > 0
  assert 1e8 < peak < 1e11
