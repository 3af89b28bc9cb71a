"""The build of the pages: names by content, nothing for development in production."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from edge.compact import compact
from edge.pages import BadReference, build
from edge.settings import EdgeSettings
from edge.web import FOR_GOOD, POLICY, WebFile, file_routes, list_files, policy_with

PROFILES = ("development", EdgeSettings().profile)


def test_a_build_names_files_by_what_is_in_them(tmp_path: Path) -> None:
    """The same sources make the same site, without anything for development."""
    for name in ("one", "two"):
        build(tmp_path / name)
    one, two = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in files(tmp_path / name)}
        for name in ("one", "two")
    )
    assert one == two
    assert not any(path.parts[0] == "dev" for path in one)
    assets = {path: content for path, content in one.items() if path.parts[0] == "assets"}
    assert len(assets) > 10
    for path, content in assets.items():
        assert path.name.split(".")[-2] == hashlib.sha256(content).hexdigest()[:16]
    page = one[Path("sale/index.html")].decode()
    assert "modulepreload" in page
    for name in re.findall(r'(?:href|src)="/(assets/[^"]+)"', page):
        assert Path(name) in assets


def test_a_build_replaces_an_earlier_one(tmp_path: Path) -> None:
    """What the site does not have any more is gone, the sign-in for development too."""
    build(tmp_path, development=True)
    assert (tmp_path / "dev" / "sign-in" / "index.html").exists()
    old = tmp_path / "assets" / "old.0000000000000000.js"
    old.write_text("")
    build(tmp_path)
    assert not old.exists()
    assert not [path for path in files(tmp_path) if "dev" in path.parts]


def test_a_shop_sets_addresses_and_adds_files(tmp_path: Path) -> None:
    """Beside what the pages know by themselves; hidden files of a mounted folder are left out."""
    more = tmp_path / "more"
    (more / "..data").mkdir(parents=True)
    (more / "attestation.js").write_text("export default null;")
    (more / ".hidden").write_text("")
    out = tmp_path / "out"
    build(out, config={"signIn": "/sign-in/"}, more=more)
    config = json.loads((out / "config.json").read_text())
    assert config == {"signIn": "/sign-in/", "pay": "", "attestation": ""}
    assert (out / "attestation.js").read_text() == "export default null;"
    assert not [path for path in files(out) if path.name.startswith(".")]
    with pytest.raises(ValueError, match="signin: pages read only signIn, pay, attestation"):
        build(out, config={"signin": "/sign-in/"})


def test_a_policy_names_further_origins_only_where_they_are_wanted() -> None:
    """Their scripts, frames and calls; never anything inline."""
    assert policy_with(()) == POLICY
    policy = policy_with(("https://widget.example",))
    for rule in ("script-src", "frame-src", "connect-src"):
        assert f"{rule} 'self' https://widget.example" in policy
    assert "style-src 'self';" in policy
    assert "unsafe" not in policy


def test_a_build_refuses_a_name_of_nothing(tmp_path: Path) -> None:
    """A page or script that names a file which is not there, and scripts that import each other."""
    store = tmp_path / "web" / "store"
    store.mkdir(parents=True)
    (store / "config.json").write_text("{}")
    (store / "index.html").write_text('<head></head><script type="module" src="./a.js"></script>')
    with pytest.raises(BadReference, match=r"index\.html: there is no .*a\.js"):
        build(tmp_path / "out", sources=tmp_path / "web")
    (store / "a.js").write_text('import "./b.js";\n')
    (store / "b.js").write_text('import "./a.js";\n')
    with pytest.raises(BadReference, match=r"b\.js: a\.js names it in turn"):
        build(tmp_path / "out", sources=tmp_path / "web")


def test_production_serves_no_sign_in_for_development(tmp_path: Path) -> None:
    """Not even where somebody has put one into the folder."""
    build(tmp_path, development=True)
    served = {
        profile: {file.path for file in list_files(str(tmp_path), profile=profile)}
        for profile in PROFILES
    }
    assert "dev/sign-in/index.html" in served["development"]
    assert served["production"] == {
        path for path in served["development"] if not path.startswith("dev/")
    }


def files(folder: Path) -> list[Path]:
    """Return the files of a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_name_promises_only_what_its_content_keeps(tmp_path: Path) -> None:
    """A name that looks like one with a hash is no reason to keep the file for good."""
    content = b"export {};"
    digest = hashlib.sha256(content).hexdigest()[:16]
    for name in (f"a.{digest}.js", f"b.{digest[::-1]}.js", "c.js"):
        (tmp_path / name).write_bytes(content)
    kept = {}
    for file in list_files(str(tmp_path), profile="production"):
        (_, route) = file_routes(str(tmp_path), (WebFile(file.path, file.stamp),))
        headers = {
            one["header"]["key"]: one["header"]["value"] for one in route["response_headers_to_add"]
        }
        kept[file.path[0]] = headers["cache-control"]
        assert "'self'" in headers["content-security-policy"]
    assert kept == {"a": FOR_GOOD, "b": "no-cache", "c": "no-cache"}


def test_comments_and_needless_spaces_are_left_out() -> None:
    """Nothing else is: what is in quotes stays as it is."""
    script = """// A comment.
/**
 * Another one.
 */
const a = "// not one; { kept }";

  call(`/* nor this */ ${a}`, a - -1, a + (b), /** @type {any} */ (a));
if (a) b("c");
const e = /^(f)? (g)$/;
d(a / 2)
"""
    assert compact(script, ".js") == (
        """const a="// not one; { kept }";"""
        """call(`/* nor this */ ${a}`,a - -1,a+(b),(a));if(a)b("c");const e=/^(f)? (g)$/;"""
        """d(a / 2)\n"""
    )
    style = """/* A comment. */
a:hover,
b .c > d {
  color: red;
  margin: 0 calc(1rem - 2px);
}
"""
    assert compact(style, ".css") == "a:hover,b .c > d{color:red;margin:0 calc(1rem - 2px)}"
    assert compact('{"a": "b  c"}', ".json") == '{"a":"b  c"}'
    with pytest.raises(ValueError, match="line 1: a text must not span lines"):
        compact("const a = `one\ntwo`;", ".js")
