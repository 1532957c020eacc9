"""The addresses that `push` takes."""

import pytest

from deploy.errors import WrongUse
from retrain.push.address import Address, parse_address
from retrain.push.remote import Remote


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
def test_an_address_is_a_host_and_a_folder(text: str, host: str, folder: str) -> None:
    assert parse_address(text) == Address(host, folder)


@pytest.mark.parametrize(
    ("text", "port"), [("ssh://pi@h:2222", 2222), ("ssh://[::1]:22/c", 22), ("ssh://h:065/", 65)]
)
def test_an_address_of_ssh_names_a_port(text: str, port: int) -> None:
    address = parse_address(text)
    assert address.port == port
    assert Remote(address, None, "ssh -i key")._ssh[-2:] == ["-p", str(port)]
    with pytest.raises(WrongUse, match=rf"`ssh` ssh -p2: the address names the port {port}"):
        Remote(address, None, "ssh -p2")
    assert Remote(address, None, "sshpass -p pw ssh")._ssh[-2:] == ["-p", str(port)]


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
        parse_address(text)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("text", ["", ":x", "a b", "pi@", "h:/", "h:~", "h:~bob/a", "h:a/.."])
def test_what_is_no_address_is_wrong_use(text: str) -> None:
    with pytest.raises(WrongUse, match=r"USER@HOST|of its own"):
        parse_address(text)
