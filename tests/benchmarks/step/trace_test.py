"""From a trace to kinds of layer."""

import contextlib
import pathlib
import re
import types

import jax
import pytest

from benchmarks.step import trace
from benchmarks.step.trace import Event
from coatnet_jax.planning import cycle_breakdown
from coatnet_jax.tpu_compiler.compiled_text import parse_hlo_module

# Behind an @ is the place in the traced function.
_TEXT = """HloModule jit_train_step

%fused_copy (p.1: f32[2,3]) -> f32[3,2] {
  %p.1 = f32[2,3]{1,0} parameter(0)
  ROOT %t.1 = f32[3,2]{1,0} transpose(%p.1) @jvp(CoAtNet)/depthwise/t
}

%fused_norm (p.2: f32[3,2]) -> f32[3,2] {
  %p.2 = f32[3,2]{1,0} parameter(0)
  %m.1 = f32[3,2]{1,0} multiply(%p.2) @jvp(CoAtNet)/s1_block_0/norm/mul
  ROOT %a.1 = f32[3,2]{1,0} add(%m.1, %p.2)
}

%window (p.3: f32[3,2]) -> f32[3,2] {
  %p.3 = f32[3,2]{1,0} parameter(0)
  ROOT %r.1 = f32[3,2]{1,0} reduce-window(%p.3), window={size=2x2}
}

%body (p.4: f32[3,2]) -> f32[3,2] {
  %p.4 = f32[3,2]{1,0} parameter(0)
  ROOT %dot.1 = f32[3,2] dot(%p.4) @jvp(CoAtNet)/s3_block_0/attention/dot
}

ENTRY %main (x: f32[2,3]) -> f32[3,2] {
  %x = f32[2,3]{1,0} parameter(0) @jvp(CoAtNet)/s1_block_0/norm/x
  %fusion.1 = f32[3,2] fusion(%x), calls=%fused_copy @jvp(CoAtNet)/depthwise/t
  %fusion.2 = f32[3,2]{1,0} fusion(%fusion.1), kind=kLoop, calls=%fused_norm
  %fusion.3 = f32[3,2]{1,0} fusion(%fusion.2), kind=kLoop, calls=%window
  %convolution.1 = f32[3,2] convolution(%fusion.3) @jvp(CoAtNet)/depthwise/conv
  %add.1 = f32[3,2]{1,0} add(%fusion.3, %fusion.2)
  %add.2 = f32[3,2]{1,0} add(%x, %x)
  %while.1 = f32[3,2] while(%add.1), body=%body @jvp(CoAtNet)/while
  ROOT %copy.1 = f32[3,2]{1,0} copy(%while.1)
}
"""


def _write(text):
  return re.sub(r' @(.+)', r', metadata={op_name="jit(train_step)/\1"}', text)


PROGRAM = parse_hlo_module(_write(_TEXT))


def _event(name, start, duration, **stats):
  return types.SimpleNamespace(
    name=name, start_ns=start, duration_ns=duration, stats=stats.items()
  )


def _data(**lines_of_planes):
  return types.SimpleNamespace(
    planes=[
      types.SimpleNamespace(
        name=plane.replace('_', ':', 1).join(['/', '']),
        lines=[
          types.SimpleNamespace(name=name, events=events)
          for name, events in lines.items()
        ],
      )
      for plane, lines in lines_of_planes.items()
    ]
  )


@pytest.mark.parametrize(
  ('name', 'kind'),
  [
    ('fusion.1', 'copies'),
    ('copy.1', 'copies'),
    ('fusion.2', 'norms'),
    ('fusion.3', 'pooling'),
    ('convolution.1', 'depthwise convolutions'),
    ('add.1', 'norms'),  # By what it reads, as it has no name itself.
    ('add.2', 'rest'),
    ('dot.1', 'attention'),
    ('memset', 'not in the program'),
  ],
)
def test_kinds(name, kind):
  by_kind = trace.summarise([[Event(name, 0, 2e9)]], PROGRAM, 2).by_kind
  assert {k: v for k, v in by_kind.items() if v} == {kind: 1.0}
  assert tuple(by_kind) == trace.KINDS


def test_kinds_are_those_of_plans():
  assert set(trace.KINDS) == {
    *cycle_breakdown.KINDS,
    'copies',
    'not in the program',
  }


def test_what_runs_inside_counts_once():
  events = [
    Event('while.1', 0, 100e9),
    Event('dot.1', 10e9, 30e9),
    Event('dot.1', 50e9, 30e9),
    Event('copy.1', 100e9, 5e9),
    # What a call waits for on its own thread is not its own.
    Event('fusion.2', 200e9, 10e9),
    Event('dot.1', 202e9, 3e9),
  ]
  profile = trace.summarise([events], PROGRAM, 1)
  # A loop itself is nothing: on a CPU its body may run on another thread.
  assert profile.seconds == pytest.approx(75)
  assert profile.by_kind['attention'] == pytest.approx(63)
  assert profile.by_kind['norms'] == pytest.approx(7)
  assert [row['name'] for row in profile.largest] == [
    *('dot.1', 'fusion.2', 'copy.1'),
  ]
  assert 's3_block_0' in profile.largest[0]['op_name']


def test_threads_of_a_cpu():
  data = _data(
    host_CPU={
      'python': [_event('train', 0, 9)],
      'tf_XLAEigen/1': [
        _event('ThunkExecutor::Execute', 0, 9),
        _event('fusion.2', 1, 2, hlo_op='fusion.2', hlo_module='jit_step'),
      ],
      'tf_XLAEigen/2': [_event('dot.1', 1, 4, hlo_op='dot.1')],
    }
  )
  assert trace.read_lines(data) == (
    [[Event('fusion.2', 1, 2)], [Event('dot.1', 1, 4)]],
    1,
  )


def test_streams_of_gpus():
  kernel = _event('cutlass_wgrad', 1, 2, hlo_op='convolution.1')
  streams = {
    'Stream #13(Compute)': [kernel],
    'Stream #14(MemcpyD2D)': [_event('memset', 5, 1)],
    'XLA Modules': [_event('jit_train_step', 0, 9)],
  }
  data = _data(
    host_CPU={'thunks': [_event('convolution.1', 0, 1, hlo_op='x')]},
    device_GPU_0=streams,
    device_GPU_1=streams,
    device_CUSTOM={'Counters': [_event('clock', 0, 1)]},
  )
  lines, num_devices = trace.read_lines(data)
  assert num_devices == 2
  assert lines == [[Event('convolution.1', 1, 2)], [Event('memset', 5, 1)]] * 2


def test_a_profile_is_of_one_device_and_step(monkeypatch):
  event = _event('dot.1', 0, 12e9, hlo_op='dot.1')
  data = _data(
    **{f'device_GPU_{k}': {'Stream #1(Compute)': [event]} for k in range(2)}
  )
  traced = []

  @contextlib.contextmanager
  def write_trace(folder, profiler_options):
    yield traced.append('begun')
    (pathlib.Path(folder) / 'host.xplane.pb').write_bytes(b'')

  monkeypatch.setattr(jax.profiler, 'trace', write_trace)
  monkeypatch.setattr(
    jax.profiler, 'ProfileData', types.SimpleNamespace(from_file=lambda _: data)
  )
  compiled = types.SimpleNamespace(as_text=lambda: _write(_TEXT))
  profile = trace.profile(lambda: traced.append('steps'), compiled, 3)
  assert traced == ['begun', 'steps']
  assert profile.by_kind['attention'] == pytest.approx(4)


def test_operations_of_a_tpu():
  text = '%fusion.2 = f32[3,2]{1,0} fusion(%fusion.1), kind=kLoop'
  data = _data(
    device_TPU_0={'Steps': [_event('1', 0, 9)], 'XLA Ops': [_event(text, 1, 2)]}
  )
  assert trace.read_lines(data) == ([[Event('fusion.2', 1, 2)]], 1)
