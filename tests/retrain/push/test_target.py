"""What `push` asks before it copies: whose device this is, and whether it has all it needs."""

import shlex
from typing import Any

import pytest

from deploy.bundle_texts import NAMES
from deploy.errors import MissingPackage, WrongUse
from retrain.push.remote import Remote, Target, check, parse

# Addresses


@pytest.mark.parametrize(
    ("text", "host", "folder"),
    [
        ("pi@raspberrypi.local", "pi@raspberrypi.local", "classifier"),
        ("pi@10.0.0.2:", "pi@10.0.0.2", "classifier"),
        ("shed:/opt/my birds/", "shed", "/opt/my birds"),
        ("pi@shed:~/it's", "pi@shed", "~/it's"),
        ("pi@[fe80::1%eth0]:a:b", "pi@fe80::1%eth0", "a:b"),
        ("pi@h:a\nb", "pi@h", "a\nb"),
        ("pi@h:a/~bob", "pi@h", "a/~bob"),
        ("h:./22", "h", "./22"),
        ("ssh://pi@shed", "pi@shed", "classifier"),
        ("SSH://shed:/", "shed", "classifier"),
        ("ssh://pi@shed/opt/my%20birds/", "pi@shed", "/opt/my birds"),
        ("ssh://shed/~/it's", "shed", "~/it's"),
        ("ssh://pi%40corp@[fe80::1%25eth0]", "pi@corp@fe80::1%eth0", "classifier"),
    ],
)
def test_a_target_is_a_host_and_a_folder(text: str, host: str, folder: str) -> None:
    assert parse(text) == Target(host, folder)


@pytest.mark.parametrize(
    ("text", "port"), [("ssh://pi@h:2222", 2222), ("ssh://[::1]:22/c", 22), ("ssh://h:065/", 65)]
)
def test_an_address_of_ssh_names_a_port(text: str, port: int) -> None:
    target = parse(text)
    assert target.port == port
    assert Remote(target, None, "ssh -i key")._ssh[-2:] == ["-p", str(port)]
    with pytest.raises(WrongUse, match=rf"--ssh ssh -p2: the address names the port {port}"):
        Remote(target, None, "ssh -p2")
    assert Remote(target, None, "sshpass -p pw ssh")._ssh[-2:] == ["-p", str(port)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("scp://pi@h/x", "push goes over ssh: USER@HOST:DIR or ssh://USER@HOST:PORT/DIR"),
        ("https://h", "push goes over ssh"),
        ("ssh://pi:secret@h", "no password in the address"),
        ("ssh://h:0", "a port is a number of 1 to 65535"),
        ("ssh://h:65536", "a port is a number of 1 to 65535"),
        ("ssh://h:000000000000000022", "a port is a number of 1 to 65535"),
        ("ssh://h:x", "not of the form USER@HOST"),
        ("ssh:///x", "not of the form USER@HOST"),
        ("ssh://-oProxyCommand=x", "not of the form USER@HOST"),
        ("ssh://h/~", "name a folder of its own"),
        ("ssh://h/~bob/x", "name a folder of its own"),
        ("ssh://h/%00", "name a folder of its own"),
        ("pi@h:22", r"is 22 a port\? ssh://pi@h:22. Or a folder\? pi@h:\./22"),
        ("h:22:c", r"is 22 a port\? ssh://h:22"),
        ("pi@fe80::1", r"put the address into brackets: pi@\[fe80::1\]"),
        ("/opt/birds", "not of the form USER@HOST"),
    ],
)
def test_what_is_meant_otherwise_is_refused_in_words(text: str, reason: str) -> None:
    with pytest.raises(WrongUse, match=reason) as error:
        parse(text)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("text", ["", ":x", "a b", "pi@", "h:/", "h:~", "h:~bob/a", "h:a/.."])
def test_what_is_no_target_is_wrong_use(text: str) -> None:
    with pytest.raises(WrongUse, match=r"USER@HOST|of its own"):
        parse(text)


# What is there

FOUND: dict[str, Any] = {
    "python": "python3",
    "version": [3, 11, 2],
    "machine": "aarch64",
    "bits": 64,
    "folder": "/home/pi/it's",
    "own": False,
    "parent": "/home/pi",
    "writable": True,
    "there": {"/home/pi/it's": [[], ""], "/home/pi/it's.previous": [[], ""]},
    "packages": {
        "click": "8.1.3",
        "numpy": "1.24.2",
        "pillow": "9.4.0",
        "ai-edge-litert": "2.3.0",
    },
}


def without(*names: str, **changed: Any) -> dict[str, Any]:
    packages = {name: v for name, v in FOUND["packages"].items() if name not in names}
    return {**FOUND, "packages": packages, **changed}


SUMS = "".join(f"{64 * '0'}  {name}\n" for name in NAMES)


def there(name: str, names: list[str], sums: str) -> dict[str, Any]:
    """Return a device with a folder `name` of such files, and such a SHA256SUMS."""
    return without(there={name: [names, sums]})


@pytest.mark.parametrize(
    "found",
    [
        FOUND,
        without("ai-edge-litert", packages={**FOUND["packages"], "tflite-runtime": "2.14.0"}),
        without(version=[3, 13, 0]),
        there("c", [*NAMES, "env"], SUMS),
    ],
)
def test_a_device_that_has_all_passes(found: dict[str, Any]) -> None:
    check(found)


def lines(found: dict[str, Any]) -> list[str]:
    with pytest.raises(MissingPackage) as error:
        check(found)
    return str(error.value).splitlines()


def test_what_lacks_is_printed_with_the_commands_to_type() -> None:
    place = shlex.quote("/home/pi/it's.env")
    python = shlex.quote("/home/pi/it's.env/bin/python")
    assert lines(without("click", "ai-edge-litert")) == [
        "Python 3.11.2 on aarch64 lacks click>=8.1, ai-edge-litert>=2.3. Type there:",
        "  sudo apt install python3-venv python3-click python3-numpy python3-pil",
        f"  python3 -m venv --system-site-packages {place}",
        f"  {python} -m pip install 'click>=8.1' 'ai-edge-litert>=2.3'",
    ]


def test_in_an_environment_pip_alone_is_needed() -> None:
    packages = {**FOUND["packages"], "pillow": "9.1.1", "numpy": "1.3"}
    found = without(own=True, python="/home/pi/c.env/bin/python", packages=packages)
    (command,) = lines(found)[1:]
    assert command == "  /home/pi/c.env/bin/python -m pip install 'numpy>=1.24' 'pillow>=9.4'"


def test_an_old_litert_is_not_enough_whatever_else_there_is() -> None:
    packages = {**FOUND["packages"], "ai-edge-litert": "2.1.2", "tflite-runtime": "2.14.0"}
    found = without(own=True, packages=packages)
    assert lines(found)[1].endswith("-m pip install 'ai-edge-litert>=2.3'")


def test_the_runtime_is_that_of_the_machine() -> None:
    found = without("ai-edge-litert", machine="armv7l", bits=32, own=True)
    assert lines(found)[1].endswith("-m pip install tflite-runtime==2.14.0 'numpy<2'")
    packages = {**found["packages"], "tflite-runtime": "2.14.0", "numpy": "2.4.1"}
    assert "'numpy<2'" in lines({**found, "packages": packages})[1]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (without(version=[3, 9, 2]), r"Python 3\.9\.2 on aarch64: at least 3\.11 is needed"),
        (without("ai-edge-litert", machine="armv6l", bits=32), "none for ARMv6"),
        (without("ai-edge-litert", machine="armv7l", bits=32, version=[3, 13, 1]), "Bookworm"),
        (without(parent="/opt", writable=False), "/opt: not this user's.*in the home"),
        (there("c", ["thesis"], ""), "c: not empty, and not a bundle: .*name another folder"),
        (there("c", ["README.md", "SHA256SUMS"], "0  README.md\n"), "c: not empty, and not a bun"),
        (there("c", [*NAMES, "env", "kept"], SUMS), r"c: holds what is not of a bundle \(kept\)"),
        (there("c.previous", [*NAMES, "kept"], SUMS), r"c.previous: holds .*\(kept\): move it"),
    ],
)
def test_what_cannot_be_mended_there_says_so(found: dict[str, Any], reason: str) -> None:
    with pytest.raises(WrongUse, match=reason):
        check(found)
