"""A Chromium to look at the explorer with: `$CHROMIUM`, else one on the path, driven by playwright."""

import os
import shutil

import pytest


@pytest.fixture(scope="session")
def chromium():
    """Opens pages; skipped where there is no browser, unless `$CHROMIUM` says that there is one."""
    named = os.environ.get("CHROMIUM")
    path = named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here: install one and run `make browser`")
    if not named:
        pytest.importorskip("playwright", reason="no playwright here: run `make browser`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
