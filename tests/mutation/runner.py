"""Makes mistakes in copies of the code, and runs the tests that should notice.

Each worker has a copy of its own. What noticed a mistake is run once more at
the end, without it: a test that fails anyway notices nothing.
"""

import concurrent.futures
import contextlib
import dataclasses
import enum
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from tests.mutation.mistake import Mistake, MistakeError

# pytest's exit status: tests ran, and some failed.
_PASSED, _FAILED = 0, 1
# A line of pytest's summary, -rfE.
_FAILURE = re.compile(r'^(?:FAILED|ERROR) (\S+?::.+?)(?: - .*)?$', re.MULTILINE)
_SHOWN_LINES = 15
# Without the tests of the lists, which say that a text is not there any more.
_WHOLE_SUITE = ('tests', '--ignore=tests/mutation')


class Outcome(enum.Enum):
  """What came of a mistake."""

  NOTICED = 'noticed'
  SURVIVED = 'SURVIVED: nothing notices it'
  EXPECTED = 'survived, as its reason says'
  STALE_REASON = 'ERROR: noticed, against the reason why nothing can'
  NOT_APPLIED = 'ERROR: cannot be made'
  NOT_RUN = 'ERROR: the tests did not run'
  TOO_LONG = 'ERROR: took too long'
  FAILS_ANYWAY = 'ERROR: the test fails without the mistake too'

  @property
  def is_good(self) -> bool:
    """Whether the list of mistakes is as it should be there."""
    return self in (Outcome.NOTICED, Outcome.EXPECTED)


@dataclasses.dataclass(frozen=True)
class Result:
  """What came of one mistake.

  Attributes:
    mistake: mistake that was put in.
    outcome: kind of result.
    noticed_by: name of the test that failed, as pytest gives it; or ''.
    seconds: time in seconds that its tests took.
    detail: text on what else there is to say, or ''.
  """

  mistake: Mistake
  outcome: Outcome
  noticed_by: str = ''
  seconds: float = 0.0
  detail: str = ''


def choose_part(mistakes: Sequence[Mistake], part: int, parts: int):
  """Returns every `parts`-th mistake, so that each part has all rooms.

  Args:
    mistakes: all mistakes.
    part: number of the part, from 1.
    parts: number of parts.
  """
  return list(mistakes[part - 1 :: parts])


def run(
  root: pathlib.Path,
  mistakes: Sequence[Mistake],
  *,
  jobs: int,
  timeout_seconds: float,
  report: Callable[[Result], None],
  whole_suite: bool = False,
) -> list[Result]:
  """Makes every mistake, one at a time in each of `jobs` copies.

  Args:
    root: folder of the code; what git knows of it, and new files, are copied.
    mistakes: mistakes to make.
    jobs: number of mistakes at the same time.
    timeout_seconds: time that the tests of one mistake may take.
    report: function that is called with each result as it comes, before the
      last check.
    whole_suite: whether what survives meets the whole default suite too.

  Returns:
    The results, in the order of the mistakes. Those that are noticed are so by
    a test that passes without them.
  """
  with tempfile.TemporaryDirectory(prefix='mutation_') as folder:
    copies: queue.Queue[pathlib.Path] = queue.Queue()
    for job in range(jobs):
      copies.put(copy_tree(root, pathlib.Path(folder) / f'copy_{job}'))

    def try_one(mistake):
      with _borrowed(copies) as copy:
        result = try_mistake(
          copy, mistake, timeout_seconds, whole_suite=whole_suite
        )
      report(result)
      return result

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
      try:
        results = list(pool.map(try_one, mistakes))
      except BaseException:  # Ctrl-C, too: those that run are the last.
        pool.shutdown(wait=False, cancel_futures=True)
        raise
      witnesses = sorted({r.noticed_by for r in results if r.noticed_by})
      parts = [part for i in range(jobs) if (part := witnesses[i::jobs])]

      def rerun(part):
        with _borrowed(copies) as copy:
          return _find_failing(copy, part, timeout_seconds * len(part))

      failing = set().union(*pool.map(rerun, parts))
  return [
    dataclasses.replace(
      result, outcome=Outcome.FAILS_ANYWAY, detail=result.noticed_by
    )
    if result.noticed_by in failing
    else result
    for result in results
  ]


def copy_tree(root: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
  """Copies what git lists of a checkout, changes included; returns the copy."""
  listed = subprocess.run(
    ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
    cwd=root,
    check=True,
    capture_output=True,
  ).stdout
  for name in filter(None, os.fsdecode(listed).split('\0')):
    if (root / name).is_file():
      (target / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy2(root / name, target / name)
  return target


def try_mistake(
  copy: pathlib.Path,
  mistake: Mistake,
  timeout_seconds: float,
  *,
  whole_suite: bool = False,
) -> Result:
  """Puts a mistake into a copy, runs its tests and takes it out again."""
  path = copy / mistake.file
  tests = [f'tests/{test}' for test in mistake.tests]
  try:
    text = path.read_text(encoding='utf-8')
    changed = mistake.apply(text)
  except (OSError, MistakeError) as error:
    return Result(mistake, Outcome.NOT_APPLIED, detail=str(error))
  start = time.monotonic()
  path.write_text(changed, encoding='utf-8')
  try:
    result = _judge(mistake, *_run_tests(copy, tests, timeout_seconds))
    if result.outcome is Outcome.SURVIVED and whole_suite:
      result = _judge(mistake, *_run_tests(copy, _WHOLE_SUITE, 3600.0))
  finally:
    path.write_text(text, encoding='utf-8')
    # By time and size alone Python may take it for that of the other text.
    for cached in path.parent.glob(f'__pycache__/{path.stem}.*.pyc'):
      cached.unlink()
  return dataclasses.replace(result, seconds=time.monotonic() - start)


@contextlib.contextmanager
def _borrowed(copies: queue.Queue) -> Iterator[pathlib.Path]:
  copy = copies.get()
  try:
    yield copy
  finally:
    copies.put(copy)


def _judge(mistake: Mistake, status: int | None, output: str) -> Result:
  if status is None:
    return Result(mistake, Outcome.TOO_LONG)
  failure = _FAILURE.search(output)
  if status == _FAILED and failure:
    outcome = Outcome.STALE_REASON if mistake.unnoticed else Outcome.NOTICED
    return Result(mistake, outcome, noticed_by=failure[1])
  if status == _PASSED:
    outcome = Outcome.EXPECTED if mistake.unnoticed else Outcome.SURVIVED
    return Result(mistake, outcome, detail=mistake.unnoticed)
  last_lines = '\n'.join(output.splitlines()[-_SHOWN_LINES:])
  return Result(
    mistake, Outcome.NOT_RUN, detail=f'status {status}:\n{last_lines}'
  )


def _find_failing(
  copy: pathlib.Path, tests: Sequence[str], timeout_seconds: float
) -> set[str]:
  """Returns those of some tests that fail in a copy without a mistake."""
  status, output = _run_tests(copy, tests, timeout_seconds, stop=False)
  if status == _PASSED:
    return set()
  failing = set(_FAILURE.findall(output)) if status == _FAILED else set()
  return failing or set(tests)


def _run_tests(
  copy: pathlib.Path,
  tests: Sequence[str],
  timeout_seconds: float,
  *,
  stop: bool = True,
) -> tuple[int | None, str]:
  """Returns pytest's exit status, None if it took too long, and its output."""
  command = [sys.executable, '-m', 'pytest', '-q', '-n0', '-rfE', '--tb=line']
  command += ['-x'] * stop
  command += ['-p', 'no:cacheprovider', f'--basetemp={copy}_pytest', *tests]
  process = subprocess.Popen(
    command,
    cwd=copy,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    errors='replace',
    start_new_session=True,  # So that what it starts can be ended with it.
  )
  try:
    output, _ = process.communicate(timeout=timeout_seconds)
    return process.returncode, output
  except subprocess.TimeoutExpired:
    return None, ''
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()
