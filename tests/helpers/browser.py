"""Pages in headless Chromium, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)


def chromium(folder: Path, html: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Headless and without a network; stderr has what the page logs."""
    (folder / "page.html").write_text(html, encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND",
             f"--user-data-dir={folder / 'profile'}"]  # fmt: skip
    assert CHROMIUM is not None
    command = [CHROMIUM, *flags, *options, f"file://{folder / 'page.html'}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
