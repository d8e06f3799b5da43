"""How every tool begins and ends: its help, a pipe's end, Ctrl-C."""

import argparse
import importlib
import pathlib
import signal
import subprocess
import sys

import pytest

import tools

ROOT = pathlib.Path(__file__).parents[2]
TIMEOUT = 120

# A tool that says more than a pipe holds.
TALKS = """
from tools import command_line

def main(arguments):
  command_line.say('on stderr')
  for number in range(100_000):
    command_line.show(f'line {number}')
  return 0

command_line.run_tool(main)
"""
# Ends as if a worker process's pipe had broken.
BREAKS = """
from tools import command_line

def main(arguments):
  raise BrokenPipeError('of a worker')

command_line.run_tool(main)
"""
INTERRUPTED = """
from tools import command_line

def main(arguments):
  raise KeyboardInterrupt

command_line.run_tool(main)
"""


def _parsers(parser):
  yield parser
  for action in parser._actions:
    if isinstance(action, argparse._SubParsersAction):
      for command in action.choices.values():
        yield from _parsers(command)


def test_every_program_is_a_tool():
  programs = {
    path.stem
    for path in (ROOT / 'tools').glob('*.py')
    if "if __name__ == '__main__'" in path.read_text()
  }
  assert programs == set(tools.TOOLS)


@pytest.mark.parametrize('name', tools.TOOLS)
def test_help_has_every_argument(name):
  module = importlib.import_module(f'tools.{name}')
  top = module.create_parser()
  assert top.prog == f'python -m tools.{name}'
  assert module.__doc__.strip().splitlines()[0] in top.format_help()
  for parser in _parsers(top):
    text = parser.format_help()
    for action in parser._actions:
      if isinstance(action, argparse._SubParsersAction):
        for choice in action._choices_actions:
          assert choice.help
          assert f'    {choice.dest}' in text
        assert set(action.choices) == {c.dest for c in action._choices_actions}
        continue
      assert action.help, action
      for option in action.option_strings or [action.metavar]:
        assert option in text
  if name == 'plan':
    assert '--config FILE[:PHASE]' in top.format_help()
    assert '--config.KEY=VALUE' in top.format_help()


def _start(*arguments):
  return subprocess.Popen(
    [sys.executable, *arguments],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_the_end_of_a_pipe_ends_a_tool_without_a_word():
  process = _start('-c', TALKS)
  assert process.stdout.readline() == 'line 0\n'
  process.stdout.close()
  assert process.stderr.read() == 'on stderr\n'
  assert process.wait(TIMEOUT) == 141


def test_another_pipe_is_no_reason_to_be_quiet():
  process = _start('-c', BREAKS)
  assert 'BrokenPipeError: of a worker' in process.communicate()[1]
  assert process.returncode == 1


def test_ctrl_c_is_one_line():
  process = _start('-c', INTERRUPTED)
  assert process.communicate()[1] == 'Interrupted.\n'
  assert process.returncode == 130


def test_ctrl_c_while_a_tool_is_loaded():
  process = _start('-m', 'tools.evaluate', '--checkpoint=/nowhere')
  first = process.stderr.readline()  # Soon, for somebody waits.
  process.send_signal(signal.SIGINT)
  rest = process.communicate(timeout=TIMEOUT)[1]
  if first.startswith('Error: /nowhere'):  # Quicker than anybody can press.
    return
  assert first.startswith(('Loading JAX', 'Preparing'))
  assert rest.splitlines()[-1] == 'Interrupted.'
  assert 'Traceback' not in rest
  assert process.returncode == 130


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (
      ['-m', 'tools.command_line'],
      "The tool is 'command_line'; it must be one of",
    ),
    (['-m', 'tools'], "The tool is 'tools'; it must be one of"),
    (['train.py'], 'run\n  python main.py'),
  ],
)
def test_what_is_no_program_says_what_is(arguments, message):
  process = _start(*arguments)
  assert message in process.communicate(timeout=TIMEOUT)[1]
  assert process.returncode == 1
