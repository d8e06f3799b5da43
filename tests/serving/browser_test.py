"""The page in a real browser: Chromium, by Playwright.

    python -m pytest -m browser --numprocesses=0 tests/serving

Nothing but the server can be reached from it. With COATNET_SCREENSHOTS=DIR the
pages are kept as pictures, to be looked at.
"""

import base64
import os
import pathlib
import shutil

import pytest

from coatnet_jax.serving.limits import Limits
from tests.serving.running import create_picture, start

sync_api = pytest.importorskip('playwright.sync_api')

pytestmark = pytest.mark.browser

PICTURE = create_picture(shape=(90, 120))
PHONE, DESK = (390, 844), (1280, 900)
# Gives the page a file as the clipboard or a drag has it.
TRANSFER = """
([event, target, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  if (content) data.items.add(new File([bytes], 'a', { type: 'image/png' }));
  const options = { bubbles: true, cancelable: true };
  const place = document.querySelector(target);
  place.dispatchEvent(
    event === 'paste'
      ? new ClipboardEvent(event, { ...options, clipboardData: data })
      : new DragEvent(event, { ...options, dataTransfer: data })
  );
}
"""


@pytest.fixture(scope='module')
def running():
  with start(Limits(max_body_bytes=400_000)) as one:
    yield one


@pytest.fixture(scope='module')
def browser():
  names = ('chromium', 'chromium-browser', 'google-chrome')
  path = next(filter(None, map(shutil.which, names)), None)
  if path is None:
    pytest.skip(f'there is none of {", ".join(names)}')
  with sync_api.sync_playwright() as playwright:
    found = playwright.chromium.launch(
      executable_path=path, args=['--no-sandbox']
    )
    yield found
    found.close()


@pytest.fixture(params=[PHONE, DESK], ids=['phone', 'desk'])
def page(request, browser, running):
  """Returns the page, open, and sees that nothing was wrong with it."""
  width, height = request.param
  context = browser.new_context(
    viewport={'width': width, 'height': height},
    has_touch=request.param == PHONE,
  )
  page = context.new_page()
  page.set_default_timeout(15_000)
  own = f'http://127.0.0.1:{running.port}/'
  outside, said = [], []
  page.on(
    'request',
    lambda sent: (
      outside.append(sent.url)
      if not sent.url.startswith((own, 'data:'))
      else None
    ),
  )
  # From the start: what is pressed just as the first one begins to wait for a
  # chooser may be too early for it.
  page.on('filechooser', lambda _: None)
  page.on('console', lambda message: said.append(message.text))
  page.on('pageerror', lambda error: said.append(str(error)))
  page.goto(own)
  page.wait_for_selector('html.scripts')
  yield page
  _keep(page, request.node.name)
  # The answer to what is no picture is told by browsers themselves.
  assert [s for s in said if 'Failed to load resource' not in s] == []
  assert outside == []
  # Nothing is cut off at the side.
  assert page.evaluate('document.documentElement.scrollWidth') <= width
  context.close()


def _keep(page, name):
  if folder := os.environ.get('COATNET_SCREENSHOTS'):
    path = pathlib.Path(folder) / f'{name}.png'
    page.screenshot(path=path, full_page=True)


def _transfer(page, event, content=PICTURE, target='h1'):
  encoded = base64.b64encode(content).decode()
  page.evaluate(TRANSFER, [event, target, encoded])


def _expect_answer(page):
  title = page.wait_for_selector('#found').inner_text()
  assert title == '<b>bright</b>, 98.0%'
  status = page.locator('#status')
  assert status.get_attribute('role') == 'status'
  sync_api.expect(status).to_contain_text('98.0%')


@pytest.mark.parametrize('event', ['paste', 'drop'])
def test_a_picture_that_comes_by(page, event):
  _transfer(page, event)
  _expect_answer(page)
  assert page.locator('#answer img').count() == 2
  for image in page.locator('#answer img').all():
    assert image.evaluate('one => one.naturalWidth') == 360
    assert image.get_attribute('alt')
  assert ' ms' in page.locator('#answer').inner_text()
  # Another map, of the same picture.
  page.select_option('#map', '')
  sync_api.expect(page.locator('#answer img')).to_have_count(1)


def test_nothing_but_the_keyboard(page):
  """Tab to the field, which opens the chooser, and on to the map."""
  page.keyboard.press('Tab')
  assert page.evaluate('document.activeElement.id') == 'file'
  outline = page.evaluate(
    "getComputedStyle(document.querySelector('#file + label')).outlineStyle"
  )
  assert outline == 'solid'
  with page.expect_file_chooser() as chooser:
    page.keyboard.press('Enter')
  chooser.value.set_files(
    {'name': 'a.png', 'mimeType': 'image/png', 'buffer': PICTURE}
  )
  _expect_answer(page)
  assert page.locator('#file').evaluate('one => one.value') == ''
  ids = []
  for _ in range(3):
    page.keyboard.press('Tab')
    ids.append(page.evaluate('document.activeElement.id'))
  assert 'map' in ids


def test_a_click_on_the_button_chooses(page):
  with page.expect_file_chooser() as chooser:
    page.get_by_text('Choose a picture').click()
  chooser.value.set_files(
    {'name': 'a.png', 'mimeType': 'image/png', 'buffer': PICTURE}
  )
  _expect_answer(page)
  # Only who has a camera at hand is asked to take one.
  is_phone = page.viewport_size['width'] == PHONE[0]
  assert page.get_by_text('Take a picture').is_visible() == is_phone


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    (b'no picture', 'not an image'),
    (PICTURE[:-40], 'cannot be decoded'),
    (bytes(500_000), 'at most'),
    (b'', 'There is no picture in it'),
  ],
)
def test_what_is_no_picture_is_said(page, content, words):
  _transfer(page, 'drop', content)
  alert = page.wait_for_selector('[role=alert]')
  assert words in alert.inner_text()
  assert page.locator('#status').inner_text() == ''


def test_everything_has_a_name_and_contrast(page):
  _transfer(page, 'drop')
  _expect_answer(page)
  for field in page.locator('input, select').all():
    assert field.evaluate('one => one.labels.length') == 1
  poor = page.evaluate(CONTRAST)
  assert poor == []


def test_the_server_is_gone(page, running):
  page.route('**/', lambda route: route.abort())
  _transfer(page, 'drop')
  alert = page.wait_for_selector('[role=alert]')
  assert 'does not answer' in alert.inner_text()
  page.unroute('**/')


@pytest.mark.parametrize('width', [PHONE[0], DESK[0]])
def test_without_scripts(browser, running, width):
  context = browser.new_context(
    java_script_enabled=False, viewport={'width': width, 'height': 800}
  )
  page = context.new_page()
  page.goto(f'http://127.0.0.1:{running.port}/')
  assert not page.get_by_text('Drop a picture').is_visible()
  page.set_input_files(
    '#file', {'name': 'a.png', 'mimeType': 'image/png', 'buffer': PICTURE}
  )
  page.get_by_role('button', name='Name it').click()
  page.wait_for_selector('#found')
  assert page.locator('#answer img').count() == 2
  _keep(page, f'without_scripts_{width}')
  context.close()


# Texts whose colour is too close to what is behind them, by WCAG's 4.5.
CONTRAST = """
() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = parse(getComputedStyle(one).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const one of document.querySelectorAll('main *')) {
    const texts = [...one.childNodes].filter(
      (node) => node.nodeType === 3 && node.textContent.trim()
    );
    if (!texts.length || !one.checkVisibility()) continue;
    const color = parse(getComputedStyle(one).color);
    const pair = [light(color), light(behind(one))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (ratio < 4.5) poor.push([one.textContent, ratio]);
  }
  return poor;
}
"""
