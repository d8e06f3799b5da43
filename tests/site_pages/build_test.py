"""The site builds strictly, and needs nothing from another machine."""

import html.parser
import os
import pathlib
import subprocess
import sys
import urllib.parse

import pytest

from site_pages import programs

pytest.importorskip('mkdocs')
pytestmark = pytest.mark.site
ROOT = pathlib.Path(__file__).parents[2]
# Tags that a browser fetches what they name for, and where they name it.
FETCHED = {
  ('img', 'src'),
  ('link', 'href'),
  ('script', 'src'),
  ('iframe', 'src'),
}


class _Page(html.parser.HTMLParser):
  """What a page fetches and links to, and the anchors that it has."""

  def __init__(self, text):
    super().__init__()
    self.fetched, self.links, self.anchors = [], [], set()
    self.texts = []
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    values = dict(attributes)
    self.anchors.update(
      value for name in ('id', 'name') if (value := values.get(name))
    )
    if tag == 'a' and values.get('href'):
      self.links.append(values['href'])
    self.fetched += [
      value
      for name, value in attributes
      if (tag, name) in FETCHED and values.get('rel') != 'canonical'
    ]

  def handle_data(self, data):
    self.texts.append(data)


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
  """Builds the site, as the command of CONTRIBUTING.md does, and reads it."""
  site = tmp_path_factory.mktemp('site')
  done = subprocess.run(
    # The program, and not `python -m`, which adds the directory to the path.
    [
      pathlib.Path(sys.executable).with_name('mkdocs'),
      *('build', '--strict', f'--site-dir={site}'),
    ],
    cwd=ROOT,
    env=os.environ | {'NO_MKDOCS_2_WARNING': '1', 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return {
    path: _Page(path.read_text(encoding='utf-8'))
    for path in site.rglob('*.html')
  }


def test_a_page_fetches_nothing_from_elsewhere(pages):
  assert len(pages) > 60
  elsewhere = [
    (path.name, target)
    for path, page in pages.items()
    for target in page.fetched
    if urllib.parse.urlsplit(target).netloc
  ]
  assert elsewhere == []


def test_every_link_leads_somewhere(pages):
  broken = []
  for path, page in pages.items():
    if path.name == '404.html':
      continue  # Its links begin at the root of a server.
    for link in [*page.links, *page.fetched]:
      parts = urllib.parse.urlsplit(link)
      if parts.scheme or parts.netloc:
        continue
      name = urllib.parse.unquote(parts.path)
      target = (path.parent / name).resolve() if name else path
      target = target / 'index.html' if target.is_dir() else target
      if not target.exists():
        broken.append((path.name, link))
      elif parts.fragment and target in pages:
        anchor = urllib.parse.unquote(parts.fragment)
        if anchor not in pages[target].anchors | {'__skip'}:
          broken.append((path.name, link))
  assert broken == []


def test_nothing_of_what_a_program_says_is_lost(pages):
  shown = {
    path.stem: ''.join(''.join(page.texts).split())
    for path, page in pages.items()
    if path.parent.name == 'programs'
  }
  parsers = programs.list_programs()
  assert shown.keys() == parsers.keys()
  for name, parser in parsers.items():
    # Without the ticks and spaces, which are not shown as such.
    said = ''.join(parser.description.replace('`', '').split())
    assert said in shown[name], name


def test_the_reference_is_there(pages):
  names = {'/'.join(path.parts[-3:]) for path in pages}
  for name in ('programs/main.html', 'programs/predict.html', 'api/index.html'):
    assert f'reference/{name}' in names
  (config,) = [
    page for path, page in pages.items() if path.name == 'config.html'
  ]
  assert {'seed', 'optimizer.b1', 'sharding.tensor'} <= config.anchors
