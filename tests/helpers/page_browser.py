"""A real browser for pages, headless and offline."""

from __future__ import annotations

import shutil

FOR_EVER = 600
ARGUMENTS = ("--headless=new", "--no-sandbox", "--window-size=1180,1000", "--no-first-run")


def started():
    """Return a Chromium with logs of what it asks for and says."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.execute_cdp_cmd("Network.enable", {})
    return driver


def until(driver, script):
    """Wait until a script returns something true; return it."""
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(driver, FOR_EVER).until(lambda d: d.execute_script(f"return {script}"))


def shown(driver, address):
    """Open a page as if for the first time; return the driver when its charts are drawn."""
    driver.get("about:blank")
    driver.get_log("performance"), driver.get_log("browser")
    driver.get(address)
    until(driver, "document.documentElement.dataset.ready")
    return driver


def resized(driver, width):
    """Make the window's inside so many pixels wide, for pages that are opened from now on."""
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
