"""Good images under hostile names, and what looks like an image and is none."""

from __future__ import annotations

from pathlib import Path

from corpus.case import UPRIGHT, Case, content, saved

GOOD = content(saved())


def link_to_good(path: Path) -> None:
    path.with_name("target_of_link.png").write_bytes(saved())
    path.symlink_to("target_of_link.png")


def used(name: str | bytes) -> Case:
    return Case(name, GOOD, pixels=UPRIGHT)


NAMES = [
    used("good.png"),
    used("good.jpg"),
    used("good.webp"),
    used("A.png"),
    used("a.PNG"),
    used("ünï côdé 漢字 🙂.png"),
    used("with spaces and\ttab.png"),
    used("new\nline.png"),
    used("escape\x1b[31mred.png"),
    used("right\u202eto left.png"),
    used("-rf.png"),
    used("--help.png"),
    used("=cmd().png"),
    used("dots...png"),
    used("up..up.png"),
    used("back\\slash..\\..\\x.png"),
    used("C:drive.png"),
    used("con.png"),
    used("%2e%2e%2fescape.png"),
    used("$(touch canary).png"),
    used("`touch canary`; touch canary.png"),
    used("'quotes\".png"),
    used("<script>alert(1)<!--.png"),
    used("[bold red]markup[/].png"),
    used("{0}{name}.png"),
    used("*?.png"),
    used("x" * 251 + ".png"),
    used("漢" * 83 + ".png"),
    used(b"latin-\xe9\xff.png"),
    used("deep/er/than/usual/image.png"),
    used("<b>class</b>/image.png"),
    used("=class+1/-image.png"),
    Case("link.png", link_to_good, pixels=UPRIGHT),
    Case(".hidden.png", GOOD, left_out=True),
    Case("._resource_fork.jpg", content(b"\0\5\x16\7"), left_out=True),
    Case(".cache/image.png", GOOD, left_out=True),
    Case("notes.txt", content(b"not an image"), left_out=True),
    Case("png", GOOD, left_out=True),
    Case("image.png.bak", GOOD, left_out=True),
    Case("empty folder", Path.mkdir, left_out=True),
    Case("class without image/readme.md", content(b"nothing here"), left_out=True),
    Case("round", lambda path: path.symlink_to("."), left_out=True),
]
