#!/usr/bin/env python3
"""Makes the README's pictures, and the output of the demo in it, from the demo itself: make pictures.

dashboard.png is a screenshot of the dashboard, terminal.svg is `fanout top` in a terminal, both after a while of traffic. It needs Go,
Chromium, tmux, pngquant and optipng (these are the names of Debian's packages too), and takes about two minutes.
"""

import html
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

here = pathlib.Path(__file__).resolve().parent
root = here.parent.parent
COLUMNS, ROWS = 100, 10
FULL = 75  # seconds of traffic before the pictures, so that the charts show something

missing = [tool for tool in ("go", "chromium", "tmux", "pngquant", "optipng") if not shutil.which(tool)]
if missing:
    sys.exit("make pictures: install these first: " + " ".join(missing))


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, capture_output=True, **options).stdout


def dashboard(program, address, work):
    """A screenshot, with few colours."""
    picture = work / "dashboard.png"
    while "Counting" in urllib.request.urlopen(address, timeout=10).read().decode():  # until somebody looks nothing is counted
        time.sleep(0.5)
    run("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={work / 'profile'}",
        "--force-device-scale-factor=2", "--window-size=1180,880", "--timeout=5000", f"--screenshot={picture}", address, timeout=60)  # fmt: skip
    run("pngquant", "--force", "--output", picture, "--quality", "60-90", "--speed", "1", "--strip", "64", picture)
    run("optipng", "-quiet", "-o5", "-strip", "all", picture)
    return picture


def terminal(program, address):
    """What a terminal shows of `fanout top`, line by line, with colours as escape sequences."""
    tmux = ("tmux", "-L", "fanout-pictures", "-f", "/dev/null")
    run(*tmux, "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), f"{program} top --tiers=false --admin {address}")
    try:
        time.sleep(5)  # it has asked more than once by then
        return run(*tmux, "capture-pane", "-p", "-e").rstrip("\n").split("\n")
    finally:
        run(*tmux, "kill-server")


COLOURS = {"31": "#ff8a80", "32": "#7ee2a8", "33": "#ffd479", "34": "#8ab4ff", "35": "#d7a8ff", "36": "#7fdbe6", "90": "#8b93a7"}


NO_BREAK = "\N{NO-BREAK SPACE}"  # not every viewer keeps several spaces


def styled(line):
    """A line's escape sequences as spans of SVG."""
    out, style = [], ""
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if code := re.fullmatch(r"\x1b\[([0-9;]*)m", part):
            for one in code[1].split(";"):
                if one in COLOURS:
                    style = f' fill="{COLOURS[one]}"'
                elif one == "1":
                    style += ' font-weight="bold"'
                elif one == "2":
                    style += ' opacity="0.7"'
                elif one in ("", "0", "39"):
                    style = ""
        elif part:
            out.append(f"<tspan{style}>{html.escape(part).replace(' ', NO_BREAK)}</tspan>")
    return "".join(out)


def svg(lines):
    lines = ["$ fanout top", *lines]
    width, height, step = COLUMNS * 8.43 + 32, len(lines) * 18 + 32, 18
    text = "\n".join(f'<text x="16" y="{16 + step * i + 14}">{styled(line)}</text>' for i, line in enumerate(lines))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" role="img">\n'
        "<title>fanout top, in a terminal</title>\n"
        f'<rect width="100%" height="100%" rx="8" fill="#14161f"/>\n<g fill="#e6e8ee" font-size="14" '
        f"font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\">\n{text}\n</g>\n</svg>\n"
    )


def main():
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        program = work / "fanout"
        run("go", "build", "-o", program, "./cmd/fanout", cwd=root)

        # As its output looks in a file of 80 columns, which is what the README shows.
        called = os.environ | {"PATH": f"{work}:{os.environ['PATH']}", "COLUMNS": "80", "TMPDIR": "/tmp"}
        printed = run("fanout", "demo", "--for", "10s", cwd=work, env=called)
        readme = root / "README.md"
        block = re.compile(r"(<!-- output of `fanout demo --for 10s`[^>]*-->\n\n```\n).*?(```\n)", re.S)
        text, found = block.subn(lambda match: match[1] + printed + match[2], readme.read_text())
        assert found == 1, "README.md has no block for the demo's output"
        readme.write_text(text)

        demo = subprocess.Popen([program, "demo"], stdout=subprocess.PIPE, text=True, cwd=work)
        try:
            address = next(found[0] for line in demo.stdout if (found := re.search(r"http://127[0-9.:]+", line)))
            time.sleep(FULL)
            (here / "terminal.svg").write_text(svg(terminal(program, address)))
            shutil.move(dashboard(program, address + "/", work), here / "dashboard.png")
        finally:
            demo.terminate()
            demo.stdout.read()
            demo.wait(timeout=60)


main()
