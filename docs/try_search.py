"""Search the built site from the disk in a headless browser: python docs/try_search.py [SITE].

Without Chromium it says that the search was not tried.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

WORD, PAGES = "sparsegpt", 5
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
OPTIONS += ["--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"]


def main(site: Path) -> str:
    """Return what the search found; stop where it finds less than it must."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        return "no Chromium here: the site's search was not tried"
    address = f"{(site / 'search.html').resolve().as_uri()}?q={WORD}"
    done = subprocess.run([browser, *OPTIONS, address], capture_output=True, text=True, check=True)
    results = re.findall(r'<li class="kind-\w+"><a href="([^"?#]+)', done.stdout)
    if len(results) < PAGES or not all((site / name).is_file() for name in results):
        sys.exit(f"the search for '{WORD}' from the disk shows {results}")
    return f"the search for '{WORD}' from the disk shows {len(results)} pages"


if __name__ == "__main__":
    print(main(Path(sys.argv[1] if sys.argv[1:] else "docs/_build/html")))
