"""A page in headless Chromium, without a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"),
)


@contextmanager
def chromium(profile: Path) -> Iterator:
    """A driver of Chromium with a new profile in this folder, which keeps all that pages log.

    Skips the test where there is no Chromium, driver or selenium.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium (`make browser`)")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("no Chromium (Debian's packages chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    page = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield page
    finally:
        page.quit()


def open_page(driver, file: Path, width: int, height: int = 900) -> None:
    """Load a file at a width of the window, also one narrower than a desktop's can be."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for log in ("browser", "performance"):
        driver.get_log(log)  # what earlier pages said
    driver.get(file.resolve().as_uri())


def errors(driver) -> list[str]:
    """What the page's console holds beside plain messages."""
    return [e["message"] for e in driver.get_log("browser") if e["level"] not in ("INFO", "DEBUG")]


def requests(driver) -> set[str]:
    """The schemes of all that the page asked for."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return {
        message["params"]["request"]["url"].split(":")[0]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }


def overflow(driver) -> int:
    """By how many pixels the page is wider than its window."""
    return driver.execute_script(
        "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
    )


def unnamed_controls(driver) -> list[str]:
    """Controls and images without an accessible name, as the browser computes it."""
    found = driver.find_elements("css selector", "input, select, button, a, img, [role=img]")
    found = [e for e in found if e.is_displayed()]
    return [e.get_attribute("outerHTML")[:80] for e in found if not e.accessible_name]


def unloaded_images(driver) -> list[str]:
    """The alternative texts of images that are not there."""
    return driver.execute_script(
        "return [...document.images].filter((i) => !(i.complete && i.naturalWidth)).map((i) => i.alt)"
    )
