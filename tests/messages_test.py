"""The form of messages: what is wrong, where, what is allowed, what to do."""

import ast
import pathlib
import re

from configs import base

ROOT = pathlib.Path(__file__).parents[1]
FILES = [
  *ROOT.glob('*.py'),
  *(
    file
    for name in ('coatnet_jax', 'configs', 'tools')
    for file in sorted((ROOT / name).rglob('*.py'))
  ),
]
# Where `errors.list_choices` is made.
LISTING_FILES = ('errors.py',)
SECTIONS = {
  section: tree
  for section, tree in base.get_config().to_dict().items()
  if isinstance(tree, dict)
}
KEY = re.compile(
  '|'.join(
    rf'(?<![\w.-]){section}\.(?:{"|".join(map(re.escape, tree))})\b(?!\()'
    for section, tree in SECTIONS.items()
    if tree
  )
)
# What is allowed comes after what is wrong.
BACKWARDS = re.compile(r'\bmust (?:be|have)\b[^;.]*, not ')
LISTED = re.compile(
  r'\b(one of|there are|known are|has only:?|project has) …(…|\.|$)'
)


def find_messages(text):
  """Yields line and text of each error raised; what is filled in is '…'.

  The texts of a module's function count too where an error is made of what it
  returns, as in `raise UserError(_describe(error))`.
  """
  nodes = list(ast.walk(ast.parse(text)))
  calls = [
    node.exc
    for node in nodes
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
  ]
  called = {
    node.func.id
    for call in calls
    for node in ast.walk(call)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
  }
  texts = [(call.lineno, call.args) for call in calls]
  for function in nodes:
    if isinstance(function, ast.FunctionDef) and function.name in called:
      texts += [
        (node.lineno, [node.value])
        for node in ast.walk(function)
        if isinstance(node, ast.Return | ast.Assign | ast.AugAssign)
        and node.value
      ]
  for line, arguments in texts:
    parts = [part for node in arguments for part in _find_parts(node)]
    yield (
      line,
      ''.join(
        part.value if isinstance(part, ast.Constant) else '…' for part in parts
      ),
    )


def _find_parts(node):
  """Yields the constants and the rest of a text, from left to right."""
  if isinstance(node, ast.JoinedStr):
    for value in node.values:
      yield from _find_parts(value)
  elif isinstance(node, ast.BinOp):
    yield from _find_parts(node.left)
    yield from _find_parts(node.right)
  elif isinstance(node, ast.Call):
    for value in node.args:
      yield from _find_parts(value)
  elif isinstance(node, ast.Constant) and not isinstance(node.value, str):
    yield ast.Constant('…')
  else:
    yield node


def find_faults(text):
  """Returns the messages of a module that are not in the form."""
  faults = []
  for line, message in find_messages(text):
    for pattern in (KEY, BACKWARDS, LISTED):
      if found := pattern.search(message):
        faults.append((line, found[0]))
  return faults


def test_messages_have_one_form():
  found = {}
  for path in FILES:
    if path.name not in LISTING_FILES:
      text = path.read_text(encoding='utf-8')
      if faults := find_faults(text):
        found[str(path.relative_to(ROOT))] = faults
  assert found == {}


def test_there_are_many_messages():
  messages = [
    message
    for path in FILES
    for _, message in find_messages(path.read_text(encoding='utf-8'))
  ]
  assert sum('must be' in message for message in messages) > 40


def test_choices_are_listed_in_one_place():
  users = [
    str(path.relative_to(ROOT))
    for path in FILES
    if 'difflib' in path.read_text(encoding='utf-8')
  ]
  assert users == ['coatnet_jax/errors.py']


def test_a_message_of_another_form_is_noticed():
  for text in (
    "raise UserError(f'loss.kind is {kind!r}.')",
    "raise UserError('a smaller optimizer.clip_norm may' ' help.')",
    "raise UserError(f'q must be float32, not {q.dtype}.')",
    'raise UserError(f\'x is {x!r}; it must be one of {", ".join(names)}.\')',
    "raise UserError(f'There is no {x}; there are' f' {listed}.')",
    "raise UserError(_no(x))\ndef _no(x):\n  return f'there are {listed}.'",
    "raise UserError(_no(x))\ndef _no(x):\n  text = f'loss.kind is {x}'",
    "raise _no(x)\ndef _no(x):\n  return UserError(f'loss.kind is {x}')",
  ):
    assert find_faults(text), text
  for text in (
    "raise UserError(f'config.loss.kind is {kind!r}.')",
    "raise UserError(explain_choice('config.loss.kind', kind, KINDS))",
    "raise UserError(f'{path}: save model.state_dict() alone.')",
  ):
    assert not find_faults(text), text
