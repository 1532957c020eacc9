"""Make the pictures of the page on the report: `python -m bench.experiments.report_pictures`.

It draws photos of hardware, whose faults are known and whose licence is ours, trains on them,
and takes a picture of each section of the report in the system's Chromium.
"""

import io
import math
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import Page, sync_playwright

from deploy import files
from deploy.system.terminal import say

ASSETS = Path(__file__).parents[2] / "docs" / "assets"
LABELS = ("bolt", "nut", "washer")
_PHOTOS = 110
_SIDE = 240
_SCALE = 3
_MAX_BYTES = 150_000
_SWAPPED = 4
"""Photos of each class that get the label of the next one."""
_WIDTH, _PHONE_WIDTH = 1100, 375
_SECTIONS = {
    "first": "#next",
    "classes": "#classes",
    "wrong": "#wrong",
    "looks": "#looks",
    "sure": "#sure",
    "training": "#training",
    "photos": "#photos",
    "findings": "#findings",
}
"""The end of each picture's name, and the section that it shows."""


def draw(label: str, random: np.random.Generator) -> Image.Image:
    """Return a drawing of a part on a bench, in light and at an angle of its own."""
    side = _SIDE * _SCALE
    wood = np.array([150, 118, 86]) + random.normal(0, 30) + random.normal(0, 7, 3)
    grain = np.cumsum(random.normal(0, 1.6, (side, 1, 1)), axis=0)
    pixels = wood + grain + random.normal(0, 5, (side, side, 1))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    metal = np.array([176, 180, 186]) + random.normal(0, 16)
    if random.random() < 0.3:
        metal = np.array([188, 160, 92]) + random.normal(0, 10)
    radius, turn = side * random.uniform(0.05, 0.22), random.uniform(0, 2 * math.pi)
    x, y = side * random.uniform(0.35, 0.65, 2)
    part = Image.new("L", image.size)
    _draw_part(ImageDraw.Draw(part), label, (x, y), radius, turn)
    shift = int(radius / 9)
    shadow = Image.new("L", image.size)
    shadow.paste(part, (shift, shift))
    shadow = shadow.filter(ImageFilter.GaussianBlur(shift)).point(lambda level: level * 0.6)
    image.paste((26, 20, 14), mask=shadow)
    light = np.linspace(-45, 45, side) * random.choice((-1, 1))
    shine = np.clip(metal + light[:, np.newaxis, np.newaxis], 0, 255).astype(np.uint8)
    shine = np.broadcast_to(shine, (side, side, 3))
    image.paste(Image.fromarray(np.ascontiguousarray(shine)), mask=part)
    edge = part.filter(ImageFilter.FIND_EDGES).filter(ImageFilter.GaussianBlur(2))
    image.paste((60, 62, 66), mask=edge)
    image = image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0, 2.5)))


def _draw_part(
    pen: ImageDraw.ImageDraw,
    label: str,
    centre: tuple[float, float],
    radius: float,
    turn: float,
) -> None:
    """Draw the outline of a part in white, with its hole."""
    x, y = centre

    def circle(size: float, fill: int) -> None:
        pen.ellipse((x - size, y - size, x + size, y + size), fill=fill)

    if label == "washer":
        circle(radius, 255)
        circle(radius * 0.55, 0)
        return
    along = np.array([math.cos(turn), math.sin(turn)])
    across = np.array([-along[1], along[0]])
    if label == "bolt":
        start, end = np.array(centre), np.array(centre) + 2.6 * radius * along
        half = 0.36 * radius * across
        corners = [start + half, end + half, end - half, start - half]
        pen.polygon([(float(point[0]), float(point[1])) for point in corners], fill=255)
        for step in np.arange(0.9, 2.6, 0.17):
            place = start + step * radius * along
            line = [place + half * 0.98, place - half * 0.98 + 0.07 * radius * along]
            pen.line([(float(p[0]), float(p[1])) for p in line], fill=120, width=int(radius / 26))
    pen.regular_polygon((x, y, radius * 0.95), 6, math.degrees(turn), fill=255)
    if label == "nut":
        circle(radius * 0.5, 0)


def write_photos(root: Path) -> None:
    """Draw photos of each class, with faults: swapped labels, copies, a dark and a cut one."""
    random = np.random.default_rng(3)
    for number, label in enumerate(LABELS):
        (root / label).mkdir(parents=True)
        for i in range(_PHOTOS):
            kind = LABELS[(number + 1) % len(LABELS)] if i < _SWAPPED else label
            draw(kind, random).save(root / label / f"{label}-{i:03}.jpg", quality=90)
        copy = Image.open(root / label / f"{label}-{_SWAPPED + 1:03}.jpg").resize((180, 180))
        copy.save(root / label / f"IMG_20{number}1.jpg", quality=70)
    dark = draw("nut", random).point(lambda level: level * 0.06)
    dark.save(root / "nut" / "nut-dark.jpg")
    blurred = draw("bolt", random).filter(ImageFilter.GaussianBlur(9))
    blurred.save(root / "bolt" / "bolt-blurred.jpg")
    cut = root / "washer" / "washer-cut.jpg"
    cut.write_bytes((root / "washer" / "washer-050.jpg").read_bytes()[:3000])


def take_pictures(report: Path, folder: Path) -> None:
    """Write a picture of each section of the page, of an open gallery and of a phone's screen."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, chromium_sandbox=False)
        page = browser.new_page(viewport={"width": _WIDTH, "height": 760})
        page.goto(report.as_uri())
        for name, section in _SECTIONS.items():
            if name == "first":
                _write(folder / "report-first.webp", page.screenshot())
            else:
                _write(folder / f"report-{name}.webp", page.locator(section).screenshot())
        page.locator("table.matrix td.miss button").first.click()
        _write(folder / "report-gallery.webp", page.screenshot())
        phone = browser.new_page(
            viewport={"width": _PHONE_WIDTH, "height": 760}, is_mobile=True, color_scheme="dark"
        )
        _write_phone(phone, report, folder)
        browser.close()


def _write_phone(page: Page, report: Path, folder: Path) -> None:
    page.goto(report.as_uri())
    _write(folder / "report-phone.webp", page.screenshot())


def _write(path: Path, png: bytes) -> None:
    """Write a picture in the best quality of at most 150 kB."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in range(90, 20, -10):
        content = io.BytesIO()
        image.save(content, "WEBP", quality=quality, method=6)
        if len(content.getvalue()) <= _MAX_BYTES:
            break
    files.write(path, content.getvalue())
    say(f"{path.name}: {image.width}x{image.height}, {len(content.getvalue()) / 1e3:.0f} kB")


@click.command()
@click.argument("work", type=click.Path(path_type=Path, file_okay=False))
@click.option("--assets", default=ASSETS, type=click.Path(path_type=Path, file_okay=False))
def main(work: Path, assets: Path) -> None:
    """Draw photos and train in the folder WORK, which is reused; write pictures to the assets.

    The path of WORK is in the pictures: take /home/ada/parts, as the pages do.
    """
    if not (work / "hardware").exists():
        write_photos(work / "hardware")
    quiet, few = "--no-report", ("--rounds", "2", "--seconds", "1")
    for words in (["train", "hardware", quiet], ["convert", quiet], ["bench", *few], ["report"]):
        subprocess.run([sys.executable, "-m", "retrain", *words], check=True, cwd=work)  # noqa: S603
    take_pictures(work.absolute() / "retrained" / "report.html", assets)


if __name__ == "__main__":
    main()
