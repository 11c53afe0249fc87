"""Take the screenshots of the documentation: the pages of ``joulemap serve`` over the study's runs.

Usage: ``python scripts/screenshots.py STORE``, where STORE holds the study (``joulemap import study``). Needs the
development tools, Debian's Chromium and ImageMagick; writes ``docs/figures/serve-*.png``, some 50 kB each.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"
CHROMIUM = "/usr/bin/chromium"
A = "task=gpqa,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=max"
B = "task=lm-arena-chat,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=max"
BEFORE = "model%3DQwen%2FQwen3-32B%26gpu%3DH100%26gpus%3D1"
CURRENT = "gpu=H100,gpus=1,batch=64"
SHOTS = {
    "home": ("/", 860),
    "runs": ("/runs?task=gpqa&model=Qwen%2FQwen3-32B&sort=energy_per_output_j", 560),
    "run": ("/runs/297538591541", 1000),
    "explain": (f"/explain?a={A}&b={B}", 860),
    "what-if": (f"/what-if?model=Qwen/Qwen3-32B&gpu=H100&gpus=2&batch=128&before={BEFORE}", 900),
    "recommend": (f"/recommend?model=Qwen/Qwen3-32B&task=lm-arena-chat&itl=50ms&current={CURRENT}", 1000),
    "plan": (f"/plan?toml={quote((ROOT / 'examples' / 'one-site.toml').read_text())}", 1000),
}
"""Each screenshot's address, and its height in pixels."""
WIDTH_PX = 1200
COLOURS = 64
PATIENCE_MS = 180_000


def main() -> int:
    """Serve the store, visit each page, and write its picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store", help="a store that holds the study")
    parser.add_argument("--only", choices=SHOTS, help="this page alone")
    options = parser.parse_args()
    command = [sys.executable, "-m", "joulemap", "serve", "--port", "0", "--store", options.store]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            told = next(found for line in server.stderr or () if (found := re.search(r"http://[^/\s]+", line)))
            take(told.group(), [options.only] if options.only else list(SHOTS))
        finally:
            server.terminate()
    return 0


def take(address: str, names: list[str]) -> None:
    """Write the pictures of some pages."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH_PX, "height": 900})
        page.goto(f"{address}/standing-out", timeout=PATIENCE_MS)
        for name in names:
            path, height_px = SHOTS[name]
            page.set_viewport_size({"width": WIDTH_PX, "height": height_px})
            page.goto(f"{address}{path}", timeout=PATIENCE_MS)
            _wait_for_charts(page)
            file = FIGURES / f"serve-{name}.png"
            page.screenshot(path=file)
            _shrink(file)
            print(f"Wrote {file.relative_to(ROOT)} ({file.stat().st_size / 1000:.0f} kB)")
        browser.close()


def _wait_for_charts(page: Page) -> None:
    for chart in page.locator("[data-chart]").all()[:2]:
        chart.scroll_into_view_if_needed()
        chart.locator("svg").first.wait_for(timeout=PATIENCE_MS)
    page.evaluate("scrollTo(0, 0)")


def _shrink(file: Path) -> None:
    convert = shutil.which("convert")
    if convert is None:
        return
    small = ["-strip", "-dither", "None", "-colors", str(COLOURS), "-define", "png:compression-level=9"]
    subprocess.run([convert, str(file), *small, f"PNG8:{file}"], check=True)


if __name__ == "__main__":
    raise SystemExit(main())
