"""The blocks of documents, and the commands that the code prints."""

import ast
import dataclasses
import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parents[1]
PAGES = (
  ROOT / 'README.md',
  ROOT / 'CONTRIBUTING.md',
  *sorted((ROOT / 'docs').glob('*.md')),
)
SOURCES = tuple(
  path
  for folder in ('coatnet_jax', 'tools', 'configs', 'benchmarks')
  for path in sorted((ROOT / folder).rglob('*.py'))
) + (ROOT / 'main.py', ROOT / 'train.py')

_BLOCK = re.compile(r'^```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)
_VARIABLE = re.compile(r'\w+=\S*')
# What a command is, up to the end of its line or of its inline code.
_COMMAND = re.compile(r'python (?:-m \w+\.\w|main\.py)[^\n`]*')
# Sentences go on after a command: what stands behind these is not of it.
_PROSE = re.compile(r': |; |, |(?<!\.)\.$')


@dataclasses.dataclass(frozen=True)
class Block:
  """A fenced block of a page."""

  page: str
  line: int
  language: str
  text: str

  @property
  def name(self) -> str:
    """Returns what a test calls it."""
    return f'{self.page}:{self.line}'


def find_blocks(language: str) -> list[Block]:
  """Returns the blocks of a language, of every page."""
  blocks = []
  for path in PAGES:
    text = path.read_text(encoding='utf-8')
    for found in _BLOCK.finditer(text):
      line = text.count('\n', 0, found.start()) + 1
      page = path.relative_to(ROOT).as_posix()
      blocks.append(Block(page, line, found[1], found[2]))
  return [block for block in blocks if block.language == language]


def split_commands(text: str) -> list[list[str]]:
  """Returns the commands of a shell's text as words, without comments.

  Variables that are set before a command are left out. What `ssh --command`
  runs elsewhere is a command too.
  """
  commands = []
  for line in _join_lines(text):
    lexer = shlex.shlex(line, posix=True, punctuation_chars='&;|')
    lexer.whitespace_split = True
    lexer.commenters = '#'
    words = []
    for word in [*lexer, ';']:
      if word.strip('&;|'):
        words.append(word)
        continue
      while words and _VARIABLE.fullmatch(words[0]):
        words.pop(0)
      if words:
        commands.append(words)
      words = []
  for words in list(commands):
    for word in words:
      if word.startswith('--command='):
        commands += split_commands(' '.join(word.partition('=')[2].split()))
  return commands


def find_printed_commands(path: pathlib.Path) -> list[list[str]]:
  """Returns the commands in a module's texts; what is filled in is 'VALUE'."""
  tree = ast.parse(path.read_text(encoding='utf-8'))
  inside = {
    id(part)
    for node in ast.walk(tree)
    if isinstance(node, ast.JoinedStr)
    for part in node.values
  }
  commands = []
  for node in ast.walk(tree):
    if isinstance(node, ast.JoinedStr):
      text = ''.join(
        part.value if isinstance(part, ast.Constant) else 'VALUE'
        for part in node.values
      )
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
      text = '' if id(node) in inside else node.value
    else:
      continue
    text = re.sub(r'\\\n\s*', ' ', text)
    # Inline code that a line of prose breaks.
    text = re.sub(r'`[^`]*`', lambda found: ' '.join(found[0].split()), text)
    for found in _COMMAND.findall(text):
      commands += split_commands(_PROSE.split(found)[0].strip())
  return commands


def _join_lines(text: str) -> list[str]:
  """Returns lines; those that belong together are one."""
  lines, pending = [], ''
  for line in text.replace('\\\n', ' ').splitlines():
    pending += line
    try:
      shlex.split(pending, comments=True)
    except ValueError:
      pending += ' '  # A quotation goes on.
      continue
    lines.append(pending)
    pending = ''
  return [*lines, pending] if pending else lines
